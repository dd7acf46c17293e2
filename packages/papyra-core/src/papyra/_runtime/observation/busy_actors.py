"""Which actor each worker runs, where in its code, and for how long at least.

Nothing is stored per message. Each message that an actor handles is a coroutine object of its own; a weak
reference to one that was seen before is alive exactly as long as the same message is handled.
"""

from __future__ import annotations

import sys
import time
from threading import get_ident
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from papyra._runtime._eventloop import coroutine_of
from papyra._runtime.containment.frames import is_ours, own_frame, place
from papyra._runtime.containment.user_values import type_name
from papyra.statistics import BusyActor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from papyra._runtime.cell import Cell
    from papyra._runtime.runtime import Runtime

__all__ = ["BusyActors", "Found"]


class Found(NamedTuple):
    """A busy actor, not described yet."""

    cell: Cell
    since: float
    frame: FrameType | None
    awaits: object
    code: CoroutineType[Any, Any, Any] | None = None  # unless it computes right now


class BusyActors:
    """Looks at the workers of one system, and remembers since when it has seen each message."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._thread = get_ident()
        self._seen: WeakKeyDictionary[CoroutineType[Any, Any, Any], float] = WeakKeyDictionary()

    def look(self, limit: int | None = None) -> list[BusyActor]:
        """Return the actors whose code runs, the longest first, ``limit`` of them at most."""
        now = time.monotonic()
        return [_describe(each, now) for each in self.find(now)[:limit]]

    def find(self, now: float) -> list[Found]:
        """Find the actors whose code runs, the longest first."""
        found = [
            self._find(cell, task, now)
            for task, worker in list(self._rt.workers.items())
            if (cell := worker.cell) is not None  # read once: another thread may look
        ]
        found.sort(key=_since)
        return found

    def find_computing(self) -> Found | None:
        """Find the actor that computes right now, if any does. For other threads, too."""
        own = own_frame(self._frame())
        if own is None:
            return None  # before all workers are looked at: there may be many
        for task, worker in list(self._rt.workers.items()):
            cell, code = worker.cell, coroutine_of(task)
            if cell is not None and isinstance(code, CoroutineType) and code.cr_running:
                return Found(cell, time.monotonic(), own, None)
        return None

    def _find(self, cell: Cell, task: object, now: float) -> Found:
        """Find the actor's own code in a worker's task, and since when it is known."""
        worker_code: Any = coroutine_of(task)
        if worker_code is not None and worker_code.cr_running:
            return self._running(cell, now)
        for each in _awaited(worker_code):
            if not isinstance(each, CoroutineType):
                return Found(cell, now, None, each)  # ``receive`` returned something else to await
            if not is_ours(each.cr_code.co_filename):
                own: CoroutineType[Any, Any, Any] = cast("Any", each)
                return Found(cell, self._seen.setdefault(own, now), own.cr_frame, own.cr_await, own)
        return Found(cell, now, None, None)

    def _running(self, cell: Cell, now: float) -> Found:
        """Find the code that computes right now: it awaits nothing, so it is looked for among the frames."""
        since = min((at for code, at in list(self._seen.items()) if code.cr_running), default=now)
        return Found(cell, since, own_frame(self._frame()), None)

    def _frame(self) -> FrameType | None:
        """Return the innermost frame of the event loop's thread."""
        if get_ident() == self._thread:
            return sys._getframe()
        return sys._current_frames().get(self._thread)


def _since(found: Found) -> float:
    return found.since


def _describe(found: Found, now: float) -> BusyActor:
    cell = found.cell
    kind = type_name(cell.actor_type) if cell.actor_type is not None else "Actor"
    return BusyActor(
        cell.address, cell.name, kind, place(found.frame), _name(found.awaits), now - found.since
    )


def _awaited(coroutine: object) -> Iterator[object]:
    """Yield what a coroutine awaits, what that awaits, and so on."""
    awaited = getattr(coroutine, "cr_await", None)
    while awaited is not None:
        yield awaited
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _name(awaited: object) -> str:
    if awaited is None:
        return ""
    return getattr(awaited, "__qualname__", "") or type_name(type(awaited))
