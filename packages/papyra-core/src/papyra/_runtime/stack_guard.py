"""The check that the stack has room for a step that must not fail half-way.

A `RecursionError` may come at any call. Where a step of the runtime sets a flag and then wakes a task, such
an error in between would lose the wake-up, and an actor would wait for ever. So the room is checked first:
then the error harms the caller alone.
"""

from __future__ import annotations

import os
import sys
from typing import Final

__all__ = ["FRAMES", "SCOPE_FRAMES", "SPAWN_FRAMES", "need_frames", "need_frames_to_wake"]

FRAMES: Final = 6
"""Frames that waking a task takes."""

SCOPE_FRAMES: Final = 40
"""Frames for a cancel scope of anyio and what is called in it. An error while it is entered or left would
break the scopes around it, which are the caller's."""

SPAWN_FRAMES: Final = 14
"""Frames that starting a task takes, on either event loop and in asyncio's debug mode."""

DEBUG: Final = sys.flags.dev_mode or (not sys.flags.ignore_environment and "PYTHONASYNCIODEBUG" in os.environ)
"""Whether asyncio's debug mode was on when this module was imported. A mode that is set later is not seen."""

DEBUG_FRAMES: Final = 14 if DEBUG else 0
"""Additional frames in asyncio's debug mode, which notes the stack of each call that it schedules."""


def need_frames(frames: int = FRAMES) -> None:
    """Raise `RecursionError` now unless the stack has room for this many more frames."""
    if frames > -DEBUG_FRAMES:
        need_frames(frames - 1)


if DEBUG:

    def need_frames_to_wake() -> None:
        """Do the same as `need_frames` with `FRAMES`."""
        need_frames()

else:

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
    pass
