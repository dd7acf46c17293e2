"""Look for an answer for some microseconds before the event loop goes on: spin, then wait.

Who appends one record, awaits it and appends the next pays for two wake-ups at each, of the writing thread and of the
loop, and where the cores have gone to sleep these take longer than the append. So the loop's thread keeps its core
busy for as long as an append takes, without the interpreter's lock, which the writing thread needs; what takes
longer is awaited as ever. To spin for no longer than what it saves is known as competitive spinning (Karlin, Li,
Manasse and Owicki, 1991). `docs/design/files.md` has the figures.
"""

from __future__ import annotations

import os
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIMIT", "Spinner"]

LIMIT = 0.0001
"""Seconds that a loop is held at most. An actor's turn may take twenty times as long."""

_RECENT = 0.0003  # seconds within which a caller that appends one record after the other comes back
_BUSY = 0.00004  # seconds that a loop's pass takes if there is other work to do
_SECOND = 0.00003  # seconds of a second try
_STEP = (
    0.0000002  # seconds by which the first try is cut if it was enough; it is stretched by nine times as much
)

_BLOCK = bytes(2**19)
_LEAST = 6 * 2**10  # bytes of which zlib makes a checksum without the interpreter's lock


class Spinner:
    """Decides for the callers of one thread who spins, and how long."""

    def __init__(self) -> None:
        self._several = _cores() > 1  # else what is waited for could not run
        self._task: int | None = None  # that was answered last
        self._at = 0.0  # when that was
        self._usual = LIMIT / 2  # seconds within which nine of ten answers come

    def suits(self, task: object) -> bool:
        """Tell whether a task comes back so soon, and answers come so soon, that it pays to spin."""
        return (
            self._task == id(task)
            and self._several
            and self._usual < LIMIT
            and monotonic() - self._at < _RECENT
        )

    def spin(self, answered: Callable[[], bool], passed: float) -> bool:
        """Spin until ``answered`` is true, but not for long; return what it is.

        ``passed`` are the seconds since the question was asked. If they are many, the loop has other work, which
        does not wait.
        """
        if passed > _BUSY:
            return answered()
        # Not in many small steps: each look takes the interpreter's lock from the thread that is to answer.
        _burn(self._usual - passed)
        if answered():
            return True
        _burn(min(_SECOND, LIMIT - self._usual))
        return answered()

    def learn(self, task: object, seconds: float) -> None:
        """Take note of a task that was answered, and of how long that took."""
        self._task, self._at = id(task), monotonic()
        change = -_STEP if seconds < self._usual else 9 * _STEP  # in balance at the ninth decile
        self._usual = min(LIMIT, max(0.0, self._usual + change))


def _burn(seconds: float) -> None:
    """Keep the core busy, without the interpreter's lock."""
    crc32(memoryview(_BLOCK)[: max(_LEAST, int(seconds * _speed()))])


@cache
def _speed() -> float:
    """Return of how many bytes a second a checksum is made."""
    best = 1.0
    for _ in range(3):
        began = monotonic()
        crc32(_BLOCK)
        best = min(best, monotonic() - began)
    return len(_BLOCK) / best


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
