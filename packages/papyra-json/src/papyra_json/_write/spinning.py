"""Spin for some microseconds before a thread waits for another one.

Who appends one record, awaits it and appends the next pays for two wake-ups at each, of the writing thread and of the
loop, and where the cores have gone to sleep these take longer than the append. So both threads keep their cores busy
for as long as the other one usually takes, without the interpreter's lock, which the other one needs; what takes
longer is waited for as ever. To spin for no longer than what it saves is known as competitive spinning (Karlin, Li,
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

__all__ = ["LIMIT", "Spinner", "calibrate"]

LIMIT = 0.0001
"""Seconds of spinning at most, at a time. (A worker of the runtime lets its loop go round every 0.5 ms.)"""

_SPINS = 50  # in a row; the next caller awaits its answer, and sees whether the loop has other work
_IDLE = 0.55  # of that time, at most, the thread of a loop without other work does something
_BUSY = 0.00004  # seconds that a pass of a loop without other work does not take
_RECENT = 0.0003  # seconds within which a caller that appends one record after the other comes back
_SECOND = 0.00003  # seconds of a second try
_STEP = 0.0000002  # seconds by which the first try is cut if it was enough, or stretched nine times if not

_BLOCK = bytes(2**19)
_LEAST = 6 * 2**10  # bytes of which zlib makes a checksum without the interpreter's lock


class Spin:
    """A wait that keeps the core busy, for as long as what is waited for usually takes."""

    def __init__(self) -> None:
        self.usual = LIMIT / 2  # seconds within which it comes nine times of ten

    def pays(self) -> bool:
        """Tell whether it comes soon enough."""
        return self.usual < LIMIT

    def until(self, came: Callable[[], bool], passed: float = 0.0) -> bool:
        """Spin until ``came()``, but not for long; return what it said last. ``passed`` are seconds waited already."""
        # Not in many small steps: each look takes the interpreter's lock from the thread that is to answer.
        _burn(self.usual - passed)
        if came():
            self.learn(0.0)
            return True
        left = LIMIT - self.usual
        self.learn(LIMIT)
        _burn(min(_SECOND, left))
        return came()

    def learn(self, seconds: float) -> None:
        """Take note of how long it took."""
        change = -_STEP if seconds < self.usual else 9 * _STEP  # in balance at the ninth decile
        self.usual = min(LIMIT, max(0.0, self.usual + change))


class Spinner:
    """Decides for the callers of one thread who spins."""

    def __init__(self) -> None:
        self._several = _cores() > 1  # else what is waited for could not run
        self._left = 0  # spins
        self._task: int | None = None  # that was answered last
        self._at = 0.0  # when that was
        self._answer = Spin()
        self.question = Spin()
        """For the thread that answers: what it may wait with, if its last caller has spun."""

    def suits(self, task: object) -> bool:
        """Tell whether it pays that a task spins, and harms nobody."""
        return (
            self._left > 0
            and self._task == id(task)
            and self._answer.pays()
            and monotonic() - self._at < _RECENT
        )

    def spin(self, answered: Callable[[], bool], passed: float) -> bool:
        """Spin until ``answered()``, but not for long; return what it said last.

        ``passed`` are the seconds of the loop's last pass. If they are many, it has other work, which does not wait.
        """
        self._left -= 1
        if passed > _BUSY:
            self._left = 0
            return answered()
        began = monotonic()
        found = self._answer.until(answered, passed)
        self._at = monotonic()
        if self._at - began > 3 * LIMIT:
            self._left = 0  # other threads compute: the looks took longer than the spinning
        return found

    def waited(self, task: object, seconds: float, busy: float) -> None:
        """Take note of a task that awaited its answer, and for how long.

        ``busy`` is the part of that time in which the loop's thread did something.
        """
        alone = self._task == id(task)
        self._left = _SPINS if self._several and alone and busy < _IDLE else 0
        self._task, self._at = id(task), monotonic()
        self._answer.learn(seconds)


def calibrate() -> None:
    """Find out how fast this machine spins; 0.1 ms, not to be spent in a loop's thread."""
    _speed()


def _burn(seconds: float) -> None:
    """Keep the core busy, without the interpreter's lock."""
    crc32(memoryview(_BLOCK)[: max(_LEAST, int(seconds * _speed()))])


@cache
def _speed() -> float:
    """Return of how many bytes a second a checksum is made."""
    piece = memoryview(_BLOCK)[: 2**16]
    best = 1.0
    for _ in range(5):
        began = monotonic()
        crc32(piece)
        best = min(best, monotonic() - began)
    return len(piece) / max(best, 0.000001)  # a clock may be coarse, or stand still


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
