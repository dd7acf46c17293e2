"""The check that the stack has room for a step that must not fail half-way.

A `RecursionError` may come at any call. Where a step of the runtime sets a flag and then wakes a task, such an
error in between would lose the wake-up, and an actor would wait for ever. So the room is checked first: then the
error harms the caller alone.
"""

from __future__ import annotations

__all__ = ["FRAMES", "need_frames"]

FRAMES = 6
"""Frames that waking a task takes."""


def need_frames(frames: int = FRAMES) -> None:
    """Raise `RecursionError` now unless the stack has room for so many more frames."""
    if frames:
        need_frames(frames - 1)
