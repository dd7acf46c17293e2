"""Run blocking work in a thread, and have a cancelled caller interrupt it instead of waiting it out."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from papyra_contrib._progress import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Interrupted", "Job", "Jobs"]

_T = TypeVar("_T")

_INTERRUPT_EVERY = 0.02


class Interruptible(Protocol):
    """A connection whose work another thread may stop."""

    def interrupt(self) -> None:
        """Stop what is being done."""


class Interrupted(Exception):
    """The caller was cancelled; raised in the thread only, and never seen outside."""


class Job:
    """What a thread at work shares with the task that waits for it."""

    def __init__(self) -> None:
        self.cancelled = False
        self._guard = threading.Lock()
        self._connection: Interruptible | None = None

    def check(self) -> None:
        """Raise `Interrupted` if the caller was cancelled."""
        if self.cancelled:
            raise Interrupted

    def interrupt(self) -> None:
        """Stop the job where it can be stopped; called from the event loop."""
        self.cancelled = True
        with self._guard:
            if self._connection is not None:
                self._connection.interrupt()

    @contextmanager
    def interruptible(self, connection: Interruptible) -> Generator[None]:
        """Let what ``connection`` does be interrupted inside. A rollback must stand outside."""
        self.check()
        with self._guard:
            self._connection = connection
        try:
            yield
        finally:
            with self._guard:
                self._connection = None


class _Outcome(Generic[_T]):
    value: _T
    error: BaseException | None = None


class Jobs:
    """A queue for jobs, of which ``at_once`` run at the same time."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._limiter: anyio.CapacityLimiter | None = None  # made inside the event loop it belongs to

    async def run(self, function: Callable[[Job], _T]) -> _T:
        """Return what ``function`` returns in a thread.

        A caller cancelled while it queues leaves at once; one cancelled later leaves when the function, told
        by its job, has ended.
        """
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._at_once)
        job, ended, outcome = Job(), anyio.Event(), _Outcome[_T]()

        def work() -> None:
            # Errors are carried over by hand, or the task group would wrap them.
            try:
                outcome.value = function(job)
            except BaseException as error:  # noqa: BLE001 - raised again in the task that waits
                outcome.error = error

        async with anyio.create_task_group() as group:
            group.start_soon(_interrupt_when_cancelled, job, ended)
            try:
                await anyio.to_thread.run_sync(work, limiter=self._limiter)
            except BaseException:
                # asyncio's own cancel(), unlike a scope's, comes through while the thread still runs.
                job.interrupt()
                raise
            finally:
                ended.set()
        if isinstance(outcome.error, Interrupted) or job.cancelled:
            await anyio.lowlevel.checkpoint_if_cancelled()
        if isinstance(outcome.error, Stopped):
            raise outcome.error.error
        if outcome.error is not None:
            raise outcome.error
        return outcome.value


async def _interrupt_when_cancelled(job: Job, ended: anyio.Event) -> None:
    try:
        await ended.wait()
    finally:
        # Again and again: an interrupt between two statements has no effect.
        with anyio.CancelScope(shield=True):
            while not ended.is_set():
                job.interrupt()
                with anyio.move_on_after(_INTERRUPT_EVERY):
                    await ended.wait()
