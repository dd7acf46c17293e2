"""Which store a command works on, and the URL that opens it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

import click

from papyra.persistence.url import BackendURL
from papyra_cli._errors import Failure, say
from papyra_cli._exit_codes import ExitCode
from papyra_cli._store.rotation import find_siblings, start_of
from papyra_cli._store.settings import complaint, found_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Store", "choose_store", "configured_store", "masked", "store_at"]

_WAYS = (
    "give --path FILE or --backend URL, or set PAPYRA_PERSISTENCE, "
    "persistence in [tool.papyra] of pyproject.toml, or PAPYRA_SETTINGS_MODULE"
)
_DEFAULT_MAX_FILES = 5
_SQLITE = b"SQLite format 3\0"  # with what a database begins
_FILE_SCHEMES = ("json", "rotating", "sqlite")  # whose path is a file's, so that it can be relative to one


@dataclass(frozen=True, slots=True)
class Store:
    """A backend URL and where it came from, as in ``PAPYRA_PERSISTENCE``."""

    url: str
    origin: str

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return masked(self.url)

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
        raise click.UsageError(f"no store to work on: {_WAYS}{_misspelt()}", _context())
    return store


def store_at(path: str) -> Store:
    """Return the store in a file, rotating if its rotations (``FILE.1``, ``FILE.2.gz``, ...) stand beside it.

    What is only named like a rotation is left alone, and a note on stderr says so. An SQLite database is a `Failure`.
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
    # As lines it is all damage, and a recovery would take them out.
    if start_of(path, len(_SQLITE)) == _SQLITE:
        raise Failure(f"{path} is an SQLite database; give --backend sqlite:{location}", ExitCode.USAGE)
    if misfit:
        names = ", ".join(numbers.values())
        say(
            "note",
            f"left alone, as no rotations of {path}: {names} ({misfit}); "
            f"if they are, give --backend rotating:{location}",
        )
    if misfit or not numbers:
        return Store(f"json:{location}", "--path")
    # A set that was written with a larger max_files than the default must not lose files to this command.
    files = max(numbers) + 1
    options = {"max_files": files} if files > _DEFAULT_MAX_FILES else {}
    return Store(f"rotating:{location}", "--path").with_options(options)


def configured_store() -> Store | None:
    """Return the store that the environment or a file configures; None if neither does."""
    for setting in found_settings():
        if setting.origin == "default":
            return None
        if setting.error is not None and setting.name in ("", "persistence"):
            raise Failure(f"{complaint(setting)}; mend it, or give --path or --backend") from setting.error
        if setting.name == "persistence":
            return Store(str(setting.value), setting.origin)
    return None


def masked(text: str) -> str:
    """Return a URL, or any other text, without the secrets that URLs have."""
    text = re.sub(r"(//[^/@:?]*):[^/@?]*@", r"\1:***@", text)
    return re.sub(r"([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*", r"\1***", text, flags=re.IGNORECASE)


def _misspelt() -> str:
    """Name what looks as if it was to configure a store."""
    odd = [setting for setting in found_settings() if "did you mean" in str(setting.error)]
    return "".join(
        f"; {setting.name} ({setting.origin}) is {setting.error}"
        for setting in odd
        if "persistence" in str(setting.error).lower()
    )


def _context() -> click.Context | None:
    return click.get_current_context(silent=True)
