"""The check that the stack has room for a step that must not fail half-way.

A `RecursionError` may come at any call. Where a step of the runtime sets a flag and then wakes a task, such
an error in between would lose the wake-up, and an actor would wait for ever. So the room is checked first:
then the error harms the caller alone.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "FRAMES",
    "SCOPE_FRAMES",
    "SPAWN_FRAMES",
    "expect_debug_mode",
    "need_frames",
    "need_frames_to_wake",
]

FRAMES: Final = 6
"""Frames that waking a task takes."""

SCOPE_FRAMES: Final = 40
"""Frames for a cancel scope of anyio and what is called in it. An error while it is entered or left would
break the scopes around it, which are the caller's."""

SPAWN_FRAMES: Final = 14
"""Frames that starting a task takes, on either event loop and in asyncio's debug mode."""

_debug_frames = 0


def expect_debug_mode() -> None:
    """Ask for more room from now on: asyncio's debug mode notes the stack of each call that it schedules."""
    global _debug_frames
    _debug_frames = 14


def need_frames(frames: int = FRAMES) -> None:
    """Raise `RecursionError` now unless the stack has room for this many more frames."""
    if frames > -_debug_frames:
        need_frames(frames - 1)


def need_frames_to_wake() -> None:
    """Do the same as `need_frames` with `FRAMES`, in 60 % of the time: every ask wakes a task."""
    _four()


def _four() -> None:
    _three()


def _three() -> None:
    _two()


def _two() -> None:
    _one()


def _one() -> None:
    _none()


def _none() -> None:
    if _debug_frames:
        need_frames(0)
