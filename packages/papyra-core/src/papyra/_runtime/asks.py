"""Asks: a request and its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra._runtime.attached import replied
from papyra._runtime.mailbox import deliver, enqueue, refuse
from papyra._runtime.wait_graph import begin_wait, end_wait
from papyra.exceptions import AskTimeout

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.envelope import Envelope

__all__ = ["ask"]


async def ask(cell: Cell, envelope: Envelope, timeout: float | None) -> Any:
    """Deliver ``envelope`` and return the actor's reply, or raise its error.

    The reply, the actor's stop and the time-out all call `Envelope.reply`; the first call counts.
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
            del error  # its traceback refers to this frame: avoid a reference cycle
    return envelope.value


async def _marked_ask(cell: Cell, envelope: Envelope, timeout: float | None) -> Any:
    """Ask, and report the end of the ask to the instruments that marked it."""
    marks = envelope.marks or ()
    try:
        value = await ask(cell, envelope, timeout)
    except BaseException as error:
        replied(cell, marks, error)
        raise
    replied(cell, marks, None)
    return value
