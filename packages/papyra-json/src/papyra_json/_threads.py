"""Work in a thread: it can be ended at each of its steps, and tells how far it is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import anyio.to_thread

from papyra.exceptions import PersistenceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.persistence.progress import Progress

__all__ = ["Work", "in_thread"]

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Work:
    """What a thread at work shares with the task that waits for it.

    ``progress`` is called in the thread. ``failure`` is what a function of the caller's raised there.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.failure: BaseException | None = None
        self._progress = progress and self.guarded(progress)
        self._ended = threading.Event()
        self._done = 0
        self._total = 0
        self._told = (0, 0)

    @property
    def ended(self) -> bool:
        """Whether the work shall stop."""
        return self._ended.is_set()

    def end(self) -> None:
        """From any thread: let the work stop at its next step."""
        self._ended.set()

    def check(self) -> None:
        """Raise if the work shall stop."""
        if self._ended.is_set():
            raise PersistenceError("the caller was cancelled")

    def left(self, size: int) -> None:
        """Say how many bytes are left to do. The total never shrinks: what fell away counts as done."""
        self._total = max(self._total, self._done + size)
        self._done = self._total - size

    def advance(self, size: int) -> None:
        """Count bytes as done and tell so; raise if the work shall stop."""
        self.check()
        self._done += size
        self._total = max(self._total, self._done)
        self._tell()

    def finish(self) -> None:
        """Tell that all is done."""
        self.left(0)
        self._tell()

    def _tell(self) -> None:
        reached = (self._done, self._total)
        if self._progress is None or reached == self._told:
            return
        self._told = reached
        self._progress(*reached)

    def guarded(self, function: Callable[_P, _T]) -> Callable[_P, _T]:
        """Return a function of the caller's that keeps what it raises as ``failure``."""

        def call(*arguments: _P.args, **keywords: _P.kwargs) -> _T:
            try:
                return function(*arguments, **keywords)
            except BaseException as error:
                self.failure = error
                raise

        return call


async def in_thread(function: Callable[[Work], _T], work: Work) -> _T:
    """Run blocking work in a thread. A caller that is cancelled leaves at once, and the work stops at its next step."""

    def run() -> _T:
        result = function(work)
        work.finish()
        return result

    try:
        return await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
    except BaseException:
        work.end()
        raise
