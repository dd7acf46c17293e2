"""Asks: a request and its reply."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from papyra._runtime.containment.thread_guard import check_thread, wrong_thread
from papyra._runtime.delivery.sending import deliver
from papyra._runtime.mailbox import raise_stopped
from papyra._runtime.observation.attached_instrument import replied
from papyra._runtime.wait_graph import begin_branch, begin_fork, begin_wait, end_wait, move_wait
from papyra.exceptions import ActorStopped, AskDeadlock, AskTimeout, PapyraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra._runtime.cell import Cell
    from papyra._runtime.envelope import Envelope
    from papyra._runtime.timers import Timer
    from papyra._runtime.wait_graph import Fork

__all__ = ["ask", "ask_many", "expire", "pass_on"]

_NEW_BOX: type[deque[Any]] = deque


async def ask(cell: Cell, envelope: Envelope, timeout: float | None) -> Any:
    """Deliver ``envelope`` and return the actor's reply, or raise its error.

    The reply, the actor's stop and the time-out all call `Envelope.reply`; the first call counts.
    """
    rt = cell.rt
    if not rt.owner._is_owned():
        raise wrong_thread(rt, "ask an actor")
    countdown = rt.countdown
    if countdown is not None and envelope.marks is None:
        if countdown.asks_left:
            countdown.asks_left -= 1
        elif countdown.ask(cell, envelope):
            return await _marked_ask(cell, envelope, timeout)
    me = rt.current_cell()
    if me is not None:
        if cell.stopping:
            raise_stopped(cell, envelope)
        begin_wait(me, cell, envelope)
        envelope.asker = me
    timer = None
    try:
        if timeout is not None:
            timer = expire(cell, envelope, timeout)
        box = cell.box
        if box is not None and len(box) < cell.limit:
            box.append(envelope)
        elif box is None and cell.limit > 0:
            # As in `ActorRef.tell`.
            if not rt.awake:
                rt.wake()
            box = rt.mailbox_pool.pop() if rt.mailbox_pool else _NEW_BOX()
            box.append(envelope)
            if cell.box is None:
                cell.box = box
                rt.ready.append(cell)
            else:
                await deliver(cell, envelope, waits=True)
        else:
            await deliver(cell, envelope, waits=True)
        if not envelope.replied:
            make_waiter = rt.loop.waiter  # in a line of its own: `loop.waiter()` would look for a method
            envelope.waiter = waiter = make_waiter()
            await waiter
    except BaseException:
        envelope.abandon()
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


def expire(cell: Cell, envelope: Envelope, timeout: float) -> Timer:
    """Let an ask of ``cell`` raise `AskTimeout` after ``timeout`` seconds."""
    return cell.rt.timers.after(timeout, lambda: envelope.reply(None, AskTimeout(cell, timeout)))


async def ask_many(
    asks: Sequence[tuple[Cell, Envelope, float | None]], *, return_exceptions: bool
) -> list[Any]:
    """Deliver all envelopes, then wait for their replies; all of it in the caller's task."""
    if not asks:
        return []
    for cell, _, _ in asks:
        check_thread(cell.rt, "ask an actor")
    me = asks[0][0].rt.current_cell()
    fork = begin_fork(me) if me is not None else None
    timers: list[Timer] = []
    cut: BaseException | None = None
    try:
        for cell, envelope, timeout in asks:
            if timeout is not None:
                timers.append(expire(cell, envelope, timeout))
            await _send(cell, envelope, me, fork)
        return [await _outcome(cell, envelope, return_exceptions) for cell, envelope, _ in asks]
    except BaseException as error:
        cut = error
        raise
    finally:
        if me is not None:
            end_wait(me)
        for timer in timers:
            timer.cancel()
        for cell, envelope, _ in asks:
            if envelope.marks is not None:
                replied(cell, envelope.marks, envelope.error if envelope.replied else cut)
            envelope.abandon()
            envelope.error = None
        cut = None  # its traceback refers to this frame: avoid a reference cycle


async def _outcome(cell: Cell, envelope: Envelope, return_exceptions: bool) -> Any:
    """Wait for the reply to one of several asks."""
    if not envelope.replied:
        envelope.waiter = cell.rt.loop.waiter()
        await envelope.waiter
    error = envelope.error
    if error is None:
        return envelope.value
    if return_exceptions:
        return error
    try:
        raise error
    finally:
        del error  # as in `ask`


async def _send(cell: Cell, envelope: Envelope, me: Cell | None, fork: Fork | None) -> None:
    """Deliver one of several asks; what prevents that is its reply."""
    countdown = cell.rt.countdown
    if countdown is not None:
        if countdown.asks_left:
            countdown.asks_left -= 1
        else:
            countdown.ask(cell, envelope)
    try:
        if me is not None and fork is not None:
            if cell.stopping:
                raise_stopped(cell, envelope)
            envelope.asker = begin_branch(me, fork, cell, envelope)
        await deliver(cell, envelope, waits=True)
    except PapyraError as error:
        envelope.reply(None, error)


async def pass_on(cell: Cell, envelope: Envelope) -> None:
    """Deliver an envelope that another actor was to answer; its asker now waits for ``cell``.

    If it can't be delivered, the asker gets the error and the caller goes on. If nobody asks, the message is
    one dead letter. Only `MailboxFull` of a tell is raised here.
    """
    asker = envelope.asker
    try:
        if asker is not None:
            move_wait(asker, cell)
        await deliver(cell, envelope)
    except ActorStopped as error:
        envelope.reply(None, error)
    except AskDeadlock as error:
        if not envelope.expects_reply:
            cell.rt.history.dead_letter(cell, envelope.message, expects_reply=False, reason="dropped")
        envelope.reply(None, error)
    except PapyraError as error:
        if not envelope.expects_reply:
            raise
        envelope.reply(None, error)
    except BaseException:
        envelope.reply(
            None, ActorStopped(cell, "was not reached: the actor that forwarded the message was cancelled")
        )
        raise
