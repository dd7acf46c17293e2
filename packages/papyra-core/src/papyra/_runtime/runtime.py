"""The state that the cells of one system share: the ready queue and the workers that take cells from it.

A cell with something to do is in ``ready`` once. A worker takes a cell, runs a turn of it, and puts it back
if more is left. A worker may be suspended at any await in an actor's code. So before it runs a cell while
others wait, it makes sure that a spare worker is coming (``awake`` counts them). If the first worker is
suspended, the spare continues; if not, the spare finds nothing to do and parks.
"""

from __future__ import annotations

import random
from collections import deque
from itertools import repeat, takewhile
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from papyra._runtime import phases
from papyra._runtime.containment.failures import left_open
from papyra._runtime.containment.stack_guard import need_frames_to_wake
from papyra._runtime.containment.thread_guard import IS_OWNED, owner_of_this_thread
from papyra._runtime.context_guard import reference_of
from papyra._runtime.envelope import SIGNAL
from papyra._runtime.observation.tallies import Tallies
from papyra._runtime.phases import STOPPED
from papyra._runtime.process.threads import BlockingThreads
from papyra._runtime.worker import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from papyra._runtime._eventloop import Loop, Waiter
    from papyra._runtime.cell import Cell
    from papyra._runtime.delivery.send_countdown import Countdown
    from papyra._runtime.fact_writer import FactWriter
    from papyra._runtime.history import History
    from papyra._runtime.hook_calls import HookCalls
    from papyra._runtime.instruments import Instruments
    from papyra._runtime.lifecycle import Lifecycle
    from papyra._runtime.timers import Timers
    from papyra._runtime.worker import Worker
    from papyra.cluster import ClusterDriver
    from papyra.portal import Portal
    from papyra.system import ActorSystem

__all__ = ["SEND_BUDGET", "Runtime"]

SEND_BUDGET = 500
"""Sends after which the sender lets the event loop go round once (guarantee 6)."""

MAX_POOLED_MAILBOXES = 512
"""Empty mailboxes kept for the next cells: 0.4 MB, or 4.7 MB once each has held a thousand messages.

This is about what a sender fills before the event loop goes round. A new mailbox takes twice as long as a
kept one.
"""

MAX_IDLE_STOPS = 16
"""Idle children that stop in one turn of their parent, 2 us each. A turn for each child would double that."""


class Runtime:
    """The state that the cells of one system share."""

    # Slots, because CPython 3.11 calls no method fast whose object has more than 30 attributes in a dict.
    __slots__ = (
        "_allowed",
        "all_gone",
        "awake",
        "cells",
        "clean_context",
        "closing",
        "cluster",
        "countdown",
        "expired_asks",
        "fact_writer",
        "history",
        "hooks",
        "instruments",
        "last_id",
        "lifecycle",
        "loop",
        "mailbox_pool",
        "max_idle_stops",
        "must_yield",
        "names",
        "owner",
        "parked",
        "portals",
        "ready",
        "rng",
        "sends",
        "start_worker",
        "system",
        "system_id",
        "tallies",
        "threads",
        "timers",
        "window_clock",
        "workers",
    )

    start_worker: Callable[[Cell | None], None]
    """Start a worker task for the ready queue or for one cell; set by `papyra._runtime.worker_loop`."""

    lifecycle: Lifecycle
    instruments: Instruments

    def __init__(
        self,
        system: ActorSystem,
        loop: Loop,
        history: History,
        fact_writer: FactWriter,
        timers: Timers,
        hooks: HookCalls,
        window_clock: Callable[[], float],
    ) -> None:
        self.ready: deque[Cell] = deque()
        self.awake = 0
        self.countdown: Countdown | None = None  # while an instrument wants to see sends
        self.expired_asks = 0  # skipped, because the asker had gone before the handling began
        self.tallies = Tallies()
        self.parked: list[Worker] = []
        self.threads = BlockingThreads(loop, system.blocking_threads)
        self.portals: WeakSet[Portal] = WeakSet()
        self.mailbox_pool: deque[deque[Any]] = deque(maxlen=MAX_POOLED_MAILBOXES)  # empty mailboxes
        self.workers: dict[object, Worker] = {}
        self.closing = False
        self.all_gone: Waiter | None = None
        self.max_idle_stops = MAX_IDLE_STOPS
        self.owner = owner_of_this_thread()  # the one of the event loop
        self.allow_sends(SEND_BUDGET)
        self.rng = random.Random()  # noqa: S311 - spreads backoffs, protects nothing
        self.loop = loop
        self.clean_context = reference_of(loop.clean_context)
        self.history = history
        self.fact_writer = fact_writer
        self.timers = timers
        self.hooks = hooks
        self.window_clock = window_clock
        self.system = system
        self.system_id = system.system_id
        self.cluster: ClusterDriver | None = None
        self.cells: dict[int, Cell] = {}
        self.names: dict[str, Cell] = {}
        self.last_id = 0
        self.must_yield = False  # whether the event loop has to go round before the next send that stops

    def allow_sends(self, sends: int | None = None) -> None:
        """Let this many sends pass before one has to stop; without a number, as many as there were left.

        Each send takes a step of ``sends``, which ends when they are used up, and at once in another thread.
        """
        # One iterator in C for both costs 90 instructions a send. A counter and a call of the lock cost 330.
        if sends is not None:
            self._allowed = repeat(self.owner, sends)
        self.sends: Iterator[object] = takewhile(IS_OWNED, self._allowed)

    def new_box(self) -> deque[Any]:
        """Return an empty mailbox."""
        return self.mailbox_pool.pop() if self.mailbox_pool else deque[Any]()

    def wake(self) -> None:
        """Wake or start a spare worker."""
        if not self.loop.rouse():
            self.abandon()
            raise RuntimeError(
                f"the event loop of actor system {self.system_id!r} has ended, and the system with it. "
                "Close a system with aclose() before its loop ends"
            )
        if self.parked:
            need_frames_to_wake()
        self.awake += 1
        try:
            while self.parked:
                worker = self.parked.pop()
                # `Worker.rouse`, without a call: each ask of an idle actor wakes a worker.
                waiter = worker.waiter
                if waiter is not None and not waiter.done():
                    worker.roused = True
                    waiter.set_result(None)
                    return
            self.start_worker(None)
        except BaseException:
            self.awake -= 1
            raise

    def abandon(self) -> None:
        """Count every actor as stopped, because the event loop has ended and none of their code can run."""
        for cell in list(self.cells.values()):
            cell.stopping, cell.limit, cell.box = True, 0, None
            if cell.phase != STOPPED:
                phases.enter(cell, STOPPED)
        self.cells.clear()
        self.names.clear()
        self.fact_writer.abandon()
        self.history.dead_letters.close()

    def schedule(self, cell: Cell) -> None:
        """Put a cell that has a box and is not queued into the queue."""
        if not self.awake:
            self.wake()  # first: if it raises, nothing has changed
        self.ready.append(cell)

    def signal(self, cell: Cell) -> None:
        """Have the cell look for work other than messages before it handles the next message."""
        if cell.box is None:
            if cell.fresh:
                return  # it is queued, and its first turn looks at everything
            if not self.awake:
                self.wake()  # first: if it raises, nothing has changed
            box = self.new_box()
            box.append(SIGNAL)
            if cell.box is None:  # else a finalizer, which may run at any call, has sent to it
                cell.box = box
                self.ready.append(cell)
                return
        if cell.paused:
            if not self.awake:
                self.wake()
            if cell.paused:  # as above
                cell.paused = False
                self.ready.append(cell)
        cell.box.appendleft(SIGNAL)

    def signal_and_schedule(self, cell: Cell) -> None:
        """Queue a cell that a worker releases, and have it look for work other than messages."""
        if cell.phase == STOPPED:
            return
        self.schedule(cell)
        if cell.box is None:
            cell.box = deque()
        cell.box.appendleft(SIGNAL)

    def worker_gone(self, worker: Worker) -> None:
        """Note the end of a worker.

        Replace it if cells are queued, and wake a close that waits for the last one.
        """
        if self.ready and not self.awake:
            self.wake()
        if self.all_gone is not None and not self.all_gone.done() and not self._workers_left():
            self.all_gone.set_result(None)

    def _workers_left(self) -> bool:
        return any(not worker.abandoned for worker in self.workers.values())

    async def close(self) -> None:
        """Return when every worker has ended, except those in code that ignores cancellation.

        No cell may be left.
        """
        self.closing = True
        parked, self.parked = self.parked, []
        self.awake += sum(worker.rouse() for worker in parked)
        if self._workers_left():
            self.all_gone = self.loop.waiter()
            await self.all_gone

    def runs_here(self, worker: Worker) -> bool:
        """Return whether the current task is this worker's."""
        try:
            return self.workers.get(self.loop.current_task()) is worker
        except RuntimeError:  # trio, outside of its run
            return False

    def spurious_cancellation(self, cell: Cell, error: BaseException) -> Exception | None:
        """Return the failure for a cancellation that nobody asked for, or None if it was requested.

        On asyncio an actor may await something that was cancelled. Its task may also be cancelled by the
        actor itself, or by code that an earlier actor left behind in the same worker. Cancellations by the
        runtime, and at the end of the event loop, are requested ones.
        """
        worker = self.workers.get(self.loop.current_task())
        if worker is None or worker.interrupted:
            return None
        # A scope that the actor has open may be cancelled: that is not a request.
        if self.loop.has_strays or worker.scopes is None:
            requested = self.loop.ending()
        else:
            requested = worker.scopes.is_cancelled(worker.floor)
        if requested:
            return None
        if worker.spoilt:
            failure = left_open(cell, "a message or a hook")
        else:
            failure = RuntimeError(f"actor {cell} ended in a cancellation that nobody asked for")
        failure.__cause__ = error
        return failure

    def current_cell(self) -> Cell | None:
        """Return the cell whose own code runs in the current task, or None.

        A task that an actor started is a task of its own: its waits are not the actor's.
        """
        worker = WORKERS.get(self.loop.current_task())
        return worker.cell if worker is not None else None

    def enter(self, worker: Worker) -> object:
        """Register the current task as ``worker``; return the task."""
        task = self.loop.current_task()
        self.workers[task] = WORKERS[task] = worker
        return task

    def leave(self, task: object, worker: Worker) -> None:
        """Unregister a task that ends."""
        self.workers.pop(task, None)
        WORKERS.pop(task, None)
        worker.cell = worker.scope = worker.inner = worker.scopes = (
            None  # cells may keep a worker that has ended
        )
        self.worker_gone(worker)
