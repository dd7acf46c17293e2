"""Blocking work in a thread: it reports its progress, and a cancelled caller interrupts it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

import anyio
import anyio.to_thread

from papyra.exceptions import PersistenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from papyra.persistence.progress import Progress

__all__ = ["CallbackFailed", "Interruptible", "Part", "Work", "WorkCancelled", "run_blocking"]

_T = TypeVar("_T")
_P = ParamSpec("_P")

_INTERRUPT_SECONDS = 0.02


class WorkCancelled(PersistenceError):
    """The caller was cancelled. Raised in the thread by `Work.check`; the caller itself never sees it."""


class CallbackFailed(Exception):
    """A callback of the caller raised ``error``. `run_blocking` raises ``error`` itself.

    It has a type of its own so that no handler between the callback and the caller takes it for an error of
    the store.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"a callback of the caller raised {type(error).__name__}")
        self.error = error


class Interruptible(Protocol):
    """A connection whose current statement another thread can stop, as `sqlite3.Connection` is."""

    def interrupt(self) -> None:
        """Stop the current statement; do nothing if there is none."""


class Work:
    """What a thread shares with the task that waits for it: cancellation and progress.

    ``progress`` is called in the thread, as ``progress(done, total)``. ``done`` never goes down; ``total``
    may grow.
    """

    def __init__(self, progress: Progress | None = None, total: int = 0) -> None:
        self.total = total
        self._progress = progress and self.guarded(progress)
        self._done = 0
        self._reported = (0, 0)
        self._guard = threading.Lock()
        self._cancelled = self._running = False
        self._connection: Interruptible | None = None

    # -- cancellation

    @property
    def cancelled(self) -> bool:
        """Whether the caller was cancelled."""
        return self._cancelled

    def cancel(self) -> None:
        """From any thread: let the work stop at its next step, and interrupt its current statement."""
        with self._guard:
            self._cancelled = True
            if self._connection is not None:
                self._connection.interrupt()

    def check(self) -> None:
        """Raise `WorkCancelled` if the caller was cancelled. Call it at each step of long work."""
        if self._cancelled:
            raise WorkCancelled("the caller was cancelled")

    @contextmanager
    def interruptible(self, connection: Interruptible) -> Generator[None]:
        """Let a cancelled caller interrupt what ``connection`` does inside. Keep a rollback outside."""
        with self._guard:
            self.check()
            self._connection = connection
        try:
            yield
        finally:
            with self._guard:
                self._connection = None

    # -- progress

    def reach(self, done: float) -> None:
        """Report that ``done`` of ``total`` is done, if that is more than was reported."""
        self._done = max(self._done, min(int(done), self.total))
        reached = (self._done, self.total)
        if self._progress is not None and reached != self._reported:
            self._reported = reached
            self._progress(*reached)

    def advance(self, size: int) -> None:
        """Count ``size`` more as done, and report it; raise `WorkCancelled` if the caller was cancelled."""
        self.check()
        self.total = max(self.total, self._done + size)
        self.reach(self._done + size)

    def left(self, size: int) -> None:
        """Set how much is left to do.

        The total never shrinks: work that is no longer needed counts as done.
        """
        self.total = max(self.total, self._done + size)
        self._done = self.total - size

    def part(self, begin: float, end: float) -> Part:
        """Return a part of the work, given as two shares of the total as it is now."""
        return Part(self, begin * self.total, end * self.total)

    def guarded(self, function: Callable[_P, _T]) -> Callable[_P, _T]:
        """Return a function of the caller whose errors come out of `run_blocking` unchanged."""

        def call(*arguments: _P.args, **keywords: _P.kwargs) -> _T:
            try:
                return function(*arguments, **keywords)
            except BaseException as error:
                raise CallbackFailed(error) from error

        return call

    # -- for `run_blocking`

    def perform(self, function: Callable[[Work], _T]) -> _T:
        """Call ``function`` in this thread, and report that all is done."""
        with self._guard:
            self.check()  # a caller that has left relies on it
            self._running = True
        try:
            result = function(self)
            self.reach(self.total)
            return result
        finally:
            self._running = False

    async def stop(self) -> None:
        """Return once the thread has ended, interrupting it until it does."""
        with anyio.CancelScope(shield=True):
            self.cancel()
            while self._running:
                await anyio.sleep(_INTERRUPT_SECONDS)
                self.cancel()  # again: an interrupt between two statements has no effect


@dataclass(frozen=True, slots=True)
class Part:
    """A part of some work, measured by itself from 0 to 1."""

    work: Work
    begin: float
    end: float

    def reach(self, share: float) -> None:
        """Report that this share of the part is done."""
        self.work.reach(self.begin + (self.end - self.begin) * min(share, 1.0))

    def part(self, begin: float, end: float) -> Part:
        """Return a part of this part, given as two shares of it."""
        size = self.end - self.begin
        return Part(self.work, self.begin + begin * size, self.begin + end * size)


async def run_blocking(
    function: Callable[[Work], _T],
    work: Work | None = None,
    *,
    limiter: anyio.CapacityLimiter | None = None,
    abandon: bool = False,
) -> _T:
    """Return what ``function(work)`` returns in a worker thread.

    A cancelled caller cancels the work. It then waits for the thread to end, or leaves it behind with
    ``abandon``: do that only if the function touches nothing that another call needs. A function that was not
    begun yet is never called. ``limiter`` is held until the thread has ended or was abandoned.
    """
    mine = work or Work()
    if limiter is None:
        return await _in_thread(function, mine, abandon, None)
    async with limiter:
        # The limiter stays held while a cancelled caller waits, so the thread gets another one: anyio would
        # release it.
        return await _in_thread(function, mine, abandon, anyio.CapacityLimiter(1))


async def _in_thread(
    function: Callable[[Work], _T], work: Work, abandon: bool, limiter: anyio.CapacityLimiter | None
) -> _T:
    try:
        return await anyio.to_thread.run_sync(work.perform, function, abandon_on_cancel=True, limiter=limiter)
    except CallbackFailed as failed:
        error = failed.error
    except BaseException:
        work.cancel()
        if not abandon:
            await work.stop()
        raise
    raise error
