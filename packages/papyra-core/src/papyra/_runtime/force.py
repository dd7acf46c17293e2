"""Ending what does not end by itself."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from papyra._runtime.cell import RESTARTING_STOP, STOPPED, STOPPING
from papyra._runtime.mailbox import close
from papyra._runtime.stopping import finish

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell

__all__ = ["force"]

_logger = logging.getLogger("papyra")


def force(cell: Cell, grace: float, level: int = 1) -> None:
    """End what still runs at ``cell`` and below, and end it harder each time ``grace`` seconds have passed.

    Level 0 cancels what runs, but no ``on_stop``, and the mailboxes become dead letters. Level 1 also cancels
    an ``on_stop`` that runs already; one that is still to come gets its time. Level 2 leaves no time: each
    ``on_stop`` gets as far as its first await. Level 3 gives up on code that ignores cancellation: the actor
    is reported and counts as stopped, its task is left behind.
    """
    if cell.phase == STOPPED:
        return
    _apply(cell, level)
    timers = cell.rt.timers
    if level < 2:
        timers.after(grace, partial(force, cell, grace, 2))
    else:
        timers.after(min(1.0, max(0.1, grace)), partial(force, cell, grace, 3))


def _apply(cell: Cell, level: int) -> None:
    rt = cell.rt
    busy = {worker.cell: worker for worker in rt.workers.values() if worker.cell is not None}
    me = rt.current_cell()
    for each in reversed(cell.subtree()):
        if each.phase == STOPPED:
            continue
        each.force = max(each.force, level, 1)
        if not each.stopping:
            each.reason = cell.reason if each is not cell else each.reason
            close(each)
        worker = busy.get(each)
        rt.signal(each)
        if worker is None or each is me:
            continue
        if level >= 3:
            worker.abandoned = worker.interrupted = True
            worker.cell = None
            _logger.error(
                "actor %s ignores cancellation; it counts as stopped and its task is left behind", each
            )
            finish(each)
        elif level > 0 or each.phase not in (RESTARTING_STOP, STOPPING):
            worker.interrupt()
