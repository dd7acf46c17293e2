"""Blocking code of actors, in threads that the system limits."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime._eventloop import Loop
    from papyra._runtime.cell import Cell

__all__ = ["BLOCKING_JOB", "BlockingJob", "BlockingThreads"]

BLOCKING_JOB: ContextVar[BlockingJob | None] = ContextVar("papyra_blocking_job", default=None)
"""Set in a thread: the job that it does for an actor."""


class BlockingJob:
    """A function in a thread. ``cell`` is the actor whose own code waits for it, if one does."""

    __slots__ = ("_args", "_begun", "_ended", "_fn", "_left", "_lock", "_threads", "cell")

    def __init__(
        self, threads: BlockingThreads, cell: Cell | None, fn: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self._threads = threads
        self.cell = cell
        self._fn = fn
        self._args = args
        self._lock = threading.Lock()
        self._begun = self._ended = self._left = False

    def __call__(self) -> Any:
        """Run the function, in the thread."""
        with self._lock:
            if self._left:
                return None
            self._begun = True
        BLOCKING_JOB.set(self)  # in the copy of the context variables that anyio makes for the thread
        try:
            return self._fn(*self._args)
        finally:
            with self._lock:
                self._ended = True
                left = self._left
            if left:
                self._threads.give_back_from_thread(self)

    def leave(self) -> bool:
        """Note that no caller waits any more. Return whether the thread is still running."""
        with self._lock:
            self._left = True
            self.cell = None
            return self._begun and not self._ended


class BlockingThreads:
    """The threads of one system.

    Tokens are counted here, not in anyio: on asyncio, anyio takes the token back from an abandoned thread
    that is still running.
    """

    def __init__(self, loop: Loop, total: int) -> None:
        self._loop = loop
        self._tokens = anyio.CapacityLimiter(total)
        self._unlimited = anyio.CapacityLimiter(math.inf)

    @property
    def running(self) -> int:
        """The number of running threads, including abandoned ones."""
        return self._tokens.borrowed_tokens

    async def run(
        self, cell: Cell | None, fn: Callable[..., Any], args: tuple[Any, ...], *, abandon: bool
    ) -> Any:
        """Run ``fn(*args)`` in a thread and return what it returns."""
        job = BlockingJob(self, cell, fn, args)
        await self._tokens.acquire_on_behalf_of(job)
        try:
            return await anyio.to_thread.run_sync(job, abandon_on_cancel=abandon, limiter=self._unlimited)
        finally:
            if not job.leave():
                self._give_back(job)

    def give_back_from_thread(self, job: BlockingJob) -> None:
        """Take the token back from an abandoned thread that has ended."""
        with suppress(RuntimeError):  # the event loop has ended, and nobody wants the token any more
            self._loop.from_thread(lambda: self._give_back(job))

    def _give_back(self, job: BlockingJob) -> None:
        self._tokens.release_on_behalf_of(job)
