"""Which store a command works on, and the URL that opens it."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, quote, urlencode

import click

from papyra.persistence.url import BackendURL
from papyra_cli._failure import Failure, say
from papyra_cli._rotation import find_siblings
from papyra_cli._settings import settings_values

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SOURCES", "Store", "choose_store", "configured_store", "store_at"]

_WAYS = (
    "give --path FILE or --backend URL, or set PAPYRA_PERSISTENCE, "
    "persistence in [tool.papyra] of pyproject.toml, or PAPYRA_SETTINGS_MODULE"
)
_DEFAULT_MAX_FILES = 5
_FILE_SCHEMES = ("json", "rotating", "sqlite")  # whose path is a file's, so that it can be relative to one


@dataclass(frozen=True, slots=True)
class Store:
    """A backend URL and where it came from, as in ``PAPYRA_PERSISTENCE``."""

    url: str
    origin: str

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        masked = re.sub(r"(//[^/@:?]*):[^/@?]*@", r"\1:***@", self.url)
        return re.sub(
            r"([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*", r"\1***", masked, flags=re.IGNORECASE
        )

    def missing_file(self) -> Path | None:
        """Return the file that the store would be in, if it is a store in a file and the file is not there."""
        scheme, _, rest = self.url.partition(":")
        if scheme not in _FILE_SCHEMES or not rest.partition("?")[0]:
            return None
        path = BackendURL.parse(self.url).path
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            rotated = scheme == "rotating" and find_siblings(path).numbers
            return None if rotated else Path(path).absolute()
        except OSError:  # nothing known
            return None
        return None

    def with_options(self, options: Mapping[str, object]) -> Store:
        """Return the same store with some options of its URL replaced or added."""
        if not options:
            return self
        base, _, query = self.url.partition("?")
        merged = dict(parse_qsl(query, keep_blank_values=True)) | {k: _written(v) for k, v in options.items()}
        return Store(f"{base}?{urlencode(merged)}", self.origin)


def _written(value: object) -> str:
    """Write an option's value as URLs have it: numbers without an exponent."""
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)


def choose_store(path: str | None, backend: str | None) -> Store:
    """Return the store that the options name, else the one that is configured.

    Both options, or no store anywhere, is a usage error; what is configured but can't be read, or a ``path``
    that does not exist, is a `Failure`.
    """
    if path is not None and backend is not None:
        raise click.UsageError("--path and --backend name two stores; give one of them", _context())
    if path is not None:
        return store_at(path)
    if backend is not None:
        return Store(backend, "--backend")
    store = configured_store()
    if store is None:
        raise click.UsageError(f"no store to work on: {_WAYS}", _context())
    return store


def store_at(path: str) -> Store:
    """Return the store in a file, rotating if its rotations (``FILE.1``, ...) stand beside it.

    What is only named like a rotation is left alone, and a note on stderr says so.
    """
    numbers, misfit = find_siblings(path)
    if (misfit or not numbers) and not os.path.lexists(path):
        reason = f"; what is numbered beside it is no rotated set: {misfit}" if misfit else ""
        raise Failure(f"there is no file {path}; check --path (the current folder is {Path.cwd()}){reason}")
    try:
        location = quote(path if not path.startswith("//") else "/" + path.lstrip("/"))
    except UnicodeEncodeError as error:
        # Its URL would name another file: percent-decoding replaces what is not UTF-8.
        raise Failure(
            f"the name {path} is not UTF-8, and no backend URL can hold it; rename the file"
        ) from error
    if misfit:
        names = ", ".join(f"{path}.{number}" for number in numbers)
        say(
            "note",
            f"left alone, as no rotations of {path}: {names} ({misfit}); "
            f"if they are, give --backend rotating:{location}",
        )
    if misfit or not numbers:
        return Store(f"json:{location}", "--path")
    # A set that was written with a larger max_files than the default must not lose files to this command.
    files = len(numbers) + 1
    options = {"max_files": files} if files > _DEFAULT_MAX_FILES else {}
    return Store(f"rotating:{location}", "--path").with_options(options)


def configured_store() -> Store | None:
    """Return the store that the environment or a file configures; None if neither does."""
    for look in SOURCES.values():
        store = look()
        if store is not None:
            return store
    return None


def _from_environment() -> Store | None:
    url = os.environ.get("PAPYRA_PERSISTENCE", "").strip()
    return Store(url, "PAPYRA_PERSISTENCE") if url else None


def _from_pyproject() -> Store | None:
    file = _nearest_pyproject()
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            tool: object = tomllib.load(stream).get("tool")
    except (OSError, ValueError) as error:
        raise Failure(f"can't read {file}: {error}; mend it, or give --path or --backend") from error
    url = _entry(_entry(tool, "papyra"), "persistence")
    if url is None:
        return None
    if not isinstance(url, str):
        raise Failure(f"persistence in [tool.papyra] of {file} must be a backend URL, not {url!r}")
    return Store(_anchored(url, file.parent), f"[tool.papyra] of {file}")


def _entry(table: object, key: str) -> object:
    return cast("dict[str, object]", table).get(key) if isinstance(table, dict) else None


def _nearest_pyproject() -> Path | None:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file():
            return folder / "pyproject.toml"
    return None


def _anchored(url: str, folder: Path) -> str:
    """Read a relative path in a pyproject.toml from the folder of that file, wherever the command runs."""
    scheme, colon, rest = url.partition(":")
    relative = rest.startswith(("./", "../")) or (scheme in _FILE_SCHEMES and not rest.startswith("/"))
    if not colon or not rest or rest.startswith("?") or not relative:
        return url
    return f"{scheme}:{quote(os.fsencode(folder))}/{rest}"


def _from_settings() -> Store | None:
    if not os.environ.get("PAPYRA_SETTINGS_MODULE"):
        return None
    values, origin = settings_values()
    url = values.get("persistence")
    return Store(str(url), origin) if url else None


SOURCES = {
    "PAPYRA_PERSISTENCE": _from_environment,
    "[tool.papyra]": _from_pyproject,
    "PAPYRA_SETTINGS_MODULE": _from_settings,
}
"""Where a store may be configured, what goes first first."""


def _context() -> click.Context | None:
    return click.get_current_context(silent=True)
