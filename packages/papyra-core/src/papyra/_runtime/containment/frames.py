"""The frames of a thread: where the code of an actor begins, and whether it may be interrupted there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

if TYPE_CHECKING:
    from types import CodeType, FrameType

__all__ = [
    "RUNTIME_FOLDER",
    "actor_frame",
    "calls_actor",
    "can_interrupt",
    "holds_loop",
    "in_call_of_runtime",
    "is_ours",
    "own_frame",
    "place",
]

RUNTIME_FOLDER: Final = str(Path(__file__).parents[1])
_PROXY: Final = str(Path(__file__).parents[2] / "proxy.py")

_STDLIB: Final = (str(Path(os.__file__).parent), "<frozen ")

_Function = TypeVar("_Function")

_CALLERS: set[CodeType] = set()

FRAMEWORK: Final = frozenset(("anyio", "asyncio", "outcome", "papyra", "trio", "uvloop"))
"""Packages whose code must not be interrupted half-way: it keeps queues and flags that belong together."""


def calls_actor(function: _Function) -> _Function:
    """Mark a function that calls an actor's code, and that a `KeyboardInterrupt` there does not harm.

    Other functions of the runtime call hooks, stores, log handlers and the standard library. Half-way through
    their work nothing may be raised.
    """
    _CALLERS.add(cast("Any", function).__code__)
    return function


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


def actor_frame(frame: FrameType | None) -> FrameType | None:
    """Return the frame of `own_frame`, or None if the runtime called something other than an actor there."""
    own = own_frame(frame)
    if own is None or own.f_back is None:
        return None
    caller = own.f_back.f_code
    return own if caller in _CALLERS or caller.co_filename == _PROXY else None


def holds_loop(frame: FrameType | None) -> bool:
    """Return whether ``frame`` runs code other than the own work of the runtime or of a loop.

    What these call in the standard library, such as a wait or a log call, counts as their own work.
    """
    while frame is not None and not _is_framework(frame):
        if not _is_stdlib(frame):
            return True
        frame = frame.f_back
    return False


def in_call_of_runtime(frame: FrameType | None) -> bool:
    """Return whether ``frame`` does the runtime's work, in a call of a program or an actor.

    On trio an exception could be raised there, half-way through a change.
    """
    is_inside = False
    while frame is not None:
        package = _package(frame)
        if package == "papyra":
            is_inside = True
        elif package in FRAMEWORK:
            return False
        elif not _is_stdlib(frame):
            return is_inside
        frame = frame.f_back
    return False


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
    return _package(frame) in FRAMEWORK


def _package(frame: FrameType) -> str:
    name: object = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] if type(name) is str else ""


def _is_stdlib(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path.startswith(_STDLIB) and "site-packages" not in path
