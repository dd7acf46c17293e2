"""The actor that each worker runs, the place in its code, and the time that it has run at least.

Nothing is stored per message. Each message that an actor handles is a coroutine object of its own. A weak
reference to one that was seen before is alive exactly as long as the same message is being handled.
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

__all__ = ["BusyActors", "BusyCell"]


class BusyCell(NamedTuple):
    """A busy actor, before it is described."""

    cell: Cell
    since: float
    frame: FrameType | None
    awaits: object
    code: CoroutineType[Any, Any, Any] | None = None  # None while it is computing


class BusyActors:
    """Looks at the workers of one system, and remembers since when it has seen each message."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._thread = get_ident()
        self._seen: WeakKeyDictionary[CoroutineType[Any, Any, Any], float] = WeakKeyDictionary()

    def look(self, limit: int | None = None) -> list[BusyActor]:
        """Return the actors whose code runs, the longest first, ``limit`` of them at most."""
        now = time.monotonic()
        return [_describe(busy, now) for busy in self.find(now)[:limit]]

    def find(self, now: float) -> list[BusyCell]:
        """Find the actors whose code runs, the longest first."""
        busy = [
            self._find(cell, task, now)
            for task, worker in list(self._rt.workers.items())
            if (cell := worker.cell) is not None  # read once: another thread may look
        ]
        busy.sort(key=_since)
        return busy

    def find_computing(self) -> BusyCell | None:
        """Find the actor that is computing right now. May be called from other threads."""
        own = own_frame(self._frame())
        if own is None:
            return None  # before all workers are looked at: there may be many
        for task, worker in list(self._rt.workers.items()):
            cell, code = worker.cell, coroutine_of(task)
            if cell is not None and isinstance(code, CoroutineType) and code.cr_running:
                return BusyCell(cell, time.monotonic(), own, None)
        return None

    def _find(self, cell: Cell, task: object, now: float) -> BusyCell:
        """Find the actor's own code in a worker's task, and the time since which it has been seen."""
        worker_code: Any = coroutine_of(task)
        if worker_code is not None and worker_code.cr_running:
            return self._running(cell, now)
        for awaited in _awaited(worker_code):
            if not isinstance(awaited, CoroutineType):
                return BusyCell(cell, now, None, awaited)  # ``receive`` returned something else to await
            if not is_ours(awaited.cr_code.co_filename):
                own: CoroutineType[Any, Any, Any] = cast("Any", awaited)
                return BusyCell(cell, self._seen.setdefault(own, now), own.cr_frame, own.cr_await, own)
        return BusyCell(cell, now, None, None)

    def _running(self, cell: Cell, now: float) -> BusyCell:
        """Find the code that is computing right now. It awaits nothing, so search the frames."""
        since = min((at for code, at in list(self._seen.items()) if code.cr_running), default=now)
        return BusyCell(cell, since, own_frame(self._frame()), None)

    def _frame(self) -> FrameType | None:
        """Return the innermost frame of the event loop's thread."""
        if get_ident() == self._thread:
            return sys._getframe()
        return sys._current_frames().get(self._thread)


def _since(busy: BusyCell) -> float:
    return busy.since


def _describe(busy: BusyCell, now: float) -> BusyActor:
    cell = busy.cell
    kind = type_name(cell.actor_type) if cell.actor_type is not None else "Actor"
    return BusyActor(cell.address, cell.name, kind, place(busy.frame), _name(busy.awaits), now - busy.since)


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
