"""How an actor stops, and what is left to do when it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra import events as ev
from papyra._runtime.cell import (
    RESTARTING_CHILDREN,
    RESTARTING_STOP,
    STOPPED,
    STOPPING,
    STOPPING_CHILDREN,
    SUSPENDED,
)
from papyra._runtime.mailbox import close, discard, stopped_early
from papyra._runtime.wait_graph import wait_for_child
from papyra._runtime.watching import forget, tell_watchers

if TYPE_CHECKING:
    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.cell import Cell

__all__ = [
    "begin_stopping_children",
    "children_gone",
    "finish",
    "interrupted",
    "request_stop",
    "stop_failed",
    "stop_from_inside",
    "stop_waiter",
]

AT_ONCE = 16
"""Idle children that stop in one turn of their parent, 2 us each: to give each a turn of its own costs as much again."""


def request_stop(cell: Cell, reason: str | None = None) -> None:
    """Take no new messages, and stop once what is queued is done. Harmless if the cell stops already."""
    if cell.phase == STOPPED:
        return
    if not cell.stopping:
        cell.reason = reason or "stopped"
        close(cell)
        cell.rt.signal(cell)


def stop_from_inside(cell: Cell, me: Cell) -> None:
    """Stop ``cell``, at the request of ``me`` at or below it: ``me`` takes no further message."""
    if me.phase == STOPPED:
        return
    me.halted = True
    request_stop(me)
    me.rt.signal(me)  # also if it was stopping already, and is only spared the rest of its mailbox
    if cell is not me:
        request_stop(cell)


def stop_failed(cell: Cell, reason: str) -> None:
    """Have a cell that failed stop, without working off its mailbox."""
    cell.reason = reason
    close(cell)
    begin_stopping_children(cell)


def begin_stopping_children(cell: Cell) -> None:
    """Have a cell stop now, its children first; what is in its mailbox becomes dead letters."""
    close(cell)
    if cell.timer is not None:
        cell.timer.cancel()
        cell.timer = None
    cell.phase = STOPPING_CHILDREN


def children_gone(cell: Cell) -> bool:
    """Stop the newest child there is, and before it those that are idle; True if there is none left."""
    reason = "shutdown" if cell.reason == "shutdown" else "stopped"
    # A hook may take its time, and the worker looks at the clock only between turns.
    left = 1 if cell.rt.facts.tells_events else AT_ONCE
    while True:
        children = cell.children
        if not children:
            cell.waits_for = None
            return True
        # The newest, in O(1): next(reversed(children)) walks over all that were removed before.
        number, child = children.popitem()
        left -= 1
        if not (left and cell.rt.lifecycle.has_only_to_die(child)):
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
        cell.rt.signal(child)  # this cell decides no more
    return False


def finish(cell: Cell) -> None:
    """Make the cell dead, and have its parent go on if it waits for that."""
    if cell.phase == STOPPED:
        return  # it was left behind in its ``on_stop``, which has ended after all
    _end(cell)
    parent = cell.parent
    if parent is not None and parent.children is not None:
        parent.children.pop(cell.id, None)
        # One that waits for its children has the next of them stop here and now: a turn of its own for each
        # child would be a third of what the stop of a system costs (row `record`).
        if parent.phase in (STOPPING_CHILDREN, RESTARTING_CHILDREN) and (
            not parent.paused or children_gone(parent)
        ):
            cell.rt.signal(parent)


def _end(cell: Cell) -> None:
    """Make the cell dead: everybody who waits for it but its parent is told, and the system forgets it."""
    rt = cell.rt
    if cell.box:
        discard(cell)
    answering, cell.answering = cell.answering, None
    if answering is not None:
        answering.reply(None, stopped_early(cell))
    cell.phase = STOPPED
    # Not kept for another: a worker left behind in this actor's code may still look into it.
    cell.box = None
    cell.paused = False
    rt.cells.pop(cell.id, None)
    if cell.name is not None and rt.names.get(cell.name) is cell:
        del rt.names[cell.name]
    if cell.parent is not None:
        rt.tallies.bury(cell)
        try:
            rt.facts.event(ev.ActorStopped, cell, {"reason": cell.reason})
        except BaseException as error:  # noqa: BLE001 - a user's clock; who waits for this stop must be told all the same
            rt.loop.fatal(error)
    if cell.watching is not None:
        forget(cell)
    if cell.watchers is not None:
        tell_watchers(cell)
    waiters, cell.stop_waiters = cell.stop_waiters, None
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(None)
    # What a dead cell, kept alive by a reference, does not need any more.
    cell.actor = cell.context = cell.factory = cell.receive = cell.failure = None
    cell.variables = cell.waits_for = cell.judging = cell.restarts = cell.children = cell.escalated = None


def interrupted(cell: Cell) -> None:
    """Go on with a cell whose running code was cancelled."""
    answering, cell.answering = cell.answering, None
    if answering is not None:
        answering.reply(None, stopped_early(cell))
    if cell.phase in (RESTARTING_STOP, STOPPING):
        cell.actor = None  # its on_stop is what was cancelled
    if cell.phase < STOPPING_CHILDREN:
        begin_stopping_children(cell)
    cell.rt.signal_and_schedule(cell)


def stop_waiter(cell: Cell) -> Waiter:
    """Return something to await that is done when the cell is dead."""
    waiter = cell.rt.loop.waiter()
    if cell.phase == STOPPED:
        waiter.set_result(None)
    else:
        if cell.stop_waiters is None:
            cell.stop_waiters = []
        cell.stop_waiters.append(waiter)
    return waiter
