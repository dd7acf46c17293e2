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

from papyra._runtime.cell import SIGNAL, STOPPED
from papyra._runtime.tallies import Tallies

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from papyra._runtime._eventloop import Loop, Waiter
    from papyra._runtime.callbacks import Callbacks
    from papyra._runtime.cell import Cell
    from papyra._runtime.countdown import Countdown
    from papyra._runtime.fact_writer import Facts
    from papyra._runtime.instruments import Instruments
    from papyra._runtime.lifecycle import Lifecycle
    from papyra._runtime.timers import Timers
    from papyra.system import ActorSystem

__all__ = ["SEND_BUDGET", "WORKERS", "Runtime", "Worker"]

SEND_BUDGET = 500
"""After so many sends the sender lets the event loop go round once (guarantee 6)."""

MAX_BOXES = 512
"""Empty mailboxes kept: 0.4 MB in all, or 4.7 MB once each has held a thousand messages. As many as a sender fills
before the event loop goes round: with 64, of 500 actors that get a message each, 436 get a new box, and a new box
costs twice a kept one."""

SCHEDULE: ContextVar[random.Random | None] = ContextVar("papyra_schedule", default=None)
"""Set: a system started here draws the order of turns, their lengths and its pauses from it; see `papyra.testing`."""


class Worker:
    """A task that runs cells; ``cell`` is the one it is at."""

    __slots__ = ("abandoned", "cell", "home", "interrupted", "roused", "scope", "waiter")

    def __init__(self) -> None:
        self.cell: Cell | None = None
        self.home: Cell | None = None  # set: it serves this cell alone, in that cell's context variables
        self.scope: anyio.CancelScope | None = None
        self.waiter: Waiter | None = None
        self.interrupted = False  # its scope is cancelled: it must not touch another cell in it
        self.abandoned = False
        self.roused = False  # and counted awake

    def rouse(self) -> bool:
        """Wake the worker, which is parked; False if it is being cancelled and will not take another cell."""
        if self.waiter is None or self.waiter.done():
            return False
        self.roused = True
        self.waiter.set_result(None)
        return True

    def interrupt(self) -> None:
        """Cancel the code of the actor it is at."""
        self.interrupted = True
        if self.scope is not None:
            self.scope.cancel()

    def label(self) -> str:
        """Name the worker in a task dump by the actor it runs."""
        return f"papyra actor {self.cell}" if self.cell is not None else "papyra worker (idle)"


WORKERS: dict[object, Worker] = {}
"""The workers of all systems by their tasks: an actor of one may wait for an actor of another."""


class Runtime:
    """Everything that is shared by the cells of one system."""

    start_worker: Callable[[Cell | None], None]
    """Start a worker task, for any cell or for one alone; set by `papyra._runtime.worker_loop`."""

    lifecycle: Lifecycle
    instruments: Instruments

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
        self.credit = SEND_BUDGET
        self.countdown: Countdown | None = None  # while an instrument wants to see sends
        self.tallies = Tallies()
        self.parked: list[Worker] = []
        self.mailbox_pool: deque[deque[Any]] = deque(
            maxlen=MAX_BOXES
        )  # empty ones: a new deque costs twice as much
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
        return self.mailbox_pool.pop() if self.mailbox_pool else deque[Any]()

    def wake(self) -> None:
        """Send a spare worker on its way."""
        if self.loop.is_closed():
            self._all_to_dead_letters()
        self.awake += 1
        while self.parked:
            worker = self.parked.pop()
            if worker.rouse():
                return
        self.start_worker(None)

    def _all_to_dead_letters(self) -> None:
        """Let every actor count as stopped: the event loop has ended under them, and no code of theirs can run."""
        for cell in list(self.cells.values()):
            cell.stopping, cell.limit, cell.phase, cell.box = True, 0, STOPPED, None
        self.cells.clear()
        self.names.clear()
        self.facts.abandon()
        raise RuntimeError(
            f"the event loop of actor system {self.system_id!r} has ended, and the system with it; "
            "close a system (aclose) before its loop ends"
        )

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
        if cell.phase == STOPPED:
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
        self.awake += sum(worker.rouse() for worker in parked)
        if self._workers_left():
            self.all_gone = self.loop.waiter()
            await self.all_gone

    def runs_here(self, worker: Worker) -> bool:
        """Whether the current task is this worker's."""
        try:
            return self.workers.get(self.loop.current_task()) is worker
        except RuntimeError:  # trio, outside of its run
            return False

    def spurious_cancellation(self, cell: Cell, error: BaseException) -> Exception | None:
        """Return the failure that a cancellation out of an actor stands for, or None if it is a real one.

        On asyncio an actor may await something that was cancelled, or have its task cancelled by itself or
        by what an actor left behind that had the same worker before. What the runtime cancels, and the end
        of the event loop, are real.
        """
        worker = self.workers.get(self.loop.current_task())
        if not self.loop.has_strays or worker is None or worker.interrupted or self.loop.ending():
            return None
        failure = RuntimeError(f"actor {cell} ended in a cancellation that nobody asked for")
        failure.__cause__ = error
        return failure

    def current_cell(self) -> Cell | None:
        """Return the cell whose own code runs in the current task, if any.

        A task that an actor started is another task: its asks are its own.
        """
        worker = WORKERS.get(self.loop.current_task())
        return worker.cell if worker is not None else None

    def enter(self, worker: Worker) -> object:
        """Note that the current task is ``worker``; return the task."""
        task = self.loop.current_task()
        self.workers[task] = WORKERS[task] = worker
        return task

    def leave(self, task: object, worker: Worker) -> None:
        """Note that the task has ended."""
        self.workers.pop(task, None)
        WORKERS.pop(task, None)
        self.worker_gone(worker)
