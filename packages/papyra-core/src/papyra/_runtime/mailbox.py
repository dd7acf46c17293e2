"""The queue of an actor's messages: how they enter it, and what becomes of those left at a stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra._runtime.cell import NO_LIMIT
from papyra._runtime.containment.stack_guard import need_frames
from papyra._runtime.end_reason import why_stopped
from papyra._runtime.envelope import SIGNAL, Envelope
from papyra.exceptions import ActorStopped

if TYPE_CHECKING:
    from typing import NoReturn

    from papyra._runtime.cell import Cell

__all__ = [
    "close",
    "discard",
    "enqueue",
    "has_mail",
    "raise_stopped",
    "stopped_early",
    "to_dead_letter",
    "waiting_messages",
]

REFUSAL_FRAMES = 40
"""Frames for the note of a dead letter, whose payload is copied."""


def has_mail(cell: Cell) -> bool:
    """Return whether a message waits; signals and ticks of periodic timers do not count."""
    return any(map(_counts, cell.box or ()))


def _counts(item: object) -> bool:
    if item is SIGNAL:
        return False
    return type(item) is not Envelope or item.source is None or item.source.keeps_drain_open


def enqueue(cell: Cell, item: object) -> None:
    """Put ``item`` in the box, even a full one, and make sure that the cell gets a turn."""
    if cell.box is None:
        rt, fresh = cell.rt, cell.fresh
        if not fresh and not rt.awake:
            rt.wake()  # first: if it raises, nothing has changed
        box = rt.new_box()
        if fresh:
            box.append(SIGNAL)  # it is queued already, and starts first
        box.append(item)
        if cell.box is None:  # else a finalizer, which may run at any call, has sent to it
            cell.box = box
            if not fresh:
                rt.ready.append(cell)
            return
    cell.box.append(item)


def waiting_messages(cell: Cell) -> int:
    """Return how many messages wait, without signals and envelopes of the runtime's own; in O(1)."""
    box = cell.box
    if not box:
        return 0
    # Signals are at the front, a few at most, and one at the end while the mailbox is drained.
    signals = 0
    while signals < len(box) and box[signals] is SIGNAL:
        signals += 1
    if signals < len(box) and box[-1] is SIGNAL:
        signals += 1
    own = cell.resources.queued if cell.resources is not None else 0
    return max(0, len(box) - signals - own)


def close(cell: Cell) -> None:
    """Refuse further messages; waiting senders get `ActorStopped`."""
    cell.stopping = True
    cell.limit = 0
    if cell.group is not None:
        cell.group.closed(cell)
    if cell.senders is not None:
        line, cell.senders = cell.senders, None
        for sender in (*line.granted, *line.waiting):
            if not sender.waiter.done():
                sender.waiter.set_result(None)


def discard(cell: Cell, most: int = NO_LIMIT) -> bool:
    """Make dead letters of at most ``most`` queued messages, in order. Return whether some are left.

    For a cell that stops: an asker gets `ActorStopped`, and envelopes of the runtime's own are dropped
    uncounted.
    """
    box = cell.box
    while box and most:
        item = box.popleft()
        if item is not SIGNAL:
            to_dead_letter(cell, item)
            most -= 1
    return bool(box)


def to_dead_letter(cell: Cell, item: object) -> None:
    """Make a dead letter of ``item``; an asker gets `ActorStopped`.

    An ask whose asker has gone is only counted.
    """
    if type(item) is Envelope:
        if item.source is not None:
            return
        if item.replied:
            cell.rt.expired_asks += 1
            return
        cell.rt.history.dead_letter(cell, item.message, expects_reply=item.expects_reply)
        item.reply(None, stopped_early(cell))
    else:
        cell.rt.history.dead_letter(cell, item, expects_reply=False)


def stopped_early(cell: Cell) -> ActorStopped:
    """Build the error of an ask that gets no reply; its cause is the failure that stopped the actor."""
    error = ActorStopped(cell, f"stopped before it replied{why_stopped(cell)}")
    error.__cause__ = cell.failure
    return error


def raise_stopped(cell: Cell, item: object) -> NoReturn:
    """Refuse an item: leave one dead letter and raise `ActorStopped`."""
    message, expects_reply = (item.message, item.expects_reply) if type(item) is Envelope else (item, False)
    need_frames(REFUSAL_FRAMES)
    cell.rt.tallies.refused += 1
    cell.rt.history.dead_letter(cell, message, expects_reply=expects_reply)
    raise ActorStopped(cell)
