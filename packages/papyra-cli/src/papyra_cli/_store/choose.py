"""Which store a command works on, and the URL that opens it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import click

from papyra.exceptions import PapyraError
from papyra.persistence.registry import backend_class, recognize
from papyra.persistence.url import BackendURL
from papyra_cli._errors import Failure
from papyra_cli._store.settings import complaint, found_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Store", "choose_store", "configured_store", "masked", "store_at"]

_WAYS = (
    "give --path FILE or --backend URL, or set PAPYRA_PERSISTENCE, "
    "persistence in [tool.papyra] of pyproject.toml, or PAPYRA_SETTINGS_MODULE"
)


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
        """Return the file that the store would be in, if its backend keeps files and this one does not exist."""
        try:
            parsed = BackendURL.parse(self.url)
            backend = backend_class(parsed.scheme)
            if not backend.in_files or not parsed.path or _is_there(parsed.path):
                return None
            return None if backend.recognizes(parsed.path) else Path(parsed.path).absolute()
        except (PapyraError, OSError):  # opening the store reports it
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


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


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
    """Return the store in a file, as the installed backend that recognizes it names it; else raise `Failure`."""
    try:
        url = recognize(path)
    except PapyraError as error:
        raise Failure(str(error)) from error
    if url is not None:
        return Store(url, "--path")
    if not os.path.lexists(path):
        raise Failure(f"there is no file {path}; check --path (the current folder is {Path.cwd()})")
    raise Failure(
        f"no installed backend recognizes {path} as a store. Check --path, or give --backend URL; "
        "'papyra plugins' lists the backends"
    )


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
