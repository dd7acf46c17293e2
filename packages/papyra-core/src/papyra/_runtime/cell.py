"""An actor as the runtime sees it: a small record, for there may be a million of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from papyra.address import ActorAddress

if TYPE_CHECKING:
    import contextvars
    from collections import OrderedDict, deque
    from collections.abc import Awaitable, Callable

    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.attached import Marks
    from papyra._runtime.runtime import Runtime
    from papyra._runtime.timers import Timer
    from papyra._runtime.wait_graph import Wait
    from papyra.actor import Actor
    from papyra.context import ActorContext
    from papyra.supervision import SupervisionPolicy

__all__ = [
    "BACKING_OFF",
    "DRAINING",
    "NO_LIMIT",
    "PHASES",
    "RESTARTING_CHILDREN",
    "RESTARTING_STOP",
    "RUNNING",
    "SIGNAL",
    "STARTING",
    "STOPPED",
    "STOPPING",
    "STOPPING_CHILDREN",
    "SUSPENDED",
    "Cell",
    "Envelope",
]

# Phases, in the order of a life. Plain ints: they are compared for every turn.
STARTING: Final = 0  # on_start of a new instance is due or running
RUNNING: Final = 1
SUSPENDED: Final = 2  # failed; the parent's on_child_failure decides
RESTARTING_STOP: Final = 3  # restart: on_stop of the old instance is due or running
RESTARTING_CHILDREN: Final = 4  # restart: waits for its children to stop
BACKING_OFF: Final = 5  # restart: waits for its time
DRAINING: Final = 6  # stop: takes no new messages, works off what is queued
STOPPING_CHILDREN: Final = 7  # stop: waits for its children to stop
STOPPING: Final = 8  # stop: on_stop is due or running
STOPPED: Final = 9

PHASES = (
    "starting",
    "active",
    "failed",
    "restarting",
    "restarting",
    "restarting",
    "stopping",
    "stopping",
    "stopping",
    "stopped",
)

NO_LIMIT: Final = 1 << 62


class Envelope:
    """What stands in a mailbox where a plain message does not do: an ask, a proxy's call, a signal.

    The reply is written into the envelope, and ``waiter`` only wakes the asker: an exception kept in a
    future nobody looks at would be reported by asyncio as never retrieved.
    """

    __slots__ = ("asker", "call", "error", "expects_reply", "marks", "message", "replied", "value", "waiter")

    def __init__(self, message: object, *, expects_reply: bool = True) -> None:
        self.message = message
        self.expects_reply = expects_reply
        self.call: Callable[[Actor], Awaitable[Any]] | None = None
        self.waiter: Waiter | None = None
        self.asker: Cell | None = None
        self.marks: Marks | None = None
        self.replied = False
        self.value: Any = None
        self.error: BaseException | None = None

    def reply(self, value: object, error: BaseException | None = None) -> None:
        """Give the asker its answer, if it still waits for one."""
        if self.replied:
            return
        self.replied = True
        self.value = value
        self.error = error
        if self.asker is not None:
            self.asker.waits_for = self.asker.wait = None
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Let the ask raise ``error``."""
        self.reply(None, error)


SIGNAL: Final = Envelope(None, expects_reply=False)
"""Stands before everything else in the mailbox of a cell that has something other than messages to do."""


class Cell:
    """One actor: its instance, its mailbox and its place in the tree.

    ``box`` is None while the cell is idle, so an idle actor pays for no deque; a cell with a box is queued,
    running or ``paused``. A ``fresh`` cell is queued without one: a thousand spawned at once need none yet.
    ``limit`` is how many messages the fast path of `ActorRef.tell` may leave in the
    box: the capacity, or 0 when it must take the slow path (senders wait, or the actor stops).
    """

    __slots__ = (
        "actor",
        "actor_type",
        "answering",
        "box",
        "capacity",
        "children",
        "context",
        "escalated",
        "factory",
        "failure",
        "force",
        "fresh",
        "halted",
        "id",
        "judging",
        "limit",
        "name",
        "parent",
        "paused",
        "phase",
        "policy",
        "processed",
        "reason",
        "receive",
        "renewed",
        "reserved",
        "restarts",
        "rt",
        "senders",
        "started",
        "stop_waiters",
        "stopping",
        "timer",
        "variables",
        "wait",
        "waits_for",
        "watchers",
        "watching",
    )

    def __init__(
        self,
        rt: Runtime,
        id: int,  # noqa: A002 - an actor's number is its id
        name: str | None,
        parent: Cell | None,
        factory: Callable[[], Actor] | None,
        policy: SupervisionPolicy,
        capacity: int,
    ) -> None:
        self.rt = rt
        self.id = id
        self.name = name
        self.parent = parent
        self.factory = factory
        self.policy = policy
        self.capacity = capacity
        self.limit = 0  # until on_start: the cell is queued, but has no box yet
        self.fresh = True
        self.phase = STARTING
        self.processed = 0
        self.reserved = 0
        self.force = 0
        self.paused = False
        self.stopping = False
        self.halted = False
        self.started = False
        self.renewed = False
        self.reason = "stopped"
        self.actor_type: type[Actor] | None = None
        self.actor: Actor | None = None
        self.context: ActorContext | None = None
        self.receive: Callable[[Any], Awaitable[Any]] | None = None
        self.box: deque[Any] | None = None
        self.answering: Envelope | None = None
        self.children: dict[int, Cell] | None = None
        self.senders: deque[Any] | None = None
        self.watchers: dict[int, Cell] | None = None
        self.watching: dict[int, Cell] | None = None
        self.stop_waiters: list[Waiter] | None = None
        self.judging: OrderedDict[Cell, Exception] | None = None
        self.escalated: Exception | None = None
        self.restarts: deque[float] | None = None
        self.timer: Timer | None = None
        self.variables: contextvars.Context | None = None
        self.waits_for: Cell | None = None
        self.wait: Wait | None = None
        self.failure: BaseException | None = None

    @property
    def address(self) -> ActorAddress:
        """The actor's address, made anew: a million kept ones would weigh 100 MB."""
        return ActorAddress(self.rt.system_id, self.id)

    def __str__(self) -> str:
        kind = self.actor_type.__name__ if self.actor_type is not None else "actor"
        return f"{self.rt.system_id}:{self.id} ({f'{self.name!r}, ' if self.name else ''}{kind})"

    def is_below(self, other: Cell) -> bool:
        """Whether ``other`` is this cell or stands above it in the tree."""
        cell: Cell | None = self
        while cell is not None:
            if cell is other:
                return True
            cell = cell.parent
        return False

    def subtree(self) -> list[Cell]:
        """Return this cell and all below it, parents first."""
        found: list[Cell] = [self]
        for cell in found:
            if cell.children:
                found.extend(cell.children.values())
        return found
