"""An actor's timers, one for each key, and its receive timeout.

A tick goes through the mailbox as an envelope of the runtime's own, and asks when its turn comes whether it
still counts.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from papyra._runtime.containment.frames import calls_actor
from papyra._runtime.containment.thread_guard import check_thread
from papyra._runtime.envelope import SIGNAL
from papyra._runtime.resources import bind_receive, enqueue_own, resources, run_call
from papyra._runtime.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Never

    from papyra._runtime.resources import Resources
    from papyra.actor import Actor

__all__ = ["MISSING", "ActorTimers", "ReceiveTimeout", "check_keywords", "set_receive_timeout"]

MISSING: Final[Any] = object()
"""The default of ``send=``, because None is a message."""


class KeyedTimer(Timer):
    """The timer of one key.

    ``version`` changes when it is started again or ended: older ticks do not count.
    """

    __slots__ = ("act", "first", "interval", "key", "message", "owner", "rate", "version")

    def __init__(self, owner: ActorTimers, key: Hashable) -> None:
        super().__init__(owner.resources.cell.rt.timers)
        self.owner: ActorTimers | None = owner
        self.key = key
        self.version = 0
        self.message: object = None
        self.act: Callable[[], object] | None = None
        self.interval: float | None = None
        self.rate = False
        self.first = 0.0

    @property
    def keeps_drain_open(self) -> bool:
        """Whether a tick that is queued is handled before a stop.

        A periodic timer would keep the stop from ending.
        """
        return self.interval is None

    def ring(self) -> None:
        """Queue a tick."""
        if self.owner is not None:
            enqueue_own(
                self.owner.resources.cell, self, self.message, partial(self.run, self.owner, self.version)
            )

    async def run(self, owner: ActorTimers, version: int, actor: Actor) -> None:
        """Handle a tick in the actor."""
        if version != self.version:
            return
        message, act = self.message, self.act
        if self.interval is None:
            owner.cancel(self.key)
        elif self.rate:
            self.timers.set(self, self._next_on_grid(self.interval))
        try:
            await _handle_tick(owner.resources, actor, message, act)
        finally:
            if self.interval is not None and not self.rate and version == self.version:
                self.timers.set(self, self.timers.now() + self.interval)

    def _next_on_grid(self, interval: float) -> float:
        """Return the first time after now that is ``first`` plus a multiple of the interval."""
        now = self.timers.now()
        due = self.first + (math.floor((now - self.first) / interval) + 1) * interval
        return max(due, math.nextafter(now, math.inf))  # an interval may be too short for the clock's digits

    def end(self) -> None:
        """Forget everything, because the heap may keep this object for a while."""
        self.cancel()
        self.version += 1
        self.owner = self.key = self.message = self.act = None


class ActorTimers:
    """The timers of an actor: `ActorContext.timers`.

    Each has a key, any hashable value. Starting a key again replaces its timer, and drops a tick that the old
    one has queued. A tick either delivers the message ``send=`` to the actor or runs ``call=``, a
    plain or async function without arguments, in it; give exactly one of the two. Ticks are handled between
    messages, one at a time. They are never refused and never dead letters, and at most one of each key is
    queued.

    Times are seconds of the system's clock, which `papyra.testing.ManualClock` replaces in tests. A delay
    below 0, an interval of 0 or less, NaN and infinity are a `ValueError`. A restart and a stop cancel all
    timers before ``on_stop``; after `SupervisorDecision.RESUME` they go on.
    """

    __slots__ = ("_timers", "resources")

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._timers: dict[Hashable, KeyedTimer] = {}

    def start_single(
        self,
        key: Hashable,
        delay: float,
        *misplaced: Never,
        send: object = MISSING,
        call: Callable[[], object] | None = None,
    ) -> None:
        """Tick once, after ``delay`` seconds."""
        check_keywords("start_single", misplaced)
        self._start(key, _delay(delay), None, send, call, rate=False)

    def start_fixed_delay(
        self,
        key: Hashable,
        delay: float,
        *misplaced: Never,
        send: object = MISSING,
        call: Callable[[], object] | None = None,
        initial_delay: float | None = None,
    ) -> None:
        """Tick repeatedly, ``delay`` seconds after the end of the last handling.

        Ticks do not pile up behind a slow handler.
        """
        check_keywords("start_fixed_delay", misplaced)
        _interval(delay)
        self._start(key, _delay(initial_delay, delay), delay, send, call, rate=False)

    def start_fixed_rate(
        self,
        key: Hashable,
        interval: float,
        *misplaced: Never,
        send: object = MISSING,
        call: Callable[[], object] | None = None,
        initial_delay: float | None = None,
    ) -> None:
        """Tick after ``initial_delay`` seconds, and then every ``interval`` seconds.

        Missed ticks are skipped. If ticks come due while an earlier one is handled, one of them follows it.
        """
        check_keywords("start_fixed_rate", misplaced)
        _interval(interval)
        self._start(key, _delay(initial_delay, interval), interval, send, call, rate=True)

    def cancel(self, key: Hashable) -> bool:
        """End the timer of a key. Return whether there was one."""
        check_thread(self.resources.cell.rt, "cancel a timer")
        timer = self._timers.pop(key, None)
        if timer is None:
            return False
        timer.end()
        return True

    def cancel_all(self) -> None:
        """End every timer of the actor."""
        check_thread(self.resources.cell.rt, "cancel timers")
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.end()

    def is_active(self, key: Hashable) -> bool:
        """Return whether a timer with this key will tick again."""
        return key in self._timers

    def keys(self) -> tuple[Hashable, ...]:
        """Return the keys of the timers that will tick again, oldest first."""
        return tuple(self._timers)

    def _start(
        self,
        key: Hashable,
        delay: float,
        interval: float | None,
        message: object,
        act: Callable[[], object] | None,
        *,
        rate: bool,
    ) -> None:
        _check_action(message, act)
        check_thread(self.resources.cell.rt, "start a timer")
        resources(self.resources.cell)  # a stopped actor has no timers
        timer = self._timers.get(key)
        if timer is None:
            self._timers[key] = timer = KeyedTimer(self, key)
        timer.version += 1
        timer.message, timer.act = message, act
        timer.interval, timer.rate = interval, rate
        timer.first = timer.timers.now() + delay
        timer.timers.set(timer, timer.first)

    def __repr__(self) -> str:
        return f"<timers of actor {self.resources.cell}: {list(self._timers)}>"


class ReceiveTimeout(Timer):
    """Ticks whenever an actor was idle for ``seconds``.

    Its own ticks, and those of the actor's timers, do not count as activity. Messages do, which pass through
    `receive`, and so do proxy calls and results of background work, which the runtime notes.
    """

    __slots__ = ("act", "ended", "message", "new", "overdue", "resources", "seconds")

    keeps_drain_open = False

    def __init__(
        self, mine: Resources, seconds: float, message: object, act: Callable[[], object] | None
    ) -> None:
        super().__init__(mine.cell.rt.timers)
        self.resources = mine
        self.seconds = seconds
        self.message = message
        self.act = act
        self.ended = False
        self.overdue = False  # the time is over, but the actor was busy
        self.new = True  # the handling in which it was set has not ended
        self.timers.set(self, self.timers.now() + seconds)

    @calls_actor
    async def receive(self, message: Any) -> Any:
        """Handle a message, and note when the handling ended."""
        try:
            mine = self.resources
            assert mine.cell.actor is not None  # noqa: S101 - a message is handled by an instance
            return await (mine.behaviour or mine.cell.actor.receive)(message)
        finally:
            self.note_activity()

    def note_activity(self) -> None:
        """Start to count again from now."""
        self.overdue = False
        if not self.ended:
            self.timers.set(self, self.timers.now() + self.seconds)

    def settle(self) -> None:
        """Look at the mailbox again, between two messages."""
        if self.new:
            self.new = False
            self.note_activity()
        elif self.overdue and not any(item is not SIGNAL for item in self.resources.cell.box or ()):
            self._queue()

    def ring(self) -> None:
        """Queue a tick if the actor is idle."""
        if self.resources.cell.box is None:
            self._queue()
        else:
            self.overdue = True

    def _queue(self) -> None:
        self.overdue = False
        if not self.ended:
            enqueue_own(self.resources.cell, self, self.message, self.run)

    async def run(self, actor: Actor) -> None:
        """Handle the tick in the actor."""
        if self.ended:
            return
        try:
            await _handle_tick(self.resources, actor, self.message, self.act)
        finally:
            self.note_activity()

    def end(self) -> None:
        """Stop ticking."""
        self.ended = True
        self.cancel()


def set_receive_timeout(
    mine: Resources, seconds: float | None, message: object, act: Callable[[], object] | None
) -> None:
    """Replace the receive timeout of an actor; None ends it."""
    if seconds is None:
        if message is not MISSING or act is not None:
            raise TypeError("set_receive_timeout(None) ends the time-out and takes neither send= nor call=")
    else:
        _interval(seconds, "a receive timeout")
        _check_action(message, act)
    if mine.receive_timeout is not None:
        mine.receive_timeout.end()
        mine.receive_timeout = None
    if seconds is not None:
        mine.receive_timeout = ReceiveTimeout(mine, seconds, message, act)
    bind_receive(mine.cell)


@calls_actor
async def _handle_tick(
    mine: Resources, actor: Actor, message: object, act: Callable[[], object] | None
) -> None:
    try:
        if act is not None:
            await run_call(act)
        else:
            await (mine.behaviour or actor.receive)(message)
    finally:
        if mine.receive_timeout is not None:
            mine.receive_timeout.settle()


def check_keywords(method: str, misplaced: tuple[object, ...]) -> None:
    """Raise `TypeError` if an action was given by position, and not as ``send=`` or ``call=``."""
    if misplaced:
        raise TypeError(
            f"{method}() needs its action as a keyword: call=function runs a function in the actor, "
            "send=message delivers a message to it"
        )


def _check_action(message: object, act: Callable[[], object] | None) -> None:
    if (message is MISSING) == (act is None):
        raise TypeError(
            "a timer needs exactly one of send= and call=: send=message delivers a message to the actor, "
            "call=function runs a function in it"
        )
    if act is not None and not callable(act):
        raise TypeError(f"call= must be a plain or async function without arguments, not {act!r}")


def _delay(delay: float | None, otherwise: float = 0.0) -> float:
    if delay is None:
        return otherwise
    if not (math.isfinite(delay) and delay >= 0):
        raise ValueError(f"a timer's delay must be at least 0 seconds and finite, not {delay!r}")
    return delay


def _interval(seconds: float, what: str = "a timer's interval") -> None:
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{what} must be above 0 seconds and finite, not {seconds!r}")
