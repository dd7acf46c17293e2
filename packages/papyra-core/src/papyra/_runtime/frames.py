"""The frames of a thread: where the code of an actor begins, and whether it may be interrupted there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["RUNTIME_FOLDER", "can_interrupt", "is_ours", "own_frame", "place"]

RUNTIME_FOLDER: Final = str(Path(__file__).parent)
_PROXY: Final = str(Path(__file__).parent.parent / "proxy.py")

FRAMEWORK: Final = frozenset(("anyio", "asyncio", "outcome", "papyra", "trio", "uvloop"))
"""Packages whose code must not be interrupted half-way: it keeps queues and flags that belong together."""


def is_ours(path: str) -> bool:
    """Return whether a file is the runtime's, or the one with the calls of proxies."""
    return path.startswith(RUNTIME_FOLDER) or path == _PROXY


def own_frame(frame: FrameType | None) -> FrameType | None:
    """Return the outermost frame of an actor's own code in a stack: the one that the runtime has called."""
    own: FrameType | None = None
    inner: FrameType | None = None
    while frame is not None:  # from the inside out
        if inner is not None and is_ours(frame.f_code.co_filename) and not _is_framework(inner):
            own = inner
        inner, frame = frame, frame.f_back
    return own


def can_interrupt(frame: FrameType | None, own: FrameType) -> bool:
    """Return whether no code of the runtime or a loop is between ``frame`` and the ``own`` one."""
    while frame is not None and frame is not own:
        if _is_framework(frame):
            return False
        frame = frame.f_back
    return True


def place(frame: FrameType | None) -> str:
    """Name the place of a frame, as in ``Importer.receive feed.py:41``."""
    if frame is None:
        return ""
    name = frame.f_code.co_qualname.rpartition("<locals>.")[2]
    return f"{name} {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _is_framework(frame: FrameType) -> bool:
    name: object = frame.f_globals.get("__name__", "")
    return type(name) is str and name.partition(".")[0] in FRAMEWORK
