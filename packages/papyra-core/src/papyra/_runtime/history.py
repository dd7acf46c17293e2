"""The newest events and dead letters of one system, on their way to its users and to the store.

Each fact is kept in memory, given to the writer (`papyra._runtime.fact_writer`) and reported to the hooks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from papyra import events as ev
from papyra._runtime.containment.class_names import ClassNames
from papyra._runtime.containment.stack_guard import need_frames
from papyra._runtime.containment.user_values import bounded_text, is_a, leaves, type_name
from papyra._runtime.facts.dead_letters import DeadLetterBook
from papyra.messages import DeadLetter
from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra.persistence.payload import clean_text
from papyra.ref import ActorRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime._eventloop import Loop, Waiter
    from papyra._runtime.cell import Cell
    from papyra._runtime.fact_writer import FactWriter
    from papyra._runtime.hook_calls import HookCalls
    from papyra.audit import AuditReport
    from papyra.deadletters import DeadLetterPolicy
    from papyra.persistence.models import JSONValue
    from papyra.settings import Settings

__all__ = ["History"]

_KINDS = {
    kind.__name__: kind
    for kind in (ev.ActorStarted, ev.ActorRestarted, ev.ActorStopped, ev.ActorCrashed, ev.NodeUp, ev.NodeDown)
}

MAX_CAUSES = 3
"""Exceptions of a group that its text names."""


def error_text(error: BaseException, limit: int) -> str:
    """Return the type and the text of an exception, cut at ``limit`` characters.

    A group is followed by the first exceptions in it: its own text does not name the cause.
    """
    kind = type_name(type(error))
    text = bounded_text(error, limit)
    whole = f"{kind}: {text}" if text else kind
    if is_a(error, BaseExceptionGroup):
        causes = [error_text(leaf, limit) for leaf in leaves(error)[:MAX_CAUSES]]
        whole += f" [{'; '.join(causes)}]"
    return clean_text(whole, limit)


# An event in the making: its fields can be set, until it becomes a `PersistedEvent`. CPython sets attributes
# fast only where a class has neither a `__setattr__` nor a `__delattr__` of its own.
_Draft: Any = type(
    "_Draft",
    (PersistedEvent,),
    {
        "__slots__": (),
        "__init__": object.__init__,
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    },
)


class History:
    """The facts of one system, as they happen."""

    def __init__(
        self,
        system_id: str,
        writer: FactWriter,
        hooks: HookCalls,
        clock: Callable[[], float],
        settings: Settings,
        dead_letter_policy: DeadLetterPolicy,
    ) -> None:
        self.clock = clock
        self.dead_letters = DeadLetterBook(
            dead_letter_policy, settings.max_dead_letters, settings.payload_limit
        )
        self.class_names = ClassNames()
        self._last_class: tuple[type | None, str] = None, ""  # of the last event, and its name
        self.run = ""
        self.events_ever = 0
        self.crashes_ever = 0
        self.reports_events = False  # whether a hook wants events
        self._system_id = system_id
        self._writer = writer
        self._hooks = hooks
        self._payload_limit = settings.payload_limit
        self._events: deque[PersistedEvent] = deque(maxlen=settings.max_events)
        self._event_waiters: dict[Waiter, None] = {}
        self._loop: Loop | None = None

    def bind(self, loop: Loop, run: str) -> None:
        """Set the event loop of the waits for events, and the id of the run that facts carry."""
        self._loop = loop
        self.run = run
        self.reports_events = self._hooks.wants("on_event")

    # -- notes

    def event(self, kind: str, cell: Cell, payload: dict[str, JSONValue]) -> None:
        """Note a lifecycle event with its whole payload."""
        system_id, writer = self._system_id, self._writer
        # A call of `PersistedEvent` takes 0.3 us more, and each actor's life has two events.
        fact = _Draft()
        fact.system_id = system_id
        fact.actor_address = f"{system_id}:{cell.id}"
        fact.event_type = kind
        fact.payload = payload
        fact.timestamp = self.clock()
        fact.run = self.run
        fact.__class__ = PersistedEvent
        self._events.append(fact)  # one object is the record for the store and the history
        self.events_ever += 1
        if writer.at_work and len(writer.buffer) < writer.max_buffer:
            writer.buffer.append(fact)  # `FactWriter.add`, without a call
        else:
            writer.add(fact)
        if self.reports_events:
            self._hooks.call("on_event", self._materialize(fact))
        if self._event_waiters:
            self.wake_waiters()

    def _identity(self, cell: Cell) -> dict[str, JSONValue]:
        """Return the class and the name of an actor, with which each of its payloads begins."""
        kind = cell.actor_type
        if kind is None:
            return {}
        name = self.class_names.of(kind)
        self._last_class = kind, name
        payload: dict[str, JSONValue] = {"type": name}
        if cell.name is not None:
            payload["name"] = clean_text(cell.name)
        return payload

    def started(self, cell: Cell) -> None:
        """Note the start of an actor."""
        parent = cell.parent
        kind, name = self._last_class
        # `_identity`, without a call where that is all: most have no name, and many of a class come in a row.
        payload: dict[str, JSONValue] = (
            {"type": name} if kind is cell.actor_type and cell.name is None else self._identity(cell)
        )
        if parent is not None and parent.parent is not None:  # users don't know the guardian
            payload["parent"] = f"{self._system_id}:{parent.id}"
        self.event("ActorStarted", cell, payload)

    def crash(
        self, cell: Cell, error: BaseException, during: str, decision: str | None, restarts: int
    ) -> PersistedEvent:
        """Note that an actor's code raised ``error``.

        ``during`` is the type of the message that was handled, or the name of the method. Without a
        ``decision``, which the parent still has to make, the event is only built: `note` follows, so that the
        record and `events` have one order.
        """
        self.crashes_ever += 1
        cell.rt.tallies.of(cell.actor_type).failures += 1
        text = error_text(error, self._payload_limit)
        payload = {**self._identity(cell), "message_type": during, "error": text}
        fact = PersistedEvent(
            self._system_id, f"{self._system_id}:{cell.id}", "ActorCrashed", payload, self.clock(), self.run
        )
        if decision is not None:
            self.decided(fact, decision, restarts)
            self.note(fact)
        return fact

    def decided(self, crash: PersistedEvent, decision: str, restarts: int) -> None:
        """Add the decision to a crash, and the number of restarts that count, the coming one included."""
        crash.payload["decision"] = decision
        crash.payload["restarts"] = restarts

    def note(self, fact: PersistedEvent) -> None:
        """Add a crash to the events and to the record, and report it."""
        self._events.append(fact)
        self.events_ever += 1
        self._writer.add(fact)
        if self.reports_events:
            self._hooks.call("on_event", self._materialize(fact))
        self.wake_waiters()

    def restarted(self, cell: Cell, reason: str) -> None:
        """Note that an actor runs again."""
        cell.rt.tallies.of(cell.actor_type).restarts += 1
        payload = self._identity(cell)
        payload["reason"] = reason
        payload["restarts"] = cell.group.restarts if cell.group is not None else len(cell.restarts or ())
        if cell.restarts is not None and cell.restarts.delay:
            payload["delay"] = round(cell.restarts.delay, 3)
        self.event("ActorRestarted", cell, payload)

    def stopped(self, cell: Cell) -> None:
        """Note the end of an actor."""
        kind, name = self._last_class
        payload: dict[str, JSONValue]
        if kind is cell.actor_type and cell.name is None:  # as in `started`
            payload = {"type": name, "reason": cell.reason, "processed": cell.processed}
        else:
            payload = {**self._identity(cell), "reason": cell.reason, "processed": cell.processed}
        if cell.failure is not None and cell.reason in ("failed", "restart_limit"):
            payload["error"] = error_text(cell.failure, self._payload_limit)
        self.event("ActorStopped", cell, payload)

    def dead_letter(
        self, cell: Cell, message: object, *, expects_reply: bool, reason: str = "stopped"
    ) -> None:
        """Note a message that was not handled."""
        book = self.dead_letters
        if not book.count(message):
            return
        now = self.clock()
        letter = DeadLetter(ActorRef(cell), message, expects_reply, now, reason)
        book.letters.append(letter)
        # The payload is copied now, because the sender may change its message later.
        message_type, payload = book.describe(message)
        self._writer.add(
            PersistedDeadLetter(
                self._system_id,
                f"{self._system_id}:{cell.id}",
                message_type,
                payload,
                now,
                reason,
                cell.name,
                self.class_names.of(cell.actor_type) if cell.actor_type is not None else "",
                self.run,
            )
        )
        book.log(cell, message_type, reason)
        self._hooks.call("on_dead_letter", letter)

    def audit(self, report: AuditReport) -> None:
        """Note an audit."""
        self._writer.add(
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
                {name: value for name, value in asdict(report.mailbox_depth).items() if value is not None},
                self.run,
            )
        )
        self._hooks.call("on_audit", report)

    # -- reads

    def events(self, start: int = 0, actor: str | None = None) -> list[ev.ActorEvent]:
        """Return the kept events from number ``start`` on, counted from the first event of the system.

        With the address of an ``actor``, only its events.
        """
        if start:  # no walk over older ones
            kept = list(islice(reversed(self._events), max(0, self.events_ever - start)))[::-1]
        else:
            kept = list(self._events)  # at once: it may be another thread that asks
        return [self._materialize(fact) for fact in kept if actor is None or fact.actor_address == actor]

    def wake_waiters(self) -> None:
        """Let every wait for an event look again."""
        if self._event_waiters:
            need_frames()
        waiters, self._event_waiters = self._event_waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for_event(
        self,
        kind: type[ev.ActorEvent] | Callable[[ev.ActorEvent], bool],
        start: int,
        closed: Callable[[], bool],
    ) -> ev.ActorEvent | None:
        """Return the first event from number ``start`` on that fits; None if the system closes first."""
        while True:
            for event in self.events(start):
                if isinstance(event, kind) if isinstance(kind, type) else kind(event):
                    return event
            start = max(start, self.events_ever)
            if closed():
                return None
            await self._next_event()

    async def _next_event(self) -> None:
        """Return when another event has happened."""
        assert self._loop is not None  # noqa: S101 - only a started system has events
        waiter = self._loop.waiter()
        self._event_waiters[waiter] = None
        try:
            await waiter
        finally:
            self._event_waiters.pop(waiter, None)

    def _materialize(self, fact: PersistedEvent) -> ev.ActorEvent:
        actor_id = int(fact.actor_address.rpartition(":")[2])
        return _KINDS[fact.event_type](
            {"system": self._system_id, "actor_id": actor_id}, dict(fact.payload), fact.timestamp
        )
