"""Ctrl-C for actors that compute.

The handlers of the event loops end the main task, which does nothing as long as an actor's code holds the
loop. And trio keeps `KeyboardInterrupt` out of the tasks that run actors, because it may come half-way
through a change of the runtime's state. So while a system runs, this handler is in front of the loop's
own one:

1. The first SIGINT raises `KeyboardInterrupt` in the actor that computes. If none does, the event loop's
   own handler gets it.
2. The second also forces the close: everything that still runs is cancelled.
3. The third raises `KeyboardInterrupt` wherever the program is. If that is caught, a fourth kills the
   process.

After the first two the loop must answer soon. If it does not, the code that holds it is interrupted, unless
that is the loop's own work. If the runtime has called that code for itself, as a hook, the systems end
whatever becomes of the exception there, and from then on such code is interrupted each time. An interrupt
that Python can't raise, as out of a ``__del__``, ends them too, and what holds the loop then is interrupted.
Signals are counted anew if the program went on after the last one for a while. One that comes while the loop
does not run, as between two calls of ``run_until_complete``, is not counted.

To look again later, the handler sends the main thread a signal of another number. With the same number, a
SIGINT that comes at that moment would be lost, because Python keeps one flag for each number.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from papyra._runtime.containment.frames import (
    actor_frame,
    can_interrupt,
    holds_loop,
    in_call_of_runtime,
    own_frame,
)
from papyra._runtime.containment.log import LOG

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

    from papyra._runtime.running_system import RunningSystem

__all__ = ["INTERRUPTS", "Interrupts", "interrupt_actor"]

LAST_COUNT = 3
"""The number of the SIGINT that raises `KeyboardInterrupt` wherever the program is."""

ANSWER_SECONDS = 0.5
"""Time in which the event loop must have gone round after a SIGINT."""

FORGET_SECONDS = 10.0
"""Time after which a SIGINT counts as the first one again, if no system closes."""

RETRY_SECONDS = 0.002
"""Time until the next try, if the runtime or the event loop was just at work for the actor."""

AGAIN_SIGNAL: signal.Signals | None = getattr(signal, "SIGURG", None)
"""The signal that the handler sends itself, if the program has no handler of it. By default it is ignored."""


class Interrupts:
    """The handler of SIGINT while at least one system runs in the main thread."""

    def __init__(self) -> None:
        self._all: WeakSet[RunningSystem] = WeakSet()  # also those whose program has a handler of its own
        self._running: WeakSet[RunningSystem] = WeakSet()  # one may be left without a close
        self._previous: Any = signal.default_int_handler
        self._count = 0
        self._counted_at = 0.0  # the time of the last signal
        self._retries = False  # `_look_again` tries once more to interrupt an actor
        self._overdue: list[bool] | None = None  # set if the loop did not answer in time; empty until it does
        self._lasts = False  # the runtime's calls are interrupted until the systems have closed
        self._previous_unraisable: Callable[[sys.UnraisableHookArgs], object] = sys.unraisablehook
        self._is_own = False  # the next SIGINT is the handler's own, where it has no other signal

    def enter(self, core: RunningSystem) -> None:
        """Handle SIGINT for a system in the main thread, unless the program has a handler of its own."""
        self._all.add(core)
        if threading.current_thread() is not threading.main_thread():
            return
        if not self._alive():
            current = signal.getsignal(signal.SIGINT)
            if current == self._handle:
                current = signal.default_int_handler  # of systems that were never closed
            if not _is_of_a_loop(current):
                return
            self._previous, self._count = current, 0
            self._retries = self._is_own = self._lasts = False
            self._overdue = None
            signal.signal(signal.SIGINT, self._handle)
            if AGAIN_SIGNAL is not None and signal.getsignal(AGAIN_SIGNAL) is signal.SIG_DFL:
                signal.signal(AGAIN_SIGNAL, self._look_again)
            if sys.unraisablehook != self._note_unraisable:
                self._previous_unraisable, sys.unraisablehook = sys.unraisablehook, self._note_unraisable
        self._running.add(core)

    def leave(self, core: RunningSystem) -> None:
        """Stop handling SIGINT for a system."""
        self._all.discard(core)
        if core not in self._running:
            return
        self._running.discard(core)
        if self._alive() or threading.current_thread() is not threading.main_thread():
            return
        current = signal.getsignal(signal.SIGINT)
        if current == self._handle or (self._count >= LAST_COUNT and current is signal.SIG_DFL):
            signal.signal(signal.SIGINT, self._previous)
        if AGAIN_SIGNAL is not None and self._has_own_signal():
            signal.signal(AGAIN_SIGNAL, signal.SIG_DFL)
        if sys.unraisablehook == self._note_unraisable:
            sys.unraisablehook = self._previous_unraisable

    def _alive(self) -> list[RunningSystem]:
        return [core for core in self._running if not core.rt.loop.is_closed()]

    def _of_running_loops(self) -> list[RunningSystem]:
        return [core for core in self._alive() if core.rt.loop.is_running()]

    def _has_own_signal(self) -> bool:
        return AGAIN_SIGNAL is not None and signal.getsignal(AGAIN_SIGNAL) == self._look_again

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_own:
            self._is_own = False
            self._look_again(number, frame)
            return
        running = self._of_running_loops()
        if not running:
            self._previous(signal.SIGINT, frame)
            return
        self._note_signal(running)
        if self._count >= LAST_COUNT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt
        self._interrupt(frame, running)

    def _look_again(self, _number: int, frame: FrameType | None) -> None:
        """Do what the last SIGINT has left for later."""
        running = self._of_running_loops()
        if not running or self._count >= LAST_COUNT:
            return
        answer, self._overdue = self._overdue, None
        if answer is not None and not answer:
            if self._lasts and _is_actors_own(frame):
                self._ask(running)  # it had its interrupt, or begins to stop
                return
            if holds_loop(frame):
                self._interrupt_held(frame, running)
            self._overdue = answer  # the loop is at its own work, so it is only slow
            _later(RETRY_SECONDS, self._call_again)
        elif self._retries:
            self._retries = False
            self._interrupt(frame, running)

    def _interrupt(self, frame: FrameType | None, running: list[RunningSystem]) -> None:
        """Interrupt what runs, or ask the loop whether anything holds it."""
        if self._count > 1:
            _from_loop(running, _force)
        if (
            interrupt_actor(frame)
            or self._interrupt_child(frame, running)
            or in_call_of_runtime(frame)
            or own_frame(frame) is not None
        ):
            if time.monotonic() - self._counted_at > ANSWER_SECONDS and holds_loop(frame):
                self._interrupt_held(frame, running)  # the runtime has called it
            self._retries = True
            _later(RETRY_SECONDS, self._call_again)
            return
        self._ask(running)
        if self._count == 1:
            self._previous(signal.SIGINT, frame)

    def _interrupt_child(self, frame: FrameType | None, running: list[RunningSystem]) -> bool:
        """End the code of a task that an actor started in a task group. Return True to try it again soon."""
        core = _owner_of_child(running)
        if core is None:
            return False
        if holds_loop(frame):
            _from_loop([core], _end)
            raise core.rt.loop.interruption(self._main_task())
        return True

    def _interrupt_held(self, frame: FrameType | None, running: list[RunningSystem]) -> NoReturn:
        """End the code that holds the loop."""
        core = _owner_of_child(running) or running[0]
        if own_frame(frame) is not None:  # the runtime's calls of it may contain any exception
            self._lasts = True
            self.end_systems()
            self._ask(running)
        raise core.rt.loop.interruption(self._main_task())

    def _note_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Do what Ctrl-C asks for, although Python can't raise it, as out of a ``__del__`` or a callback."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self.end_systems()
            self._ask(self._of_running_loops())
        self._previous_unraisable(unraisable)

    def end_systems(self) -> bool:
        """Have each system end, as soon as its loop goes round, as after a `KeyboardInterrupt` of an actor.

        Return whether there is any.
        """
        running = [core for core in self._all if core.rt.loop.is_running()]
        _from_loop(running, _end)
        return bool(running)

    def _main_task(self) -> object | None:
        """Return the task that asyncio's own handler cancels."""
        keywords: dict[str, object] = getattr(self._previous, "keywords", {})
        return keywords.get("main_task")

    def _note_signal(self, running: list[RunningSystem]) -> None:
        """Count a signal."""
        now = time.monotonic()
        if now - self._counted_at > FORGET_SECONDS and not any(core.closing for core in running):
            self._count = 0
        self._count += 1
        self._counted_at = now
        self._lasts = False

    def _ask(self, running: list[RunningSystem]) -> None:
        """Have whatever holds the loop interrupted, unless the loop answers in time."""
        answer: list[bool] = []

        def judge() -> None:
            left = [core for core in running if not core.closed.is_set() and core.rt.loop.is_running()]
            if left and not answer:
                self._overdue = answer
                self._call_again()
            elif left and self._lasts:
                self._ask(left)

        _from_loop(running[:1], lambda _: answer.append(True))
        _later(ANSWER_SECONDS, judge)

    def _call_again(self) -> None:
        """Have `_look_again` called in the main thread."""
        main = threading.main_thread().ident
        if AGAIN_SIGNAL is not None and main is not None and self._has_own_signal():
            signal.pthread_kill(main, AGAIN_SIGNAL)  # which ends a wait in a system call, too
        elif signal.getsignal(signal.SIGINT) == self._handle:  # else the last system has closed
            self._is_own = True
            _thread.interrupt_main()


def interrupt_actor(frame: FrameType | None) -> bool:
    """Raise `KeyboardInterrupt` if ``frame``, the one that a signal interrupted, is in the code of an actor.

    Call it in a signal's handler. Return True if that has to be tried again soon.
    """
    own = actor_frame(frame)
    if own is None:
        return False
    if can_interrupt(frame, own):
        raise KeyboardInterrupt
    return True


def _is_of_a_loop(handler: Any) -> bool:
    """Return whether a handler is Python's own, or the one of an event loop.

    The handlers of ``add_signal_handler`` and ``open_signal_receiver`` come from those packages, too, but
    they call the program.
    """
    if handler is signal.default_int_handler:
        return True
    function = getattr(handler, "func", handler)  # asyncio's is a partial
    return getattr(function, "__module__", "") in ("asyncio.runners", "trio._core._ki")


def _owner_of_child(running: list[RunningSystem]) -> RunningSystem | None:
    """Return the system whose actor has started the running task in a task group."""
    return next((core for core in running if core.rt.loop.runs_child()), None)


def _is_actors_own(frame: FrameType | None) -> bool:
    own = actor_frame(frame)
    return own is not None and can_interrupt(frame, own)


def _end(core: RunningSystem) -> None:
    core.rt.loop.fatal(KeyboardInterrupt())


def _force(core: RunningSystem) -> None:
    leaving = core.closing  # then the host has had its own exception
    core.begin_close(forced=True)
    if core.host is not None and not leaving:
        core.fatal = core.fatal or KeyboardInterrupt()
        core.host.cancel()


def _from_loop(running: list[RunningSystem], call: Callable[[RunningSystem], object]) -> None:
    """Make a call for each system on its loop, soon."""
    for core in running:

        def make(core: RunningSystem = core) -> None:
            if not core.closed.is_set():
                call(core)

        core.rt.loop.from_thread(make)


def _later(seconds: float, call: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


INTERRUPTS = Interrupts()
"""The one of this process."""

LOG.end_systems = INTERRUPTS.end_systems
