"""Names the actor that holds the event loop, and the one that has handled one message for a minute.

A thread looks ten times a second at the code that the loop's thread runs: only another thread can see a held
loop while it is held. While an actor computes, the thread asks the loop for an answer. Without an answer
for a while, the loop is held. So an idle system is never woken up, and nothing is done or stored per message.
The page "The runtime" of the design documentation has the reasons.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from papyra._runtime.containment.frames import place
from papyra._runtime.containment.log import LOG
from papyra._runtime.observation.busy_actors import BusyActors
from papyra._runtime.phases import STARTING

if TYPE_CHECKING:
    from types import CodeType, CoroutineType, FrameType

    from papyra._runtime.observation.busy_actors import BusyCell
    from papyra._runtime.runtime import Runtime

__all__ = ["Watchdog"]

HELD_SECONDS = 0.25
"""Time without an answer after which an actor's code is reported to hold the event loop."""

LONG_SECONDS = 60.0
"""Time after which the handling of one message is reported."""

LOOK_SECONDS = 0.1

LOOKS_FOR_LONG = 50
"""Looks between two searches for long messages, which go through all workers."""

QUIET_SECONDS = 60.0
"""Time in which a place in the code is reported once."""


class Watchdog:
    """Looks at one system from a thread of its own, which starts with the first worker."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._busy = BusyActors(rt)
        self._loop_thread = threading.get_ident()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._asked: float | None = None  # since when the loop owes an answer
        self._asked_cpu = 0.0
        self._planned = 0.0  # when this look was due
        self._named: WeakKeyDictionary[CodeType, float] = WeakKeyDictionary()
        self._named_messages: WeakSet[CoroutineType[Any, Any, Any]] = WeakSet()

    def start(self) -> None:
        """Start to look, unless this platform has no threads."""
        if self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._run, name="papyra watchdog", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                LOG.debug("no thread can be started: actors that hold the event loop are not named")

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        looks = 0
        self._planned = time.monotonic() + LOOK_SECONDS
        while not self._ended.wait(LOOK_SECONDS):
            looks += 1
            try:
                if not self._look(looks):
                    return
            except RuntimeError:
                pass  # a collection changed while it was read, which the loop's thread may do at any time
            self._planned = time.monotonic() + LOOK_SECONDS

    def _look(self, looks: int) -> bool:
        """Look once. Return False if the loop has ended, and this thread with it."""
        now = time.monotonic()
        if looks % LOOKS_FOR_LONG == 0:
            if self._rt.loop.is_closed():
                return False
            self._name_long(now)
        asked = self._asked  # read once: the loop's thread may answer at any time
        if asked is not None:
            late = now - self._planned > LOOK_SECONDS
            if late and time.process_time() - self._asked_cpu < HELD_SECONDS / 2:
                self._ask(now)  # the whole process slept: no fault of the actor
            elif now - asked >= HELD_SECONDS:
                self._name_held(now - asked)
        elif self._busy.find_computing() is not None:
            self._ask(now)
        return True

    def _ask(self, now: float) -> None:
        self._asked, self._asked_cpu = now, time.process_time()
        self._rt.loop.from_thread(self._answered)

    def _answered(self) -> None:
        self._asked = None

    # -- reports

    def _name_held(self, seconds: float) -> None:
        busy = self._busy.find_computing()
        if busy is None or self._asked is None or busy.frame is None or not self._is_news(busy.frame.f_code):
            return
        LOG.warning(
            "actor %s has held the event loop for %.2f s in %s%s. Nothing else runs meanwhile: "
            "await there, or do the work with context.run_blocking()",
            busy.cell,
            seconds,
            place(busy.frame),
            _innermost(self._loop_thread, busy.frame),
        )

    def _name_long(self, now: float) -> None:
        places: dict[CodeType, list[BusyCell]] = {}
        for busy in self._busy.find(now):
            if now - busy.since < LONG_SECONDS:
                break  # the longest are first
            if busy.code is not None and busy.code not in self._named_messages:
                self._named_messages.add(busy.code)
                places.setdefault(busy.code.cr_code, []).append(busy)
        for code, actors in places.items():
            first = actors[0]
            starts = first.cell.phase == STARTING
            count = len(actors) - 1
            others = f" The same is true of {count} other actor{'s' * (count != 1)}." if count else ""
            if self._is_news(code):
                LOG.warning(
                    "actor %s has %s for %.0f s and waits in %s. "
                    "Its%s messages wait meanwhile: use a time-out, or context.start_soon().%s",
                    first.cell,
                    "been in on_start" if starts else "handled one message",
                    now - first.since,
                    place(first.frame),
                    "" if starts else " other",
                    others,
                )

    def _is_news(self, code: CodeType) -> bool:
        """Return whether a place was not reported recently, and note that it is now."""
        now = time.monotonic()
        last = self._named.get(code)
        if last is not None and now - last < QUIET_SECONDS:
            return False
        self._named[code] = now
        return True


def _innermost(thread: int, own: FrameType) -> str:
    """Name the function that the actor's code has called, if any."""
    frame = sys._current_frames().get(thread)
    return f", in {place(frame)}" if frame is not None and frame is not own else ""
