"""From actors to the store: history in memory, a bounded buffer, and one writer task.

An actor only appends to the buffer. The writer hands all that waits to ``record_batch``, so the slower the
store, the larger the batches. A full buffer drops what comes and counts it: a slow or broken store never
slows an actor (guarantee 22).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import anyio

from papyra import events as ev
from papyra.exceptions import PartialWriteError
from papyra.messages import DeadLetter
from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra.persistence.payload import clean_text, json_payload
from papyra.ref import ActorRef

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra._runtime._eventloop import Loop, Waiter
    from papyra._runtime.callbacks import Callbacks
    from papyra._runtime.cell import Cell
    from papyra.audit import AuditReport
    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import JSONValue, PersistedRecord
    from papyra.settings import Settings

__all__ = ["Facts"]

_KINDS = {
    kind.__name__: kind for kind in (ev.ActorStarted, ev.ActorRestarted, ev.ActorStopped, ev.ActorCrashed)
}

_logger = logging.getLogger("papyra")

MAX_BATCH = 5_000
"""Records handed to the store at once: enough to make its fixed costs vanish, few enough to stay responsive."""

PRESSURE = 1_000  # facts that wait, from which on the store is helped along
PATIENCE = 2.0  # seconds for which a batch is helped: a store that hangs must not slow the actors

_LOG_EVERY = 10.0  # seconds between two log lines about a store that fails


class Facts:
    """The facts of one system."""

    def __init__(
        self,
        system_id: str,
        backend: PersistenceBackend,
        callbacks: Callbacks,
        clock: Callable[[], float],
        settings: Settings,
    ) -> None:
        self.clock = clock
        self.backend = backend
        self.letters: deque[DeadLetter] = deque(maxlen=settings.max_dead_letters)
        self.letters_ever = 0
        self._system_id = system_id
        self._callbacks = callbacks
        self._max_buffer = settings.fact_buffer
        self._payload_limit = settings.payload_limit
        self._events: deque[PersistedEvent] = deque(maxlen=settings.max_events)
        self._events_ever = 0
        self._event_waiters: list[Waiter] = []
        self.tells_events = False
        self._buffer: deque[PersistedRecord] = deque()
        self._under_way = 0  # facts that the store has been given
        self._settled = 0  # that are recorded or given up
        self._flushing: list[tuple[int, Waiter]] = []
        self._writer: Waiter | None = None
        self._running = False
        self._at_work = False  # the writer runs, and looks into the buffer before it waits
        self._closing = False
        self._gave_up = False  # at the close, on what the store had not taken
        self._loop: Loop | None = None
        self._next_log = -1.0
        self._unlogged = 0
        self._full = False
        self._batch_began = 0.0

    def bind(self, loop: Loop) -> None:
        """Say which event loop the writer runs on."""
        self._loop = loop
        self.tells_events = self._callbacks.wants("on_event")

    # -- what happened

    def event(self, kind: type[ev.ActorEvent], cell: Cell, payload: dict[str, JSONValue]) -> None:
        """Note a lifecycle event."""
        system_id, buffer = self._system_id, self._buffer
        # The record as it goes to the store is kept as the history, too: one object for both.
        fact = PersistedEvent(system_id, f"{system_id}:{cell.id}", kind.__name__, payload, self.clock())
        self._events.append(fact)
        self._events_ever += 1
        if self._at_work and len(buffer) < self._max_buffer:
            buffer.append(fact)  # `_add`, without a call
        else:
            self._add(fact)
        if self.tells_events:
            self._callbacks.call("on_event", self._materialize(fact))
        if self._event_waiters:
            self.rouse()

    def crash(self, cell: Cell, error: BaseException) -> None:
        """Note that an actor's code raised ``error``."""
        try:
            said = str(error)
        except Exception as broken:  # noqa: BLE001 - an exception's text is user code
            said = f"<text raised {type(broken).__name__}>"
        text = clean_text(
            f"{type(error).__name__}: {said}" if said else type(error).__name__, self._payload_limit
        )
        cell.rt.tallies.of(cell.actor_type).failures += 1
        self.event(ev.ActorCrashed, cell, {"error": text, "reason": text})

    def dead_letter(self, cell: Cell, message: object, *, expects_reply: bool) -> None:
        """Note a message that was not handled."""
        now = self.clock()
        letter = DeadLetter(ActorRef(cell), message, expects_reply, now)
        self.letters.append(letter)
        self.letters_ever += 1
        # The payload is copied here and now: the sender may change its message later.
        self._add(
            PersistedDeadLetter(
                self._system_id,
                f"{self._system_id}:{cell.id}",
                type(message).__name__,
                json_payload(message, self._payload_limit),
                now,
            )
        )
        self._callbacks.call("on_dead_letter", letter)

    def audit(self, report: AuditReport) -> None:
        """Note an audit."""
        self._add(
            PersistedAudit(
                report.system_id,
                report.timestamp,
                report.total_actors,
                report.alive_actors,
                report.stopping_actors,
                report.restarting_actors,
                report.registry_size,
                report.registry_orphans,
                report.registry_dead,
                report.dead_letters_count,
            )
        )
        self._callbacks.call("on_audit", report)

    # -- history

    def events(self, start: int = 0) -> list[ev.ActorEvent]:
        """Return the kept events from the ``start``-th on, counted from the first there ever was."""
        skip = max(0, start - (self._events_ever - len(self._events)))
        return [self._materialize(fact) for fact in islice(self._events, skip, None)]

    @property
    def events_ever(self) -> int:
        """How many events there ever were."""
        return self._events_ever

    def rouse(self) -> None:
        """Have those that wait for an event look again."""
        waiters, self._event_waiters = self._event_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def next_event(self) -> None:
        """Return once there is another event."""
        assert self._loop is not None  # noqa: S101 - only a started system has events
        waiter = self._loop.waiter()
        self._event_waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._event_waiters:
                self._event_waiters.remove(waiter)

    def _materialize(self, fact: PersistedEvent) -> ev.ActorEvent:
        actor_id = int(fact.actor_address.rpartition(":")[2])
        return _KINDS[fact.event_type](
            {"system": self._system_id, "actor_id": actor_id}, dict(fact.payload), fact.timestamp
        )

    # -- the way to the store

    def _add(self, fact: PersistedRecord) -> None:
        if len(self._buffer) >= self._max_buffer or self._closing:
            self.backend.metrics.records_dropped += 1
            if not self._full and not self._closing:
                self._full = True
                _logger.error(
                    "the store of facts is slower than the facts: the buffer of %d is full and facts are dropped",
                    self._max_buffer,
                )
            return
        self._buffer.append(fact)
        if not self._running:
            self._start_writer()
        else:
            self._wake_writer()

    def _start_writer(self) -> None:
        self._running = True
        assert self._loop is not None  # noqa: S101 - nothing happens in a system that is not started
        self._loop.spawn(self._run, lambda: "papyra facts")

    def _wake_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():  # done: somebody cancelled it, as on asyncio anybody can
            writer.set_result(None)

    async def _run(self) -> None:
        assert self._loop is not None  # noqa: S101 - see _add
        try:
            while True:
                self._at_work = bool(self._buffer) and not self._closing
                if self._buffer:
                    await self._write_batch()
                elif self._closing:
                    return
                else:
                    self._writer = self._loop.waiter()
                    await self._writer
        finally:
            self._running = self._at_work = False
            self._writer = None
            self._wake_flushing(everyone=True)

    async def _write_batch(self) -> None:
        buffer = self._buffer
        batch = [buffer.popleft() for _ in range(min(len(buffer), MAX_BATCH))]
        self._under_way = len(batch)
        self._batch_began = time.monotonic()
        metrics = self.backend.metrics
        errors_before = metrics.write_errors
        try:
            await self.backend.record_batch(batch)
        except Exception as error:  # noqa: BLE001 - whatever a store raises is counted, logged and told, and harms no actor
            lost = error.failed if isinstance(error, PartialWriteError) else len(batch)
            if not self._gave_up:  # else they are counted already
                metrics.records_dropped += lost
            if metrics.write_errors == errors_before:  # a backend that does not count for itself
                metrics.write_errors += 1
            self._report(error, lost)
        except BaseException:  # cancelled: the event loop ends without the system's aclose()
            if not self._gave_up:
                metrics.records_dropped += len(batch)
            raise
        finally:
            self._under_way = 0
            self._settled += len(batch)
            self._full = False
            self._wake_flushing()

    def _report(self, error: Exception, lost: int) -> None:
        self._unlogged += lost
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY
            _logger.error(
                "the %s store did not take %d facts: %s",
                self.backend.name or type(self.backend).__name__,
                self._unlogged,
                error,
                exc_info=error,
            )
            self._unlogged = 0
        self._callbacks.call("on_persistence_error", error)

    def _wake_flushing(self, *, everyone: bool = False) -> None:
        waiting: list[tuple[int, Waiter]] = []
        for target, waiter in self._flushing:
            if not everyone and self._settled < target:
                waiting.append((target, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._flushing = waiting

    def is_backlogged(self) -> bool:
        """Whether a store that is at work has fallen behind, and not for so long that nothing helps it."""
        return len(self._buffer) > PRESSURE and time.monotonic() - self._batch_began < PATIENCE

    @property
    def buffered(self) -> int:
        """How many facts wait for the store."""
        return self._under_way + len(self._buffer)

    async def flush(self) -> None:
        """Return once every fact so far is recorded, or given up and counted."""
        so_far = self._settled + self.buffered
        while self._settled < so_far and (self._running or self._buffer) and self._loop is not None:
            if not self._running:
                self._start_writer()  # it was cancelled
            waiter = self._loop.waiter()
            self._flushing.append((so_far, waiter))
            await waiter
        if not self._closing:
            await self.backend.flush()

    def abandon(self) -> None:
        """Take nothing any more: the event loop has ended, and the writer with it."""
        self._closing = True
        self._at_work = False
        self._writer = None
        self._buffer.clear()

    async def close(self, seconds: float) -> None:
        """Record what waits, within ``seconds``, and close the store; what did not get through is counted."""
        deadline = anyio.current_time() + seconds
        await self._bounded("flushing", self.flush, seconds)
        self._closing = True
        self._at_work = False
        self._wake_writer()
        # What came while the store flushed: a message to an actor that has stopped is a dead letter still.
        await self._bounded("flushing", self.flush, deadline - anyio.current_time())
        left = self.buffered
        if left > 0 and not self._gave_up:
            self._gave_up = True
            self._buffer.clear()
            self.backend.metrics.records_dropped += left
            _logger.error("the store of facts did not take %d facts within %s s at the close", left, seconds)
        if await self._bounded("closing", self.backend.aclose, seconds):
            _logger.error("closing the store of facts did not end within %s s", seconds)

    async def _bounded(self, what: str, call: Callable[[], Awaitable[None]], seconds: float) -> bool:
        """Make a call of the store, for so long at most, whatever it raises. Return whether it was cut off."""
        scope = anyio.CancelScope(shield=True, deadline=anyio.current_time() + seconds)
        try:
            # The handlers stand outside of the scope: on trio an error and a cancellation may come as one group.
            with scope:
                await call()
        except Exception:
            _logger.exception("%s the store of facts raised; the system closes all the same", what)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - handed to the host, when everything is closed
            assert self._loop is not None  # noqa: S101 - a system that closes was started
            self._loop.fatal(error)
        return scope.cancelled_caught
