"""Sends that leave the fast path of `ActorRef.tell`: their budget, room in mailboxes, and waiting senders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from papyra._runtime.containment.stack_guard import need_frames
from papyra._runtime.containment.thread_guard import wrong_thread
from papyra._runtime.delivery.sender_line import Sender, SenderLine
from papyra._runtime.envelope import Envelope
from papyra._runtime.mailbox import enqueue, raise_stopped, waiting_messages
from papyra._runtime.runtime import SEND_BUDGET
from papyra._runtime.wait_graph import begin_wait, end_wait
from papyra.exceptions import MailboxFull

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.runtime import Runtime

__all__ = [
    "WAIT_FRAMES",
    "check_send",
    "deliver",
    "grant",
    "halt_send",
    "has_room",
    "line_up",
    "refuses_when_full",
    "settle",
    "try_enqueue",
    "withdraw",
    "yield_to_loop",
]

WAIT_FRAMES = 12
"""Frames for the start and the end of a wait for room."""


def halt_send(cell: Cell, item: Any) -> Any:
    """Prepare a send when the counter `Runtime.sends` has stopped. Return the item to send.

    If this sets `Runtime.must_yield`, the caller awaits `yield_to_loop` before the send.
    """
    rt = cell.rt
    if rt.countdown is not None:
        return rt.countdown.tell(cell, item)
    check_send(rt)
    rt.allow_sends(SEND_BUDGET)
    rt.must_yield = True
    return item


def check_send(rt: Runtime) -> None:
    """Raise `RuntimeError` if a send comes from another thread."""
    if not rt.owner._is_owned():
        rt.allow_sends()
        raise wrong_thread(rt, "tell an actor")


async def yield_to_loop(rt: Runtime) -> None:
    """Yield to the event loop, once every `SEND_BUDGET` sends: a loop of sends would starve it.

    Such a loop can be cancelled here. Its last item is not sent then.
    """
    rt.must_yield = False
    await anyio.lowlevel.checkpoint()


def line_up(cell: Cell, sender: Sender) -> None:
    """Put a sender at the end of the line."""
    if cell.senders is None:
        cell.senders = SenderLine()
    cell.senders.waiting[sender] = None
    cell.limit = 0


async def deliver(cell: Cell, item: object, *, waits: bool = False) -> None:
    """Put ``item`` in the mailbox; wait for room if it is full.

    A stopping actor raises `ActorStopped` and leaves one dead letter. The wait is first come, first served. A
    sender that is cancelled while it waits has sent nothing. An ask that times out while it waits is not
    delivered. ``waits`` says that the caller has registered the wait already.
    """
    if try_enqueue(cell, item):
        return
    if refuses_when_full(cell):
        raise MailboxFull(cell, cell.capacity)
    need_frames(WAIT_FRAMES)  # before the sender is in the line: a later error would leave it there
    me = None if waits else cell.rt.current_cell()
    sender = Sender(item, cell.rt.loop.waiter())
    if me is not None:
        begin_wait(me, cell, sender)
    line_up(cell, sender)
    asked: Envelope | None = item if type(item) is Envelope else None
    if asked is not None and asked.waiter is None:
        asked.waiter = sender.waiter  # its time-out ends this wait, too
    try:
        await sender.waiter
    except BaseException:
        withdraw(cell, sender)
        raise
    finally:
        if me is not None:
            end_wait(me)
    settle(cell, sender)


def settle(cell: Cell, sender: Sender) -> None:
    """Send the item of a woken sender, or raise the error that it was woken with."""
    if sender.sent:
        return
    if sender.error is not None:
        withdraw(cell, sender)
        raise sender.error
    if type(sender.item) is Envelope and sender.item.replied:
        withdraw(cell, sender)
        return
    if not sender.granted or cell.stopping:
        raise_stopped(cell, sender.item)
    _send(cell, sender)
    grant(cell)


def try_enqueue(cell: Cell, item: object) -> bool:
    """Put ``item`` in the mailbox if it has room that no earlier sender waits for. Return whether it had.

    A stopping actor raises `ActorStopped` and leaves one dead letter.
    """
    if cell.stopping:
        raise_stopped(cell, item)
    if has_room(cell):
        enqueue(cell, item)
        return True
    return False


def refuses_when_full(cell: Cell) -> bool:
    """Return whether a full mailbox refuses messages, and no sender waits for room in it."""
    return cell.resources is not None and cell.resources.refuses_when_full


def has_room(cell: Cell) -> bool:
    """Return whether a mailbox has room that no earlier sender waits for."""
    line = cell.senders
    if line is None and (cell.box is None or len(cell.box) < cell.capacity):
        return True
    room = cell.capacity - waiting_messages(cell)
    # If every waiting sender already has a slot and only has to wake up, there is room. Otherwise a hundred
    # senders would alternate message by message, and an actor might wait for itself.
    return room > 0 if line is None else not line.waiting and room > len(line.granted)


def _send(cell: Cell, sender: Sender) -> None:
    """Deliver the item of ``sender``, after those of earlier senders: trio wakes tasks in any order."""
    line, first = cell.senders, None
    while first is not sender and line is not None and line.granted:
        first = line.granted.popitem(last=False)[0]
        first.granted = False
        if first.error is None and not (type(first.item) is Envelope and first.item.replied):
            first.sent = True
            enqueue(cell, first.item)


def withdraw(cell: Cell, sender: Sender) -> None:
    """Give up a place in the line, or a slot that was granted already."""
    if cell.senders is not None:
        cell.senders.remove(sender)
    grant(cell)


def grant(cell: Cell) -> None:
    """Give free slots to the waiting senders, oldest first."""
    if cell.stopping:
        return
    line, granted = cell.senders, 0
    if line is not None:
        room = cell.capacity - waiting_messages(cell) - len(line.granted)
        while line.waiting and room > 0:
            room -= line.grant_next()
        if line.waiting:
            return
        granted = len(line.granted)
        if not granted:
            cell.senders = None
    if not cell.fresh:
        cell.limit = cell.capacity - granted
