"""An actor as the runtime sees it: a small record, because there may be a million of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from papyra._runtime.containment.user_values import type_name
from papyra._runtime.end_reason import why_stopped
from papyra._runtime.phases import STARTING, STOPPED
from papyra.address import ActorAddress

if TYPE_CHECKING:
    from collections import OrderedDict, deque
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.delivery.sender_line import SenderLine
    from papyra._runtime.envelope import Envelope
    from papyra._runtime.resources import Resources
    from papyra._runtime.restart_group import Group
    from papyra._runtime.restart_window import RestartWindow
    from papyra._runtime.runtime import Runtime
    from papyra._runtime.timers import Timer
    from papyra._runtime.wait_graph import Fork, Wait
    from papyra._runtime.worker import Worker
    from papyra.actor import Actor
    from papyra.supervision import SupervisionPolicy

__all__ = ["NO_LIMIT", "Cell", "OutsideWatcher"]

NO_LIMIT: Final = 1 << 62
"""The capacity of a mailbox without a limit, in messages."""


class OutsideWatcher(Protocol):
    """A watcher that is not an actor of this system, for example one on another node."""

    def note_stopped(self, cell: Cell) -> None:
        """Take note that ``cell`` has stopped."""
        ...


class Cell:
    """One actor: its instance, its mailbox and its place in the tree.

    ``box`` is None while the cell is idle, so an idle actor pays for no deque. A cell with a box is queued,
    running or ``paused``. A ``fresh`` cell is queued without a box, because a thousand actors that are
    spawned at once need none yet. ``limit`` is the number of messages up to which the fast path of
    `ActorRef.tell` may fill the box: the capacity, or 0 if a send must take the slow path (senders wait, or
    the actor stops). ``variables`` is what makes it run in another context than the shared workers': a
    context of its own, or a worker that serves it alone.
    """

    __slots__ = (
        "actor",
        "actor_type",
        "answering",
        "box",
        "capacity",
        "children",
        "escalated",
        "factory",
        "failure",
        "force",
        "fresh",
        "group",
        "halted",
        "id",
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
        "resources",
        "restarts",
        "rt",
        "senders",
        "started",
        "stop_waiters",
        "stopping",
        "timer",
        "undecided",
        "variables",
        "wait",
        "waits_for",
        "watchers",
        "watching",
        "worker",
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
        self.worker: Worker | None = None  # the last one that ran it; see `running`
        self.factory = factory
        self.policy = policy
        self.capacity = capacity
        self.limit = 0  # until on_start: the cell is queued, but has no box yet
        self.fresh = True
        self.phase = STARTING
        self.processed = 0
        self.force = 0
        self.paused = False
        self.stopping = False
        self.halted = False
        self.started = False
        self.renewed = False
        self.reason = "stopped"
        self.actor_type: type[Actor] | None = None
        self.actor: Actor | None = None
        self.receive: Callable[[Any], Awaitable[Any]] | None = None
        self.box: deque[Any] | None = None
        self.answering: Envelope | None = None
        self.resources: Resources | None = None
        self.group: Group | None = None
        self.children: dict[int, Cell] | None = None
        self.senders: SenderLine | None = None
        self.watchers: dict[int, Cell | OutsideWatcher] | None = None
        self.watching: dict[int, Cell | Envelope] | None = None
        self.stop_waiters: list[Waiter] | None = None
        self.undecided: OrderedDict[Cell, Exception] | None = None
        self.escalated: Exception | None = None
        self.restarts: RestartWindow | None = None
        self.timer: Timer | None = None
        self.variables: Context | Worker | None = None  # who runs it: see docs/design/dispatcher.md
        self.waits_for: Cell | Fork | None = None
        self.wait: Wait | None = None
        self.failure: BaseException | None = None

    @property
    def address(self) -> ActorAddress:
        """The actor's address, built for each call: a million kept ones would take 100 MB."""
        return ActorAddress(self.rt.system_id, self.id)

    def __str__(self) -> str:
        kind = type_name(self.actor_type) if self.actor_type is not None else "actor"
        return f"{self.rt.system_id}:{self.id} ({f'{self.name!r}, ' if self.name else ''}{kind})"

    def running(self) -> Worker | None:
        """Return the worker that runs the actor's code now."""
        worker = self.worker
        return worker if worker is not None and worker.cell is self else None

    def says_why_stopped(self) -> str:
        """Return a text for `ActorStopped`: that the actor has stopped or is stopping, and why."""
        return f"{'has stopped' if self.phase == STOPPED else 'is stopping'}{why_stopped(self)}"

    def cancel_timer(self) -> None:
        """End the wait of a backoff."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def is_below(self, other: Cell) -> bool:
        """Return whether ``other`` is this cell or an ancestor of it."""
        cell: Cell | None = self
        while cell is not None:
            if cell is other:
                return True
            cell = cell.parent
        return False

    def subtree(self) -> list[Cell]:
        """Return this cell and its descendants, parents first."""
        cells: list[Cell] = [self]
        for cell in cells:
            if cell.children:
                cells.extend(cell.children.values())
        return cells
