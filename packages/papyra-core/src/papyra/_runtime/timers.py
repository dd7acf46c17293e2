"""Timers on a clock that can be replaced.

One heap and one task serve all timers: a timer that is not the next one costs a push, where a task or a
cancel scope for each timer would cost 20 times as much.

Cancelled timers stay in the heap until they make up half of it. Then the heap is retired: a new one takes its
place, and each later call moves four leaves of the retired heap. So no call ever walks over all timers,
however many there are: with a million of them that would stop the event loop for half a second.
"""

from __future__ import annotations

import heapq
import math
from itertools import count
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import anyio

from papyra._runtime.containment.stack_guard import need_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime._eventloop import Loop, Waiter
    from papyra._runtime.process.clock import Clock

    Entry: TypeAlias = "tuple[float, int, Timer]"

__all__ = ["DrivenClock", "Timer", "Timers"]

MOVED_LEAVES = 4
"""Entries of a retired heap that each call moves. Two would do to empty it before the next one is retired."""

MIN_DEAD_ENTRIES = 64
"""A heap with fewer cancelled timers is not worth retiring."""

CALLS_AT_ONCE = 1_000
"""Due timers served before the event loop goes round once."""


@runtime_checkable
class DrivenClock(Protocol):
    """A ``time_fn`` that also drives the timers, instead of real time; see `papyra.testing.ManualClock`."""

    def __call__(self) -> float: ...
    def attach(self, advanced: Callable[[], None]) -> None:
        """Call ``advanced`` whenever time has moved on."""
        ...

    def detach(self, advanced: Callable[[], None]) -> None:
        """Stop calling ``advanced``."""
        ...


class Timer:
    """A call at a later time; `cancel` forgets it.

    ``when`` is the time, or None while the timer is not set. ``entry`` is the timer's entry in the heap. It
    may be an earlier one than ``when`` says: a timer that is set again to a later time keeps its entry, and
    moves only when that entry comes up.
    """

    __slots__ = ("call", "entry", "order", "timers", "when")

    def __init__(self, timers: Timers, call: Callable[[], object] | None = None) -> None:
        self.timers = timers
        self.call = call
        self.when: float | None = None
        self.order = 0
        self.entry: Entry | None = None

    def ring(self) -> None:
        """Do what is due. Must not raise."""
        call, self.call = self.call, None
        if call is not None:
            call()

    def cancel(self) -> None:
        """Forget the call, if it has not been made."""
        self.call = None
        if self.when is not None:
            self.when = None
            self.timers.forget_one()


class Timers:
    """Calls at later times, in seconds of the event loop's clock, or of a driven one."""

    def __init__(self, loop: Loop, clock: Clock | None) -> None:
        self._loop = loop
        self._heap: list[Entry] = []
        self._retired: list[Entry] = []
        self._dead = 0  # entries of both heaps whose timer was cancelled, or has another entry
        self._order = count(1)
        self._waiter: Waiter | None = None
        self._running = False
        self._closed = False
        self._clock = clock if clock is not None and clock.driven is not None else None
        self.now: Callable[[], float] = loop.time if self._clock is None else self._clock
        if self._clock is not None:
            self._clock.attach(self.fire)

    def __len__(self) -> int:
        return len(self._heap) + len(self._retired)

    def after(self, delay: float, call: Callable[[], object]) -> Timer:
        """Make ``call`` after ``delay`` seconds; it must not raise."""
        if math.isnan(delay) or delay < 0:
            raise ValueError(f"a time-out must not be negative, but is {delay!r}")
        timer = Timer(self, call)
        self.set(timer, self.now() + delay)
        return timer

    def set(self, timer: Timer, when: float) -> None:
        """Have ``timer`` ring at ``when``, whether or not it is set already.

        A later time than before costs O(1).
        """
        entry, set_before = timer.entry, timer.when is not None
        timer.when = when
        timer.order = next(self._order)
        if entry is not None and entry[0] <= when:
            self._dead -= not set_before
            return
        if entry is not None:
            self._dead += set_before  # if it was cancelled, its entry is counted already
        earliest = when < self._next()
        self._push(timer, when)
        if self._retired:
            self._tidy()
        if self._clock is None:
            if earliest or not self._running:
                self._rouse()
        elif when <= self.now():
            self.fire()  # due already: a clock that does not advance must not hold it up

    def fire(self, most: int | None = None) -> None:
        """Serve the timers whose time has come, in order; at most ``most`` of them."""
        now = self.now()
        served = 0
        while served != most and self._next() <= now:
            heap = self._heap
            if self._retired and (not heap or self._retired[0] < heap[0]):
                heap = self._retired
            entry = heapq.heappop(heap)
            timer = entry[2]
            served += 1
            if self._is_dead(entry):
                continue
            timer.entry = None
            if timer.order != entry[1]:  # set again to a later time
                assert timer.when is not None  # noqa: S101 - else its entry is dead
                self._push(timer, timer.when)
            else:
                timer.when = None
                timer.ring()
            if self._retired:
                self._tidy()

    def forget_one(self) -> None:
        """Count a cancelled timer, and retire the heap when most of its timers are cancelled."""
        self._dead += 1
        if self._dead > MIN_DEAD_ENTRIES and not self._retired and self._dead * 2 > len(self._heap):
            self._heap, self._retired = [], self._heap
        if self._retired:
            self._tidy()

    def close(self) -> None:
        """End the task; no call is made any more."""
        self._closed = True
        self._heap.clear()
        self._retired.clear()
        if self._clock is not None:
            self._clock.detach(self.fire)
        self._rouse()

    def resume(self) -> None:
        """Go on, should the task have been cancelled with calls still to make."""
        if self._heap or self._retired:
            self._rouse()

    def _next(self) -> float:
        """Return the time of the first entry, infinity if there is none."""
        first = self._heap[0][0] if self._heap else math.inf
        return min(first, self._retired[0][0]) if self._retired else first

    def _push(self, timer: Timer, when: float) -> None:
        timer.entry = entry = (when, timer.order, timer)
        heapq.heappush(self._heap, entry)

    def _is_dead(self, entry: Entry) -> bool:
        """Whether an entry that was taken out of its heap counts no more.

        Then it is no longer counted as dead.
        """
        timer = entry[2]
        if timer.entry is not entry:
            self._dead -= 1
            return True
        if timer.when is None:
            timer.entry = None
            self._dead -= 1
            return True
        return False

    def _tidy(self) -> None:
        """Move some leaves of the retired heap.

        The last entries of the list, so what is left is still a heap.
        """
        retired = self._retired
        for _ in range(min(MOVED_LEAVES, len(retired))):
            entry = retired.pop()
            if not self._is_dead(entry):
                heapq.heappush(self._heap, entry)

    def _rouse(self) -> None:
        need_frames()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
            self._loop.rouse()
        elif not self._running and not self._closed:
            self._loop.spawn(self._run, lambda: "papyra timers")
            self._running = True

    async def _run(self) -> None:
        try:
            while not self._closed:
                self.fire(CALLS_AT_ONCE)
                delay = self._next() - self.now()
                if delay > 0:
                    self._waiter = self._loop.waiter()
                    with anyio.move_on_after(None if delay == math.inf else delay):
                        await self._waiter
                    self._waiter = None
                else:
                    await self._loop.yield_to_loop()
        finally:
            self._running = False
            if self._loop.has_strays and not self._loop.ending():
                self.resume()  # somebody cancelled this task, as on asyncio anybody can
