"""What a backend is made with, checked."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from papyra.exceptions import PersistenceError
from papyra.persistence.url import check_path
from papyra_json._fs.files import odd_kind

__all__ = ["Durability", "check_durability", "checked_path"]

Durability: TypeAlias = Literal["os", "interval", "always"]


def checked_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a store.

    What names no file is a `ValueError`, and what stands there and is no regular file a `PersistenceError`.
    """
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ValueError(f"path must name a file, but is {text!r}; write for example 'papyra.ndjson'")
    check_path(text)
    absolute = Path(text).absolute()
    odd = "a folder" if text.endswith(os.sep) else odd_kind(absolute)
    if odd is not None:
        raise PersistenceError(
            f"{absolute} is {odd}, but the facts go into a regular file; name one, as in {absolute / 'papyra.ndjson'}"
            if odd == "a folder"
            else f"{absolute} is {odd}, but the facts go into a regular file; name one, or move what is there"
        )
    return absolute


def check_durability(durability: object, fsync_interval: object) -> None:
    """Raise `ValueError` unless both are what they are documented to be."""
    if durability not in get_args(Durability):
        raise ValueError(f"durability must be one of 'os', 'interval', 'always', not {durability!r}")
    if (
        not isinstance(fsync_interval, int | float)
        or isinstance(fsync_interval, bool)
        or not 0 < fsync_interval < math.inf
    ):
        raise ValueError(f"fsync_interval must be a number of seconds above 0, not {fsync_interval!r}")
