"""From actors to the store: a bounded buffer and one writer task.

An actor only appends to the buffer. The writer gives all buffered facts to ``record_batch``, so a slower
store gets larger batches. A slow or broken store never slows an actor (guarantee 22): a full buffer drops
facts and counts them, the new ones if the store is slow, the oldest ones in an outage.

An outage begins with an error that may pass. The batch is offered again with the same id, after a growing
delay, until the store takes it; facts keep their order.
"""

from __future__ import annotations

import inspect
import random
import time
from collections import deque
from typing import TYPE_CHECKING

import anyio

from papyra._runtime.containment.log import LOG, log_error
from papyra._runtime.containment.stack_guard import need_frames
from papyra._runtime.containment.user_values import bounded_text, is_a
from papyra._runtime.facts.dropped_share import DroppedShare
from papyra.exceptions import PartialWriteError, PersistenceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra._runtime._eventloop import Loop, Waiter
    from papyra._runtime.hook_calls import HookCalls
    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import PersistedRecord

__all__ = ["FactWriter"]

MAX_BATCH_RECORDS = 5_000
"""Records given to the store at once: enough to hide its fixed costs, few enough to stay responsive."""

BACKLOG_RECORDS = 1_000  # buffered facts from which on the store counts as behind
BACKLOG_SECONDS = (
    2.0  # a batch that takes longer is no longer helped: a hanging store must not slow the actors
)

SHOWN_CHARACTERS = 1_000
"""Characters of the text of a store's error in the log."""

LOG_INTERVAL_SECONDS = 10.0  # between two log lines about a store that fails

FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 0.1, 5.0  # between two offers of one batch, before jitter
CLOSING_DELAY_SECONDS = 0.25  # at most, while the system closes


class FactWriter:
    """The buffer of one system's facts, and the task that writes them to the store."""

    def __init__(self, backend: PersistenceBackend, hooks: HookCalls, max_buffer: int) -> None:
        self.backend = backend
        self.buffer: deque[PersistedRecord] = deque()
        self.max_buffer = max_buffer
        self.run = ""
        self.dropped_share = DroppedShare()
        self.at_work = False  # the writer runs, and looks at the buffer again before it waits
        self._hooks = hooks
        self._takes_batch_id = _takes_batch_id(backend)
        self._batch: list[PersistedRecord] = []  # given to the store, and not settled
        self._batch_number = 0
        self._outage: _Outage | None = None
        self._hurried = False  # the system closes
        self._recorded = 0
        self._settled = 0  # facts that are recorded or given up
        self._flushing: list[tuple[int, Waiter]] = []
        self._writer: Waiter | None = None
        self._running = False
        self._closing = False
        self._gave_up = False  # at the close, on the facts that were still buffered
        self._loop: Loop | None = None
        self._next_log = -1.0
        self._unlogged = 0
        self._full = False
        self._batch_began = 0.0

    def bind(self, loop: Loop, run: str) -> None:
        """Set the event loop that the writer runs on, and the id of the run that the facts are of."""
        self._loop = loop
        self.run = run

    def add(self, fact: PersistedRecord) -> None:
        """Buffer a fact, or drop and count it if the buffer is full."""
        if self._outage is not None and not self._closing:
            self._make_room(self._outage)
        elif len(self.buffer) >= self.max_buffer or self._closing:
            self._drop(1)
            if not self._full and not self._closing:
                self._full = True
                LOG.error(
                    "the store is too slow: the buffer of %d facts is full, and new facts are dropped",
                    self.max_buffer,
                )
            return
        self.buffer.append(fact)
        if not self._running:
            self._start_writer()
        else:
            self._wake_writer()
        # Until the writer's turn comes, a burst of facts needs no more than the buffer.
        self.at_work = self._outage is None and not self._closing

    def _start_writer(self) -> None:
        assert self._loop is not None  # noqa: S101 - only a started system has facts
        self._loop.spawn(self._run, lambda: "papyra facts")
        self._running = True

    def _wake_writer(self) -> None:
        writer = self._writer
        if writer is not None and not writer.done():  # done: on asyncio, any code can cancel it
            need_frames()
            writer.set_result(None)
            assert self._loop is not None  # noqa: S101 - as above
            self._loop.rouse()
        self._writer = None

    async def _run(self) -> None:
        assert self._loop is not None  # noqa: S101 - as above
        try:
            while True:
                self.at_work = bool(self.buffer) and not self._closing
                if self.buffer:
                    await self._write_batch()
                elif self._closing:
                    return
                else:
                    self._writer = self._loop.waiter()
                    await self._writer
        finally:
            self._running = self.at_work = False
            self._writer = None
            self._wake_flushing(everyone=True)

    def _make_room(self, outage: _Outage) -> None:
        """Drop the oldest facts until there is room for one more."""
        while self.buffered >= self.max_buffer:
            if outage.waiting is not None and self._batch:
                del self._batch[0]
            elif self.buffer:
                self.buffer.popleft()
            else:  # the store has the batch: one fact more than fits
                break
            self._settled += 1
            self._drop(1)
            outage.dropped += 1
            if outage.dropped == 1:
                LOG.error(
                    "the %s store is away and the buffer of %d facts is full: the oldest facts are dropped",
                    self._store_name,
                    self.max_buffer,
                )

    async def _write_batch(self) -> None:
        buffer = self.buffer
        self._batch = [buffer.popleft() for _ in range(min(len(buffer), MAX_BATCH_RECORDS))]
        self._batch_number += 1
        try:
            while not await self._offer():
                await self._wait_in_outage()
        except BaseException:  # cancelled: the event loop ends before the system's aclose()
            if not self._gave_up:
                self._drop(len(self._batch))
            raise
        finally:
            self._settled += len(self._batch)
            self._batch = []
            self._full = False
            self._wake_flushing()

    async def _offer(self) -> bool:
        """Give the batch to the store. Return whether it is settled: stored, or given up and counted."""
        if self._gave_up or not self._batch:
            return True
        batch, metrics = self._batch, self.backend.metrics
        self._batch_began = time.monotonic()
        errors_before = metrics.write_errors
        try:
            if self._takes_batch_id:
                await self.backend.record_batch(batch, batch_id=f"{self.run}:{self._batch_number}")
            else:
                await self.backend.record_batch(batch)
        except Exception as error:  # noqa: BLE001 - any error of a store is counted, logged and reported, and harms no actor
            if metrics.write_errors == errors_before:  # the backend does not count them itself
                metrics.write_errors += 1
            return self._refused(error)
        self._record(len(batch))
        if self._outage is not None:
            self._end_outage(self._outage)
        return True

    @property
    def facts_ever(self) -> int:
        """The number of facts of the run so far, those that were dropped included."""
        return self._recorded + self.buffered + self.backend.metrics.records_dropped

    def _record(self, facts: int) -> None:
        self._recorded += facts
        self.dropped_share.count(recorded=facts)

    def _drop(self, facts: int) -> None:
        self.backend.metrics.records_dropped += facts
        self.dropped_share.count(dropped=facts)

    def _refused(self, error: Exception) -> bool:
        lost = error.failed if is_a(error, PartialWriteError) else len(self._batch)
        self._record(max(0, len(self._batch) - lost))
        if self._may_pass(error) and not self._gave_up:
            stored = len(self._batch) - lost
            if stored > 0:
                del self._batch[:stored]
                self._settled += stored
                self._batch_number += 1  # other records, so another id
            self._begin_outage(error)
            return False
        if not self._gave_up:  # otherwise they are counted already
            self._drop(lost)
        self._outage = None
        self._report(error, lost)
        return True

    def _may_pass(self, error: Exception) -> bool:
        retry = error.retry if is_a(error, PersistenceError) else None
        return self.backend.retries if retry is None else retry

    def _begin_outage(self, error: Exception) -> None:
        if self._outage is None:
            self._outage = _Outage()
            text = "the %s store can't be written; its facts wait and are offered again: %s"
            log_error(text, self._store_name, bounded_text(error, SHOWN_CHARACTERS), error=error)
            self._hooks.call("on_persistence_error", error)

    def _end_outage(self, outage: _Outage) -> None:
        self._outage = None
        LOG.warning(
            "the %s store takes facts again after %.1f s; %d were dropped",
            self._store_name,
            time.monotonic() - outage.began,
            outage.dropped,
        )

    async def _wait_in_outage(self) -> None:
        outage = self._outage
        assert outage is not None  # noqa: S101 - an offer was refused
        assert self._loop is not None  # noqa: S101 - as above
        delay = outage.next_delay()
        self.at_work = False  # new facts come through `add`, which makes room
        self._batch_began = -BACKLOG_SECONDS  # actors that wait would not help
        outage.waiting = self._loop.waiter()
        try:
            with anyio.move_on_after(min(delay, CLOSING_DELAY_SECONDS) if self._hurried else delay):
                await outage.waiting
        finally:
            outage.waiting = None

    def _hurry(self) -> None:
        """Offer the batch at once, and often from now on: the system closes."""
        self._hurried = True
        if self._outage is not None and self._outage.waiting is not None and not self._outage.waiting.done():
            self._outage.waiting.set_result(None)

    def _report(self, error: Exception, lost: int) -> None:
        self._unlogged += lost
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + LOG_INTERVAL_SECONDS
            lost, self._unlogged = self._unlogged, 0
            text = bounded_text(error, SHOWN_CHARACTERS)
            log_error("the %s store did not take %d facts: %s", self._store_name, lost, text, error=error)
        self._hooks.call("on_persistence_error", error)

    def _wake_flushing(self, *, everyone: bool = False) -> None:
        waiting: list[tuple[int, Waiter]] = []
        for target, waiter in self._flushing:
            if not everyone and self._settled < target:
                waiting.append((target, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._flushing = waiting

    def is_backlogged(self) -> bool:
        """Return whether the store is behind, and its batch is so recent that waiting helps it."""
        return len(self.buffer) > BACKLOG_RECORDS and time.monotonic() - self._batch_began < BACKLOG_SECONDS

    @property
    def buffered(self) -> int:
        """The number of facts that are not yet recorded."""
        return len(self._batch) + len(self.buffer)

    @property
    def _store_name(self) -> str:
        return self.backend.name or type(self.backend).__name__

    async def flush(self) -> None:
        """Return when every fact so far is recorded, or given up and counted."""
        so_far = self._settled + self.buffered
        while self._settled < so_far and (self._running or self.buffer) and self._loop is not None:
            if not self._running:
                self._start_writer()  # it was cancelled
            waiter = self._loop.waiter()
            self._flushing.append((so_far, waiter))
            await waiter
        if not self._closing:
            await self.backend.flush()

    def abandon(self) -> None:
        """Accept no more facts: the event loop has ended, and the writer with it."""
        self._closing = True
        self.at_work = False
        self._writer = None
        self.buffer.clear()

    async def close(self, seconds: float, closing_seconds: float, last: Callable[[], None]) -> None:
        """Record the buffered facts within ``seconds``, and close the store; facts that are left are counted.

        ``last`` adds the last fact.
        """
        deadline = anyio.current_time() + seconds
        self._hurry()
        await self._bounded("flushing", self.flush, seconds)
        last()
        self._closing = True
        self.at_work = False
        self._wake_writer()
        # Facts that came during the flush: a message to a stopped actor still is a dead letter.
        await self._bounded("flushing", self.flush, deadline - anyio.current_time())
        left = self.buffered
        if left > 0 and not self._gave_up:
            self._gave_up = True
            self.buffer.clear()
            self._hurry()  # the writer ends
            self._drop(left)
            LOG.error("the store did not take %d facts within %.3g s at the close", left, seconds)
        if await self._bounded("closing", self.backend.aclose, closing_seconds):
            LOG.error("closing the store did not end within %.3g s", closing_seconds)

    async def _bounded(self, what: str, call: Callable[[], Awaitable[None]], seconds: float) -> bool:
        """Call the store for at most ``seconds``; its errors are logged.

        Return whether the call was cancelled.
        """
        scope = anyio.CancelScope(shield=True, deadline=anyio.current_time() + seconds)
        try:
            # The handlers are outside of the scope, because on trio an error and a cancellation may come as
            # one group.
            with scope:
                await call()
        except Exception as error:  # noqa: BLE001 - of the store, which may be user code
            log_error("%s the store raised; the system closes all the same", what, error=error)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised in the host, when everything is closed
            assert self._loop is not None  # noqa: S101 - a system that closes was started
            self._loop.fatal(error)
        return scope.cancelled_caught


class _Outage:
    """The time from an error that may pass to the next batch that the store takes."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.dropped = 0
        self.waiting: Waiter | None = None  # of the writer, between two offers
        self._delay = FIRST_DELAY_SECONDS

    def next_delay(self) -> float:
        """Return the seconds until the next offer.

        They double, up to a maximum, and vary so that systems spread.
        """
        delay = self._delay
        self._delay = min(2 * delay, MAX_DELAY_SECONDS)
        return delay * random.uniform(0.8, 1.0)  # noqa: S311 - not a secret


def _takes_batch_id(backend: PersistenceBackend) -> bool:
    """Return whether ``record_batch`` has the parameter; a backend for papyra-core 0.3 has not."""
    try:
        parameters = inspect.signature(backend.record_batch).parameters
    except (TypeError, ValueError):  # a callable without a signature
        return False
    return "batch_id" in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )
