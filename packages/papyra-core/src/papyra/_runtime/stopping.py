"""How an actor stops, what remains to be done when it has, and how a stop that takes too long is forced."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from papyra._runtime import phases
from papyra._runtime.containment.log import LOG
from papyra._runtime.containment.stack_guard import need_frames
from papyra._runtime.end_reason import EndReason
from papyra._runtime.mailbox import close, discard, stopped_early
from papyra._runtime.phases import (
    RESTARTING_CHILDREN,
    RESTARTING_STOP,
    STOPPED,
    STOPPING,
    STOPPING_CHILDREN,
    SUSPENDED,
)
from papyra._runtime.wait_graph import wait_for_child
from papyra._runtime.watching import forget, tell_watchers
from papyra._runtime.worker import Worker
from papyra.supervision import SupervisorDecision

if TYPE_CHECKING:
    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.cell import Cell

__all__ = [
    "ABANDON",
    "CANCEL_BUT_ON_STOP",
    "NO_TIME",
    "begin_stopping_children",
    "finish",
    "force",
    "interrupted",
    "note_interrupted",
    "request_stop",
    "stop_failed",
    "stop_from_inside",
    "stop_next_child",
    "stop_waiter",
]

STOP_FRAMES = 20
"""Frames for the start of a stop, in which a group may turn to its next member."""


def request_stop(cell: Cell, reason: str | None = None) -> None:
    """Refuse new messages, and stop when the queued ones are handled.

    Harmless if the cell is stopping already.
    """
    if cell.phase == STOPPED:
        return
    if not cell.stopping:
        need_frames(STOP_FRAMES)
        cell.rt.signal(cell)  # first: if it raises, nothing has changed
        cell.reason = reason or "stopped"
        close(cell)


def stop_from_inside(cell: Cell, me: Cell) -> None:
    """Stop ``cell`` at the request of ``me``, which is ``cell`` or below it.

    ``me`` handles no further message.
    """
    if me.phase == STOPPED:
        return
    request_stop(me)
    me.rt.signal(me)  # also if it was stopping already: the rest of its mailbox becomes dead letters
    me.halted = True
    if cell is not me:
        request_stop(cell)


def stop_failed(cell: Cell, reason: str) -> None:
    """Stop a cell that failed. The messages in its mailbox become dead letters."""
    cell.reason = reason
    close(cell)
    begin_stopping_children(cell)


def begin_stopping_children(cell: Cell) -> None:
    """Stop a cell now, its children first. The messages in its mailbox become dead letters."""
    close(cell)
    if cell.resources is not None:
        cell.resources.release(stopped_early(cell))
    cell.cancel_timer()
    phases.enter(cell, STOPPING_CHILDREN)


def stop_next_child(cell: Cell) -> bool:
    """Stop the newest child, and before it the idle ones that are newer. Return False if no child is left."""
    reason = "shutdown" if cell.reason == "shutdown" else "stopped"
    # A hook may be slow, and the worker looks at the clock only between turns.
    left = 1 if cell.rt.history.reports_events else cell.rt.max_idle_stops
    can_stop_at_once = cell.rt.lifecycle.can_stop_at_once
    while True:
        children = cell.children
        if not children:
            cell.waits_for = None
            return False
        # The newest, in O(1): next(reversed(children)) would pass all entries that were removed before.
        number, child = children.popitem()
        left -= 1
        if not (left and can_stop_at_once(child)):
            break
        child.reason = reason
        close(child)
        _end(child)
    children[number] = child
    request_stop(child, reason)
    cell.waits_for = child
    if child.waits_for is not None:
        wait_for_child(cell, child)
    if child.phase == SUSPENDED:
        cell.rt.signal(child)  # this cell makes no more decisions
    return True


def finish(cell: Cell) -> None:
    """Make the cell dead, and let its parent continue if it waits for that."""
    if cell.phase == STOPPED:
        return  # it was abandoned in its ``on_stop``, which has now returned
    _end(cell)
    parent = cell.parent
    if parent is not None and parent.children is not None:
        parent.children.pop(cell.id, None)
        # A parent that waits for its children stops the next one here: a turn of its own for each child
        # would be a third of what the stop of a system costs (benchmark row `record`).
        if parent.phase in (STOPPING_CHILDREN, RESTARTING_CHILDREN) and (
            not parent.paused or not stop_next_child(parent)
        ):
            cell.rt.signal(parent)


def _end(cell: Cell) -> None:
    """Make the cell dead: notify everybody who waits for it, except its parent, and forget it."""
    rt = cell.rt
    if cell.resources is not None:
        cell.resources.release(stopped_early(cell))  # of an on_stop that was abandoned
    if cell.box:
        discard(cell)
    answering, cell.answering = cell.answering, None
    if answering is not None:
        answering.reply(None, stopped_early(cell))
    phases.enter(cell, STOPPED)
    if cell.group is not None:
        cell.group.gone(cell)
    # Not returned to the pool: a worker that was abandoned in this actor's code may still read it.
    cell.box = None
    cell.paused = False
    rt.cells.pop(cell.id, None)
    if cell.name is not None and rt.names.get(cell.name) is cell:
        del rt.names[cell.name]
    if cell.parent is not None:
        rt.tallies.count_stopped(cell)
        if cell.failure is not None:
            rt.lifecycle.supervision.settle(cell, SupervisorDecision.STOP)
        try:
            rt.history.stopped(cell)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the waits for this stop must still end
            rt.loop.fatal(error)
    if cell.watching is not None:
        forget(cell)
    if cell.watchers is not None:
        tell_watchers(cell)
    waiters, cell.stop_waiters = cell.stop_waiters, None
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(None)
    if cell.failure is not None:
        cell.reason = EndReason.of(cell, rt.history.clock())
    own = cell.variables
    if type(own) is Worker and own.waiter is not None and not own.waiter.done():
        own.waiter.set_result(None)  # it waits for a turn that does not come: it has to end
    # References may keep a dead cell alive; release everything that it no longer needs.
    cell.resources = None
    cell.actor = cell.factory = cell.receive = cell.failure = None
    cell.worker = cell.variables = cell.waits_for = cell.undecided = cell.restarts = cell.children = (
        cell.escalated
    ) = None


def interrupted(cell: Cell) -> None:
    """Queue a cell whose running code was cancelled, to continue with its stop."""
    note_interrupted(cell)
    cell.rt.signal_and_schedule(cell)


def note_interrupted(cell: Cell) -> None:
    """Let a cell whose running code was cancelled stop."""
    answering, cell.answering = cell.answering, None
    if answering is not None:
        answering.reply(None, stopped_early(cell))
    if cell.phase in (RESTARTING_STOP, STOPPING):
        cell.actor = None  # its on_stop was cancelled
    if cell.group is not None and cell.group.wants_down(cell) and not cell.stopping:
        if cell.phase < RESTARTING_STOP:
            cell.rt.lifecycle.supervision.withdraw(cell)
            phases.enter(cell, RESTARTING_STOP)
    elif cell.phase < STOPPING_CHILDREN:
        begin_stopping_children(cell)


def stop_waiter(cell: Cell) -> Waiter:
    """Return a waiter that is done when the cell is dead."""
    waiter = cell.rt.loop.waiter()
    if cell.phase == STOPPED:
        waiter.set_result(None)
    else:
        if cell.stop_waiters is None:
            cell.stop_waiters = []
        cell.stop_waiters.append(waiter)
    return waiter


# -- force


# The levels of a force, each harder than the one before. A turn reads `Cell.force`, so they are plain ints.
# There 0 means that nothing was forced: `CANCEL_BUT_ON_STOP` is noted as `CANCEL_ALL`.
CANCEL_BUT_ON_STOP: Final = 0
CANCEL_ALL: Final = 1
NO_TIME: Final = 2
ABANDON: Final = 3


def force(cell: Cell, grace: float, level: int = CANCEL_ALL) -> None:
    """End the code that runs in ``cell`` and its descendants, harder each time ``grace`` seconds have passed.

    `CANCEL_BUT_ON_STOP` cancels the running code except ``on_stop``, and the mailboxes become dead letters.
    `CANCEL_ALL` also cancels an ``on_stop`` that runs already; one that has not begun gets its time.
    `NO_TIME` leaves no time: each ``on_stop`` runs until its first await. `ABANDON` gives up on code that
    ignores cancellation: the actor is logged and counts as stopped, and its task is abandoned.
    """
    if cell.phase == STOPPED:
        return
    rt = cell.rt
    me = rt.current_cell()
    for each in reversed(cell.subtree()):
        if each.phase != STOPPED:
            _force_one(each, level, cell.reason, None if each is me else each.running())
    if level < NO_TIME:
        rt.timers.after(grace, partial(force, cell, grace, NO_TIME))
    else:
        rt.timers.after(min(1.0, max(0.1, grace)), partial(force, cell, grace, ABANDON))


def _force_one(cell: Cell, level: int, reason: str, worker: Worker | None) -> None:
    cell.force = max(cell.force, level, CANCEL_ALL)
    if not cell.stopping:
        cell.reason = reason
        close(cell)
    cell.rt.signal(cell)
    if worker is None:
        return
    if level >= ABANDON:
        worker.abandoned = worker.interrupted = True
        worker.cell = None
        LOG.error("actor %s ignores cancellation; it counts as stopped and its task is abandoned", cell)
        finish(cell)
    elif level > CANCEL_BUT_ON_STOP or cell.phase not in (RESTARTING_STOP, STOPPING):
        worker.interrupt()
