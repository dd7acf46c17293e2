"""Timers on a clock that can be replaced.

One heap and one task for all of them: a timer that is not the next one costs a push, where a task or a
cancel scope each would cost 20 times that.
"""

from __future__ import annotations

import heapq
import math
from itertools import count
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime._eventloop import Loop, Waiter

__all__ = ["DrivenClock", "Timer", "Timers"]


@runtime_checkable
class DrivenClock(Protocol):
    """A ``time_fn`` that also drives the timers, instead of real time; see `papyra.testing.ManualClock`."""

    def __call__(self) -> float: ...
    def attach(self, advanced: Callable[[], None]) -> None:
        """Call ``advanced`` whenever time has moved on."""
        ...

    def detach(self, advanced: Callable[[], None]) -> None:
        """Call it no more."""
        ...


class Timer:
    """A call to come; `cancel` forgets it."""

    __slots__ = ("call", "timers")

    def __init__(self, timers: Timers, call: Callable[[], object]) -> None:
        self.timers = timers
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Forget the call, if it has not been made."""
        if self.call is not None:
            self.call = None
            self.timers.forget_one()


class Timers:
    """Calls at later times, in seconds of the event loop's clock, or of a driven one."""

    def __init__(self, loop: Loop, clock: Callable[[], float] | None) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._cancelled = 0
        self._waiter: Waiter | None = None
        self._running = False
        self._closed = False
        self._clock = clock if isinstance(clock, DrivenClock) else None
        self._now: Callable[[], float] = self._clock or loop.time
        if self._clock is not None:
            self._clock.attach(self.fire)

    def after(self, delay: float, call: Callable[[], object]) -> Timer:
        """Make ``call`` after ``delay`` seconds; it must not raise."""
        if math.isnan(delay) or delay < 0:
            raise ValueError(f"a time-out must not be negative, but is {delay!r}")
        timer = Timer(self, call)
        when = self._now() + delay
        earliest = not self._heap or when < self._heap[0][0]
        heapq.heappush(self._heap, (when, next(self._order), timer))
        if (earliest or not self._running) and self._clock is None:
            self._rouse()
        elif self._clock is not None and delay == 0:
            self.fire()  # due already: a clock that stands still must not hold it up
        return timer

    def fire(self) -> None:
        """Make every call whose time has come."""
        now = self._now()
        heap = self._heap
        while heap and heap[0][0] <= now:
            timer = heapq.heappop(heap)[2]
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled -= 1
            else:
                call()

    def forget_one(self) -> None:
        """Count a cancelled timer, and clear them out when they are the most."""
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """End the task; no call is made any more."""
        self._closed = True
        self._heap.clear()
        if self._clock is not None:
            self._clock.detach(self.fire)
        self._rouse()

    def resume(self) -> None:
        """Go on, should the task have been cancelled with calls still to make."""
        if self._heap:
            self._rouse()

    def _rouse(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif not self._running and not self._closed:
            self._running = True
            self._loop.spawn(self._run, lambda: "papyra timers")

    async def _run(self) -> None:
        try:
            while not self._closed:
                self.fire()
                delay = self._heap[0][0] - self._now() if self._heap else math.inf
                if delay > 0:
                    self._waiter = self._loop.waiter()
                    with anyio.move_on_after(None if delay == math.inf else delay):
                        await self._waiter
                    self._waiter = None
        finally:
            self._running = False
            if self._loop.has_strays and not self._loop.ending():
                self.resume()  # somebody cancelled this task, as on asyncio anybody can
