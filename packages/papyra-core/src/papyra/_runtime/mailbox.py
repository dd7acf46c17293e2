"""Mailboxes beyond the fast path of `ActorRef.tell`: room, waiting senders, asks, and what is left over."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from papyra._runtime.attached import replied
from papyra._runtime.cell import NO_LIMIT, SIGNAL, Envelope
from papyra._runtime.runtime import SEND_BUDGET
from papyra._runtime.wait_graph import begin_wait, end_wait
from papyra.exceptions import ActorStopped, AskTimeout, PapyraError

if TYPE_CHECKING:
    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.cell import Cell

__all__ = [
    "ask",
    "close",
    "deliver",
    "depth",
    "discard",
    "enqueue",
    "grant",
    "has_mail",
    "refuse",
    "stopped_early",
    "to_dead_letter",
    "yield_to_loop",
]


class _Sender:
    """A sender that waits for room. Its message is put in only when it is woken: so one that is cancelled has sent nothing."""

    __slots__ = ("error", "granted", "item", "sent", "waiter")

    def __init__(self, item: object, waiter: Waiter) -> None:
        self.item = item
        self.waiter = waiter
        self.granted = False
        self.sent = False
        self.error: PapyraError | None = None

    def fail(self, error: PapyraError) -> None:
        """Let the sender raise ``error``."""
        self.error = error
        if not self.waiter.done():
            self.waiter.set_result(None)


def has_mail(cell: Cell) -> bool:
    """Whether a message waits; signals are none."""
    return any(item is not SIGNAL for item in cell.box or ())


def enqueue(cell: Cell, item: object) -> None:
    """Put ``item`` in the box, full or not, and see that the cell gets a turn."""
    box = cell.box
    if box is None:
        rt = cell.rt
        cell.box = box = rt.new_box()
        if cell.fresh:
            box.append(SIGNAL)  # it is queued already, and must start first
            box.append(item)
        else:
            box.append(item)
            rt.schedule(cell)
    else:
        box.append(item)


async def yield_to_loop(cell: Cell) -> None:
    """Let the event loop go round, and be cancelled: a loop of sends must not starve it, nor run on for ever."""
    rt = cell.rt
    rt.credit = SEND_BUDGET if rt.countdown is None else rt.countdown.stretch
    await anyio.lowlevel.checkpoint()


async def deliver(cell: Cell, item: object, *, waits: bool = False) -> None:
    """Put ``item`` in the mailbox, waiting for room; `ActorStopped` and one dead letter if it takes none.

    The wait is first come, first served. A sender that is cancelled while it waits has sent nothing. An ask
    that times out while it waits is not delivered. ``waits``: the caller has noted already who waits.
    """
    if cell.stopping:
        refuse(cell, item)
    me = None if waits else cell.rt.current_cell()
    room = cell.capacity - depth(cell)
    # Where all in the line have been given their room and only have not woken yet, the rest is anybody's: a
    # hundred senders would else take turns message by message, and an actor might wait for itself.
    if room > cell.reserved and len(cell.senders or ()) == cell.reserved:
        enqueue(cell, item)
        return
    sender = _Sender(item, cell.rt.loop.waiter())
    if me is not None:
        begin_wait(me, cell, sender)
    if cell.senders is None:
        cell.senders = deque()
        cell.limit = 0
    cell.senders.append(sender)
    asked = item if isinstance(item, Envelope) else None
    if asked is not None:
        asked.waiter = sender.waiter  # so that its time-out ends this wait
    try:
        await sender.waiter
    except BaseException:
        _withdraw(cell, sender)
        raise
    finally:
        if me is not None:
            end_wait(me)
    if sender.sent:
        return
    if sender.error is not None:
        _withdraw(cell, sender)
        raise sender.error
    if asked is not None and asked.replied:
        _withdraw(cell, sender)
        return
    if not sender.granted or cell.stopping:
        refuse(cell, item)
    _send(cell, sender)
    grant(cell)


def _send(cell: Cell, sender: _Sender) -> None:
    """Put in what ``sender`` sends, after what those before it in the line send: trio wakes them in any order."""
    first = None
    while first is not sender and cell.senders:
        first = cell.senders.popleft()
        cell.reserved -= 1
        first.granted = False
        if first.error is None and not (isinstance(first.item, Envelope) and first.item.replied):
            first.sent = True
            enqueue(cell, first.item)


def _withdraw(cell: Cell, sender: _Sender) -> None:
    """Give up a place in the line, or the room that was granted already."""
    if cell.senders is not None and sender in cell.senders:
        cell.senders.remove(sender)
        cell.reserved -= sender.granted
    grant(cell)


def depth(cell: Cell) -> int:
    """Count what waits in the mailbox."""
    return len(cell.box) if cell.box is not None else 0


def grant(cell: Cell) -> None:
    """Give the room there is to the senders that wait for it, oldest first.

    Those it was given to stand first in the line until they have sent, ``reserved`` of them.
    """
    if cell.stopping:
        return
    senders = cell.senders
    room = cell.capacity - depth(cell) - cell.reserved
    while senders and room > 0 and len(senders) > cell.reserved:
        sender = senders[cell.reserved]
        if sender.waiter.done():  # its time-out woke it
            del senders[cell.reserved]
            continue
        sender.granted = True
        sender.waiter.set_result(None)
        cell.reserved += 1
        room -= 1
    if not senders:
        cell.senders = None
    if len(senders or ()) == cell.reserved and not cell.fresh:
        cell.limit = cell.capacity - cell.reserved


def close(cell: Cell) -> None:
    """Take no more messages: senders that wait get `ActorStopped`."""
    cell.stopping = True
    cell.limit = 0
    if cell.senders is not None:
        senders, cell.senders = cell.senders, None
        for sender in senders:
            if not sender.waiter.done():
                sender.waiter.set_result(None)


def discard(cell: Cell, most: int = NO_LIMIT) -> bool:
    """Make dead letters of what is queued, in order, of ``most`` at once. Return whether some are left."""
    box = cell.box
    while box and most:
        item = box.popleft()
        if item is not SIGNAL:
            to_dead_letter(cell, item)
            most -= 1
    return bool(box)


def to_dead_letter(cell: Cell, item: object) -> None:
    """Make a dead letter of ``item``, and tell its asker, if it has one, that the actor stopped."""
    if isinstance(item, Envelope):
        cell.rt.facts.dead_letter(cell, item.message, expects_reply=item.expects_reply)
        item.reply(None, stopped_early(cell))
    else:
        cell.rt.facts.dead_letter(cell, item, expects_reply=False)


def stopped_early(cell: Cell) -> ActorStopped:
    """Make the error of an ask that gets no reply; what stopped the actor is its cause."""
    error = ActorStopped(cell, "stopped before it replied")
    error.__cause__ = cell.failure
    return error


def refuse(cell: Cell, item: object) -> None:
    """Leave one dead letter and raise `ActorStopped`."""
    cell.rt.tallies.refused += 1
    message, expects_reply = (
        (item.message, item.expects_reply) if isinstance(item, Envelope) else (item, False)
    )
    cell.rt.facts.dead_letter(cell, message, expects_reply=expects_reply)
    raise ActorStopped(cell)


async def ask(cell: Cell, envelope: Envelope, timeout: float | None) -> Any:
    """Deliver ``envelope`` and return or raise what the actor replies.

    The reply, the actor's stop and the time-out all come through `Envelope.reply`; the first one counts.
    """
    rt = cell.rt
    countdown = rt.countdown
    if countdown is not None and envelope.marks is None and countdown.ask(cell, envelope):
        return await _marked_ask(cell, envelope, timeout)
    me = rt.current_cell()
    if me is not None:
        if cell.stopping:
            refuse(cell, envelope)
        begin_wait(me, cell, envelope)
        envelope.asker = me
    timer = None
    try:
        if timeout is not None:
            timer = rt.timers.after(timeout, lambda: envelope.reply(None, AskTimeout(cell, timeout)))
        box = cell.box
        if box is not None and len(box) < cell.limit:
            box.append(envelope)
        elif box is None and cell.limit > 0:
            enqueue(cell, envelope)
        else:
            await deliver(cell, envelope, waits=True)
        if not envelope.replied:
            envelope.waiter = rt.loop.waiter()
            await envelope.waiter
    except BaseException:
        envelope.waiter = None  # a late reply is dropped
        envelope.asker = None
        raise
    finally:
        if me is not None:
            end_wait(me)
        if timer is not None:
            timer.cancel()
    error = envelope.error
    if error is not None:
        envelope.error = None
        try:
            raise error
        finally:
            del error  # the traceback refers to this frame: leave no cycle behind
    return envelope.value


async def _marked_ask(cell: Cell, envelope: Envelope, timeout: float | None) -> Any:
    """Ask, and tell the instruments that marked it how it ended."""
    marks = envelope.marks or ()
    try:
        value = await ask(cell, envelope, timeout)
    except BaseException as error:
        replied(cell, marks, error)
        raise
    replied(cell, marks, None)
    return value
