"""The resources of an actor: timers, a stash, background work, replies that it owes.

Most actors have none and pay for one slot of their cell. Resources belong to one instance of the actor: a
restart and a stop call `Resources.release`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra._runtime.containment.frames import calls_actor
from papyra._runtime.containment.thread_guard import check_thread
from papyra._runtime.containment.user_values import is_awaitable
from papyra._runtime.envelope import SIGNAL, Envelope
from papyra._runtime.mailbox import enqueue
from papyra._runtime.phases import STOPPED
from papyra.exceptions import ActorStopped

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable

    from papyra._runtime.cell import Cell
    from papyra._runtime.envelope import Source
    from papyra._runtime.resources.actor_timers import ActorTimers, ReceiveTimeout
    from papyra._runtime.resources.pipes import Pipe
    from papyra._runtime.restart_group import Group
    from papyra.actor import Actor

__all__ = ["Resources", "become", "bind_receive", "enqueue_own", "resources", "run_call", "unbecome"]


class Resources:
    """The resources of one instance of an actor, which end with it.

    ``queued`` counts the runtime's own envelopes in the mailbox, ``instance`` the instances that have ended:
    a result of background work counts only in the instance that began it. ``group`` and
    ``refuses_when_full`` belong to the cell, and survive a restart.
    """

    __slots__ = (
        "behaviour",
        "cell",
        "group",
        "instance",
        "owed",
        "pipes",
        "queued",
        "receive_timeout",
        "refuses_when_full",
        "stash",
        "timers",
    )

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.queued = 0
        self.instance = 0
        self.refuses_when_full = False
        self.behaviour: Callable[[Any], Awaitable[Any]] | None = None
        self.timers: ActorTimers | None = None
        self.receive_timeout: ReceiveTimeout | None = None
        self.stash: deque[Any] | None = None
        self.pipes: dict[Pipe, None] | None = None  # both in the order in which they began
        self.owed: dict[Envelope, None] | None = None
        self.group: Group | None = None

    def release(self, error: ActorStopped) -> None:
        """Release the resources. Asks that are still unanswered get ``error``.

        Cancel timers and background work, and put the stash back at the front of the mailbox. Background work
        may take a while to end, see `papyra._runtime.resources.pipes.pipes_gone`.
        """
        self.behaviour = None
        self.instance += 1
        if self.timers is not None:
            self.timers.cancel_all()
        if self.receive_timeout is not None:
            self.receive_timeout.end()
            self.receive_timeout = None
        self.put_stash_back()
        for pipe in list(self.pipes or ()):
            pipe.cancel()
        for envelope in list(self.owed or ()):
            envelope.reply(None, error)

    def put_stash_back(self) -> int:
        """Put the stash at the front of the mailbox, behind the signals.

        Return the number of messages.
        """
        stash, self.stash = self.stash, None
        if not stash:
            return 0
        box = self.cell.box
        if box is None:
            for item in stash:
                enqueue(self.cell, item)
            return len(stash)
        signals = 0
        while box and box[0] is SIGNAL:
            box.popleft()
            signals += 1
        box.extendleft(reversed(stash))
        box.extendleft([SIGNAL] * signals)
        return len(stash)

    def repaid(self, envelope: Envelope) -> None:
        """Note that a reply is no longer owed. Resume a stop that waited for the last one."""
        if self.owed is not None:
            self.owed.pop(envelope, None)
            if not self.owed and self.cell.stopping:
                self.cell.rt.signal(self.cell)


def resources(cell: Cell) -> Resources:
    """Return the resources of a cell, made on first use.

    A stopped actor has none: this raises `ActorStopped`.
    """
    resources = cell.resources
    if resources is None:
        if cell.phase == STOPPED:
            raise ActorStopped(cell)
        cell.resources = resources = Resources(cell)
    return resources


def enqueue_own(cell: Cell, source: Source, message: object, call: Callable[[Actor], Awaitable[Any]]) -> None:
    """Queue an envelope of the runtime's own.

    It needs no room, because each source has at most one queued.
    """
    mine = resources(cell)
    mine.queued += 1

    async def run(actor: Actor) -> None:
        mine.queued -= 1
        await call(actor)

    envelope = Envelope(message, expects_reply=False)
    envelope.source = source
    envelope.call = run
    enqueue(cell, envelope)


@calls_actor
async def run_call(call: Callable[[], object]) -> None:
    """Run a plain or async function of the user in the actor."""
    result = call()
    if is_awaitable(result):
        await result


def become(cell: Cell | None, behaviour: Callable[[Any], Awaitable[Any]]) -> None:
    """Have the next message handled by ``behaviour``."""
    if cell is None:
        raise RuntimeError(
            "become() needs a spawned actor. Call it in on_start() or receive(), not in __init__()"
        )
    if not callable(behaviour):
        raise TypeError(f"become() takes an async function of one message, not {behaviour!r}")
    check_thread(cell.rt, "change what an actor does")
    resources(cell).behaviour = behaviour
    bind_receive(cell)


def unbecome(cell: Cell | None) -> None:
    """Have the next message handled by the actor's ``receive`` method."""
    if cell is not None and cell.resources is not None:
        check_thread(cell.rt, "change what an actor does")
        cell.resources.behaviour = None
        bind_receive(cell)


def bind_receive(cell: Cell) -> None:
    """Have the next message handled by the present behaviour."""
    mine = resources(cell)
    if mine.receive_timeout is not None:
        cell.receive = mine.receive_timeout.receive
    else:
        cell.receive = mine.behaviour  # None: the worker binds the actor's receive method
    cell.rt.signal(cell)  # ends the turn: the worker looks at `receive` once a turn
