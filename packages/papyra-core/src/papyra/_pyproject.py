"""The table ``[tool.papyra]`` of the project that a folder belongs to."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import cast
from urllib.parse import quote

__all__ = ["read_project"]


def read_project(folder: str | os.PathLike[str]) -> tuple[str, dict[str, object]]:
    """Return the file that has the table, and its content; it is empty if there is none.

    It is that of the nearest ``pyproject.toml``, upwards from ``folder``. A relative path in a backend URL is
    read from the folder of that file. One that can't be read is an `OSError` or a `ValueError` that names it.
    """
    start = Path(folder).absolute()
    for above in (start, *start.parents):
        file = above / "pyproject.toml"
        if file.is_file():
            return f"[tool.papyra] of {file}", _table(file)
    return "[tool.papyra]", {}


def _table(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as stream:
            content: dict[str, object] = tomllib.load(stream)
    except ValueError as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from error
    table = _below(_below(content, "tool"), "papyra")
    url = table.get("persistence")
    return {**table, "persistence": _anchored(url, file.parent)} if isinstance(url, str) else table


def _below(table: dict[str, object], key: str) -> dict[str, object]:
    value = table.get(key)
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _anchored(url: str, folder: Path) -> str:
    """Return the URL with a relative path read from ``folder``."""
    scheme, colon, rest = url.partition(":")
    if not colon or not rest or rest.startswith(("?", "/")):
        return url
    if rest.startswith(("./", "../")) or _is_in_files(scheme):
        return f"{scheme}:{quote(os.fsencode(folder))}/{rest}"
    return url


def _is_in_files(scheme: str) -> bool:
    # Here and not above: a program that asks for no project must not load backends.
    from papyra.exceptions import PapyraError
    from papyra.persistence.registry import backend_class

    try:
        return backend_class(scheme).in_files
    except PapyraError:  # unknown or broken: opening the store reports it
        return False
