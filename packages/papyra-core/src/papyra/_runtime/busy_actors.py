"""Which actor each worker runs, where in its code, and for how long at least.

Nothing is stored per message. Each message that an actor handles is a coroutine object of its own; a weak
reference to one that was seen before is alive exactly as long as the same message is handled.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from threading import get_ident
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from papyra._runtime._eventloop import coroutine_of
from papyra._runtime.user_values import type_name
from papyra.statistics import BusyActor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from papyra._runtime.cell import Cell
    from papyra._runtime.runtime import Runtime

__all__ = ["BusyActors"]

_RUNTIME = str(Path(__file__).parent)
_PROXY = str(Path(__file__).parent.parent / "proxy.py")


class _Found(NamedTuple):
    """A busy actor, not described yet."""

    cell: Cell
    since: float
    frame: FrameType | None
    awaits: object


class BusyActors:
    """Looks at the workers of one system, and remembers since when it has seen each message."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._thread = get_ident()
        self._seen: WeakKeyDictionary[CoroutineType[Any, Any, Any], float] = WeakKeyDictionary()

    def look(self, limit: int | None = None) -> list[BusyActor]:
        """Return the actors whose code runs, the longest first, ``limit`` of them at most."""
        now = time.monotonic()
        found = [
            self._find(worker.cell, task, now)
            for task, worker in list(self._rt.workers.items())
            if worker.cell is not None
        ]
        found.sort(key=_since)
        return [_describe(each, now) for each in found[:limit]]

    def _find(self, cell: Cell, task: object, now: float) -> _Found:
        """Find the actor's own code in a worker's task, and since when it is known."""
        worker_code: Any = coroutine_of(task)
        if worker_code is not None and worker_code.cr_running:
            return self._running(cell, now)
        for each in _awaited(worker_code):
            if not isinstance(each, CoroutineType):
                return _Found(cell, now, None, each)  # ``receive`` returned something else to await
            if not _is_ours(each.cr_code.co_filename):
                own: CoroutineType[Any, Any, Any] = cast("Any", each)
                return _Found(cell, self._seen.setdefault(own, now), own.cr_frame, own.cr_await)
        return _Found(cell, now, None, None)

    def _running(self, cell: Cell, now: float) -> _Found:
        """Find the code that computes right now: it awaits nothing, so it is looked for among the frames."""
        frame: FrameType | None = (
            sys._getframe() if get_ident() == self._thread else sys._current_frames().get(self._thread)
        )
        own: FrameType | None = None
        inner: FrameType | None = None
        while frame is not None:  # from the inside out: the outermost one that a worker has called
            ours = _is_ours(frame.f_code.co_filename)
            if ours and inner is not None and not _is_ours(inner.f_code.co_filename):
                own = inner
            inner, frame = frame, frame.f_back
        since = min((at for code, at in list(self._seen.items()) if code.cr_running), default=now)
        return _Found(cell, since, own, None)


def _since(found: _Found) -> float:
    return found.since


def _describe(found: _Found, now: float) -> BusyActor:
    cell = found.cell
    kind = type_name(cell.actor_type) if cell.actor_type is not None else "Actor"
    return BusyActor(
        cell.address, cell.name, kind, _place(found.frame), _name(found.awaits), now - found.since
    )


def _awaited(coroutine: object) -> Iterator[object]:
    """Yield what a coroutine awaits, what that awaits, and so on."""
    awaited = getattr(coroutine, "cr_await", None)
    while awaited is not None:
        yield awaited
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _is_ours(path: str) -> bool:
    return path.startswith(_RUNTIME) or path == _PROXY


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    name = frame.f_code.co_qualname.rpartition("<locals>.")[2]
    return f"{name} {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _name(awaited: object) -> str:
    if awaited is None:
        return ""
    return getattr(awaited, "__qualname__", "") or type_name(type(awaited))
