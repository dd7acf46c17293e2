"""The alternatives to returning a reply from ``receive``: answer later, forward the message, or refuse it.

Each of them takes the envelope that is being answered from the actor (`take`). The worker then ignores the
result of ``receive``, because it replies only to an envelope that the actor still has.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from papyra._runtime.asks import pass_on
from papyra._runtime.cell import Cell
from papyra._runtime.containment.thread_guard import check_thread
from papyra._runtime.containment.user_values import type_name
from papyra._runtime.envelope import Envelope
from papyra._runtime.resources import resources
from papyra.exceptions import UnhandledMessage

if TYPE_CHECKING:
    from papyra._runtime.runtime import Runtime

__all__ = ["BACKGROUND", "answer_later", "forward", "take", "unhandled"]

BACKGROUND: ContextVar[Runtime | None] = ContextVar("papyra_background", default=None)
"""The runtime of the system, in the tasks that an actor starts with ``start_soon`` and ``pipe_to_self``."""


def take(cell: Cell, action: str) -> Envelope | None:
    """Take the ask or the proxy's call that is being answered; None for any other message."""
    if BACKGROUND.get() is cell.rt:
        raise RuntimeError(
            f"{action}() was called in a background task of actor {cell}, which handles no message. "
            "Call it in receive(), before the task starts, and pass its result to the task"
        )
    envelope, cell.answering = cell.answering, None
    return envelope if envelope is not None and envelope.source is None else None


def answer_later(cell: Cell) -> Envelope | None:
    """Take the ask that is being answered, and note that the actor owes a reply.

    Return None if no asker waits for one.
    """
    mine = resources(cell)
    envelope = take(cell, "reply_later")
    if envelope is None or not envelope.is_awaited():
        return None
    envelope.debtor = cell
    if mine.owed is None:
        mine.owed = {}
    mine.owed[envelope] = None
    return envelope


async def forward(cell: Cell, target: Cell, message: object) -> None:
    """Pass the message on to ``target``, together with the duty to reply."""
    if not isinstance(target, Cell):
        raise TypeError(f"can't forward to {target}, which is on another node: ask it, and return its reply")
    check_thread(target.rt, "forward a message")
    envelope = take(cell, "forward")
    if envelope is None or not envelope.expects_reply:
        envelope = Envelope(message, expects_reply=False)
    envelope.message, envelope.call = message, None
    await pass_on(target, envelope)


def unhandled(cell: Cell, message: object) -> None:
    """Make a dead letter of a message that the actor can't handle. Its asker gets an error at once."""
    envelope = take(cell, "unhandled")
    expects_reply = envelope is not None and envelope.expects_reply
    cell.rt.history.dead_letter(cell, message, expects_reply=expects_reply, reason="unhandled")
    if envelope is not None:
        envelope.reply(None, UnhandledMessage(cell, type_name(type(message))))
