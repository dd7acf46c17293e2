"""The ready queue, and the workers that take cells from it.

A cell with something to do stands in ``ready`` once. A worker takes a cell, runs a turn of it, and puts it
back if it has more. A worker may be suspended inside an actor's code at any await, so before one runs a
cell while others wait, it makes sure that a spare worker is on its way (``awake`` counts them): should the
first be suspended, the spare goes on; should it not be, the spare finds nothing to do and parks.
"""

from __future__ import annotations

import random
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from papyra._runtime.cell import DEAD, SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from papyra._runtime.callbacks import Callbacks
    from papyra._runtime.cell import Cell
    from papyra._runtime.facts import Facts
    from papyra._runtime.lifecycle import Lifecycle
    from papyra._runtime.loops import Loop, Waiter
    from papyra._runtime.timers import Timers
    from papyra.system import ActorSystem

__all__ = ["BREATH", "MAX_BOXES", "Dispatcher", "Worker"]

BREATH = 500
"""After so many sends the sender lets the event loop go round once (guarantee 6)."""


MAX_BOXES = 64

SCHEDULE: ContextVar[random.Random | None] = ContextVar("papyra_schedule", default=None)
"""Set: a system started here draws the order of turns, their lengths and its pauses from it; see `papyra.testing`."""


class Worker:
    """A task that runs cells; ``cell`` is the one it is at."""

    __slots__ = ("abandoned", "cell", "home", "interrupted", "scope", "waiter")

    def __init__(self) -> None:
        self.cell: Cell | None = None
        self.home: Cell | None = None  # set: it serves this cell alone, in that cell's context variables
        self.scope: anyio.CancelScope | None = None
        self.waiter: Waiter | None = None
        self.interrupted = False  # its scope is cancelled: it must not touch another cell in it
        self.abandoned = False

    def interrupt(self) -> None:
        """Cancel the code of the actor it is at."""
        self.interrupted = True
        if self.scope is not None:
            self.scope.cancel()

    def label(self) -> str:
        """Name the worker in a task dump by the actor it runs."""
        return f"papyra actor {self.cell}" if self.cell is not None else "papyra worker (idle)"


class Dispatcher:
    """Everything that is shared by the cells of one system."""

    start_worker: Callable[[Cell | None], None]
    """Start a worker task, for any cell or for one alone; set by `papyra._runtime.workers`."""

    lifecycle: Lifecycle

    def __init__(
        self,
        system: ActorSystem,
        loop: Loop,
        facts: Facts,
        timers: Timers,
        callbacks: Callbacks,
        window_clock: Callable[[], float],
    ) -> None:
        self.ready: deque[Cell] = deque()
        self.awake = 0
        self.credit = BREATH
        self.parked: list[Worker] = []
        self.boxes: list[deque[Any]] = []
        self.workers: dict[object, Worker] = {}
        self.closing = False
        self.all_gone: Waiter | None = None
        self.schedule_rng = SCHEDULE.get()
        self.rng = self.schedule_rng or random.Random()  # noqa: S311 - spreads backoffs, guards nothing
        self.loop = loop
        self.facts = facts
        self.timers = timers
        self.callbacks = callbacks
        self.window_clock = window_clock
        self.system = system
        self.system_id = system.system_id
        self.cells: dict[int, Cell] = {}
        self.names: dict[str, Cell] = {}
        self.last_id = 0

    def new_box(self) -> deque[Any]:
        """Return an empty mailbox."""
        return self.boxes.pop() if self.boxes else deque[Any]()

    def keep_box(self, box: deque[Any]) -> None:
        """Keep an empty mailbox for the next cell that gets mail: a new deque costs 115 ns, a kept one 55."""
        if len(self.boxes) < MAX_BOXES:
            self.boxes.append(box)

    def wake(self) -> None:
        """Send a spare worker on its way."""
        self.awake += 1
        if self.parked:
            waiter = self.parked.pop().waiter
            assert waiter is not None  # noqa: S101 - a parked worker has one
            waiter.set_result(None)
        else:
            self.start_worker(None)

    def schedule(self, cell: Cell) -> None:
        """Put a cell that has a box, and stands in no queue, into the queue."""
        self.ready.append(cell)
        if not self.awake:
            self.wake()

    def signal(self, cell: Cell) -> None:
        """Have the cell look at what it must do besides messages, before the next of them."""
        box = cell.box
        if box is None:
            if cell.fresh:
                return  # it is queued, and looks at everything in its first turn
            cell.box = box = self.new_box()
            box.append(SIGNAL)
            self.schedule(cell)
            return
        box.appendleft(SIGNAL)
        if cell.paused:
            cell.paused = False
            self.schedule(cell)

    def signal_and_schedule(self, cell: Cell) -> None:
        """Put a cell that a worker lets go of into the queue, to look at what it must do."""
        if cell.phase == DEAD:
            return
        if cell.box is None:
            cell.box = deque()
        cell.box.appendleft(SIGNAL)
        self.schedule(cell)

    def worker_gone(self, worker: Worker) -> None:
        """Note the end of a worker: see that the queue has another, and tell a close that waits for the last."""
        if self.ready and not self.awake:
            self.wake()
        if self.all_gone is not None and not self.all_gone.done() and not self._workers_left():
            self.all_gone.set_result(None)

    def _workers_left(self) -> bool:
        return any(not worker.abandoned for worker in self.workers.values())

    async def close(self) -> None:
        """Let the workers end, once no cell is left; those left behind in code that ignores cancellation aside."""
        self.closing = True
        parked, self.parked = self.parked, []
        self.awake += len(parked)
        for worker in parked:
            if worker.waiter is not None and not worker.waiter.done():
                worker.waiter.set_result(None)
        if self._workers_left():
            self.all_gone = self.loop.waiter()
            await self.all_gone

    def current_cell(self) -> Cell | None:
        """Return the cell whose own code runs in the current task, if any.

        A task that an actor started is another task: its asks are its own.
        """
        worker = self.workers.get(self.loop.current_task())
        return worker.cell if worker is not None else None
