"""Choose the store that a command works on, and the URL that opens it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import click

from papyra.exceptions import PapyraError
from papyra.persistence.registry import backend_class, recognize
from papyra.persistence.url import BackendURL, check_path, file_url, masked
from papyra_cli._errors import Failure
from papyra_cli._store.settings import complaint, found_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Store", "choose_store", "configured_store", "named_store", "new_store", "store_at"]

_URL = re.compile(r"[a-z][a-z0-9+.-]*:")

_WAYS = (
    "give --path FILE or --backend URL, or set PAPYRA_PERSISTENCE, "
    "persistence in [tool.papyra] of pyproject.toml, or PAPYRA_SETTINGS_MODULE"
)


@dataclass(frozen=True, slots=True)
class Store:
    """A backend URL and its origin, as in ``PAPYRA_PERSISTENCE``."""

    url: str
    origin: str
    is_noted: bool = True
    """Whether to print a note if its file does not exist; False for a file that the command makes."""
    wait: float | None = None
    """The seconds to wait for a lock that another process holds, None for any time."""

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return masked(self.url)

    @property
    def is_in_files(self) -> bool:
        """Whether the path of the URL names a file."""
        try:
            return backend_class(BackendURL.parse(self.url).scheme).in_files
        except PapyraError:  # opening the store reports it
            return False

    def missing_file(self) -> Path | None:
        """Return the file of the store if its backend keeps files and the file does not exist."""
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
        return replace(self, url=f"{base}?{urlencode(merged)}")


def _written(value: object) -> str:
    """Return an option's value as URLs hold it: numbers without an exponent."""
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def choose_store(path: str | None, backend: str | None) -> Store:
    """Return the store that the options name, or else the configured one.

    Both options, or neither a store nor a configuration, is a usage error. A configuration that can't be
    read, and a ``path`` that does not exist, is a `Failure`.
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
    """Return the store in a file, as the installed backend that recognizes it names it.

    Else raise `Failure`.
    """
    was_there = os.path.lexists(path)  # asked first: an application may be about to create it
    try:
        url = recognize(path)
    except PapyraError as error:
        raise Failure(str(error)) from error
    if url is not None:
        return Store(url, "--path")
    if not was_there:
        raise Failure(f"there is no file {path}; check --path (the current folder is {Path.cwd()})")
    raise Failure(
        f"no installed backend recognizes {path} as a store. Check --path, or give --backend URL; "
        "'papyra plugins' lists the backends, and pip install papyra-json brings those for NDJSON files"
    )


def named_store(text: str, origin: str) -> Store:
    """Return the store that an argument names: a URL, or else the path of a file."""
    _check(text, origin)
    return Store(text, origin) if _URL.match(text) else store_at(text)


def new_store(text: str, origin: str, like: Store) -> Store:
    """Return the store that an argument names.

    A file that does not exist gets the scheme of ``like`` and its options, except those of retention. Files
    of another scheme, and stores that are not in files, need a URL.
    """
    _check(text, origin)
    if _URL.match(text):
        return Store(text, origin, is_noted=False)
    if _is_there(text):
        return store_at(text)
    url = BackendURL.parse(like.url)
    backend = backend_class(url.scheme)
    if not backend.in_files:
        raise click.UsageError(
            f"{origin} {text} is a file, and the other store is not: give a URL, as in json:{text}",
            _context(),
        )
    own = {name: value for name, value in url.options.items() if name in backend.url_options}
    return Store(file_url(url.scheme, text, **own), origin, is_noted=False)


def _check(text: str, origin: str) -> None:
    try:
        check_path(text)
    except ValueError as error:
        raise click.UsageError(f"{origin} {text!r}: {error}", _context()) from error


def configured_store() -> Store | None:
    """Return the store that the environment or a file configures; None if neither does."""
    for setting in found_settings():
        if setting.origin == "default":
            return None
        if setting.error is not None and setting.name in ("", "persistence"):
            raise Failure(f"{complaint(setting)}; correct it, or give --path or --backend") from setting.error
        if setting.name == "persistence":
            return Store(str(setting.value), setting.origin)
    return None


def _misspelt() -> str:
    """Return a hint at misspelled names that look as if they were to configure a store."""
    odd = [setting for setting in found_settings() if "did you mean" in str(setting.error)]
    return "".join(
        f"; {setting.name} ({setting.origin}) is {setting.error}"
        for setting in odd
        if "persistence" in str(setting.error).lower()
    )


def _context() -> click.Context | None:
    return click.get_current_context(silent=True)
