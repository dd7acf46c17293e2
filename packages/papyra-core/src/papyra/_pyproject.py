"""The table ``[tool.papyra]`` of the project that a folder belongs to."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import cast
from urllib.parse import quote

__all__ = ["read_project"]

_FILE_SCHEMES = (
    "json",
    "rotating",
    "sqlite",
)  # whose path is a file's, so that it can be relative to another


def read_project(folder: str | os.PathLike[str]) -> tuple[str, dict[str, object]]:
    """Return where the table stands and what is in it; it is empty if there is none.

    It is that of the nearest ``pyproject.toml``, upwards from ``folder``. A relative path in a backend URL is read
    from the folder of that file. One that can't be read is an `OSError` or a `ValueError` that names it.
    """
    here = Path(folder).absolute()
    for above in (here, *here.parents):
        file = above / "pyproject.toml"
        if file.is_file():
            return f"[tool.papyra] of {file}", _table(file)
    return "[tool.papyra]", {}


def _table(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as stream:
            content: dict[str, object] = tomllib.load(stream)
    except ValueError as error:
        raise ValueError(f"{file} is no valid TOML: {error}") from error
    table = _below(_below(content, "tool"), "papyra")
    url = table.get("persistence")
    return {**table, "persistence": _anchored(url, file.parent)} if isinstance(url, str) else table


def _below(table: dict[str, object], key: str) -> dict[str, object]:
    value = table.get(key)
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _anchored(url: str, folder: Path) -> str:
    scheme, colon, rest = url.partition(":")
    relative = rest.startswith(("./", "../")) or (scheme in _FILE_SCHEMES and not rest.startswith("/"))
    if not colon or not rest or rest.startswith("?") or not relative:
        return url
    return f"{scheme}:{quote(os.fsencode(folder))}/{rest}"
