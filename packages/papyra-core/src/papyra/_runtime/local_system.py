"""The operations of a cluster on the actors of this process, its only access to the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from papyra._runtime.containment.frames import calls_actor
from papyra._runtime.containment.log import log_error
from papyra._runtime.delivery.sending import deliver, has_room
from papyra._runtime.envelope import Envelope
from papyra._runtime.mailbox import enqueue, raise_stopped
from papyra._runtime.phases import STOPPED, STOPPING_CHILDREN
from papyra._runtime.process.background import Background
from papyra.messages import ActorTerminated
from papyra.ref import ActorRef

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from papyra._runtime.cell import Cell
    from papyra._runtime.running_system import RunningSystem
    from papyra.actor import Actor
    from papyra.events import ActorEvent
    from papyra.persistence.models import JSONValue
    from papyra.system import ActorSystem

__all__ = ["LocalSystem", "Mail"]

_WATCHERS_KEY = -1  # in `Cell.watchers`, beside the ids of local watchers


class Answered(Protocol):
    """Takes the reply to an ask, or the error that it ended with."""

    def __call__(self, value: object, error: BaseException | None, /) -> None: ...


class Mail:
    """A message from another node on its way into a mailbox."""

    __slots__ = ("_answered", "item", "message")

    def __init__(
        self,
        message: object,
        answered: Answered | None = None,
        inside: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self._answered = answered
        self.message = message
        self.item = message
        if answered is not None or inside is not None:
            self.item = envelope = Envelope(message, expects_reply=answered is not None)
            if inside is not None:
                envelope.call = _received_inside(message, inside)

    def delivered(self) -> None:
        """Have the reply sent to the asker's node.

        Call it after the delivery: until then, `sending.deliver` uses the envelope's waiter for its own wait.
        """
        item = self.item
        if self._answered is None or type(item) is not Envelope:
            return
        asker = _RemoteAsker(item, self._answered)
        if item.replied:
            asker.set_result(None)
        else:
            item.waiter = asker


class _RemoteAsker:
    """Passes the reply on to another node."""

    __slots__ = ("_answered", "_envelope")

    def __init__(self, envelope: Envelope, answered: Answered) -> None:
        self._envelope = envelope
        self._answered = answered

    def done(self) -> bool:
        """Return False: an envelope is answered once."""
        return False

    def set_result(self, _result: None, /) -> None:
        """Pass the reply on. An actor's worker calls this, so it must not raise."""
        envelope = self._envelope
        error, envelope.error = envelope.error, None
        try:
            self._answered(envelope.value, error)
        except Exception as raised:  # noqa: BLE001 - of the cluster: it must not reach the actor's worker
            log_error("sending a reply to another node raised", error=raised)


def _received_inside(
    message: object, inside: Callable[[], AbstractContextManager[object]]
) -> Callable[[Actor], Awaitable[Any]]:
    @calls_actor
    async def receive(actor: Actor) -> Any:
        with inside():
            return await actor.receive(message)

    return receive


class _Ends:
    """The watchers of an actor on behalf of the cluster: calls to make when it ends."""

    def __init__(self) -> None:
        self.calls: dict[object, Callable[[str], None]] = {}

    def note_stopped(self, cell: Cell) -> None:
        """Make every call with the reason of the end."""
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call(cell.reason)


class LocalSystem:
    """The actors of one running system, as its cluster reaches them. Valid until the system has closed."""

    def __init__(self, core: RunningSystem) -> None:
        self._rt = core.rt
        self._guardian = core.lifecycle.guardian
        self.system: ActorSystem = core.rt.system
        self.background = Background()

    def find(self, actor_id: int) -> ActorRef[Any, Any] | None:
        """Return the living actor with this number."""
        cell = self._rt.cells.get(actor_id)
        return ActorRef(cell) if cell is not None else None

    def was_spawned(self, actor_id: int) -> bool:
        """Whether there ever was an actor with this number."""
        return 0 < actor_id <= self._rt.last_id

    def owns(self, ref: ActorRef[Any, Any]) -> bool:
        """Whether ``ref`` is an actor of this system."""
        return getattr(ref._cell, "rt", None) is self._rt

    def offer(self, ref: ActorRef[Any, Any], mail: Mail) -> bool:
        """Put ``mail`` in the mailbox. Return False if it is full, or others wait for room already.

        An actor that takes no messages leaves one dead letter and raises `ActorStopped`.
        """
        cell = ref._cell
        if cell.stopping:
            raise_stopped(cell, mail.item)
        if not has_room(cell):
            return False
        enqueue(cell, mail.item)
        mail.delivered()
        return True

    async def deliver(self, ref: ActorRef[Any, Any], mail: Mail) -> None:
        """Put ``mail`` in the mailbox, waiting for room; otherwise as `offer`."""
        await deliver(ref._cell, mail.item)
        mail.delivered()

    def refuse(self, ref: ActorRef[Any, Any] | None, message: object, *, expects_reply: bool = False) -> None:
        """Leave a dead letter for a message that can't be delivered.

        Without ``ref``, the actor is unknown.
        """
        cell = ref._cell if ref is not None else self._guardian
        self._rt.history.dead_letter(cell, message, expects_reply=expects_reply)

    def on_end(self, ref: ActorRef[Any, Any], key: object, call: Callable[[str], None]) -> bool:
        """Call ``call(reason)`` when the actor ends. Return False if it has ended already.

        There is one call for each key.
        """
        cell = ref._cell
        if cell.phase == STOPPED:
            return False
        if cell.watchers is None:
            cell.watchers = {}
        ends = cell.watchers.get(_WATCHERS_KEY)
        if not isinstance(ends, _Ends):
            cell.watchers[_WATCHERS_KEY] = ends = _Ends()
        ends.calls[key] = call
        return True

    def off_end(self, ref: ActorRef[Any, Any], key: object) -> None:
        """Undo `on_end`."""
        ends = (ref._cell.watchers or {}).get(_WATCHERS_KEY)
        if isinstance(ends, _Ends):
            ends.calls.pop(key, None)

    def tell_terminated(self, watcher: ActorRef[Any, Any], ref: ActorRef[Any, Any], reason: str) -> None:
        """Send ``watcher`` an `ActorTerminated`, even into a full mailbox, if it still handles messages."""
        cell = watcher._cell
        if cell.phase < STOPPING_CHILDREN and not cell.halted and not cell.force:
            enqueue(cell, ActorTerminated(ref, reason))

    def remove_terminated(self, watcher: ActorRef[Any, Any], ref: ActorRef[Any, Any]) -> None:
        """Remove a queued `ActorTerminated` of ``ref`` from the mailbox."""
        box = watcher._cell.box
        for _ in range(len(box or ())):
            item = box.popleft()  # type: ignore[union-attr]  # a box of None has no length
            if not (type(item) is ActorTerminated and item.ref == ref):
                box.append(item)  # type: ignore[union-attr]  # as above

    def event(self, kind: type[ActorEvent], payload: dict[str, JSONValue]) -> None:
        """Record an event of the system itself."""
        self._rt.history.event(kind.__name__, self._guardian, payload)

    def handle(self, system_id: str) -> ForeignRuntime:
        """Return the object that references to another node share in place of a runtime."""
        return ForeignRuntime(system_id)


class ForeignRuntime:
    """Takes the place of the runtime in the cell of an actor that lives on another node."""

    __slots__ = ("__weakref__", "system", "system_id")

    def __init__(self, system_id: str) -> None:
        self.system = None
        self.system_id = system_id
