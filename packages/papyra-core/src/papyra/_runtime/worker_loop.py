"""The tasks that run actors' code.

A worker takes a cell from the ready queue and runs a turn of it: some of its messages, or what else is due.
All of an actor's code runs directly in the worker's task, so cancel scopes and time-outs in ``receive``
work as anywhere, and cancelling the worker's own scope cancels just the code of the actor it is at.

A worker must show every actor the same clean context variables. One whose variables an actor has changed
is given up; that actor keeps them (``cell.variables``) and is from then on run by workers of its own, as
if it had a task for itself.
"""

from __future__ import annotations

import logging
from collections import deque
from contextvars import copy_context
from functools import partial
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, cast

import anyio

from papyra._runtime.attached import begin, end
from papyra._runtime.cell import SIGNAL, STARTING, STOPPED, Envelope
from papyra._runtime.mailbox import grant
from papyra._runtime.runtime import Worker
from papyra._runtime.stopping import interrupted
from papyra.proxy import CallerError

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from papyra._runtime.cell import Cell
    from papyra._runtime.runtime import Runtime

__all__ = ["Workers"]

_logger = logging.getLogger("papyra")

TURN = 64
"""The most messages of one turn, and the most between two looks at the clock."""

SLICE = 0.0005
"""Seconds after which a worker lets the event loop go round. With 64 messages of 0.3 us each a look at the
clock costs nothing; where messages are slow the looks come closer, down to one after each message."""

NUDGE = 0.00005
"""Seconds without the GIL for the thread of a store that is at work: it else gets the GIL every 5 ms, and loses
it at each system call. With it a system that starts and stops 100,000 actors writes as it goes; without it the
file's first batch took 1.2 s."""

MAX_PARKED = 32
"""Idle workers kept for the next burst of suspended actors; each is a task of about 3 KB."""


class _Clean:
    """The context variables that a worker began with."""

    __slots__ = ("context", "watched")

    def __init__(self) -> None:
        self.context = copy_context()
        # An equal value is not the same value; for these types nobody can tell.
        self.watched = tuple(
            (var, value)
            for var, value in self.context.items()
            if type(value) not in (str, bytes, type(None))  # not the numbers: 1 == True
        )

    def stained(self) -> bool:
        """Whether an actor has changed them. Contexts share their tree until then, so the comparison takes 30 ns."""
        try:
            if copy_context() != self.context:
                return True
        except Exception:  # noqa: BLE001 - the values are users' objects, and comparing them may raise; only changed ones are compared
            return True
        return any(var.get(None) is not value for var, value in self.watched)


class Workers:
    """Starts workers and is their code."""

    def __init__(self, rt: Runtime, fatal: Callable[[BaseException], None]) -> None:
        self._rt = rt
        self._fatal = fatal
        rt.start_worker = self.start

    def start(self, home: Cell | None = None) -> None:
        """Start a worker: for the ready queue, or for one cell in that cell's own context variables."""
        worker = Worker()
        worker.home = home
        context = home.variables if home is not None else None
        self._rt.loop.spawn(partial(self._main, worker), worker.label, context)

    async def _main(self, worker: Worker) -> None:
        rt = self._rt
        task = rt.enter(worker)
        clean = _Clean()
        queue = rt.ready
        if worker.home is None:
            rt.awake -= 1
        else:
            queue = deque((worker.home,))
        try:
            while True:
                with anyio.CancelScope() as scope:
                    worker.scope = scope
                    worker.interrupted = False
                    if await self._work(worker, queue, clean):
                        return
                if self._after_cancel(worker, clean):
                    return
        except Exception as error:  # noqa: BLE001 - an error of this package's own: it ends the system, and the host sees it
            self._fatal(error)
            if worker.cell is not None and not worker.abandoned:
                interrupted(worker.cell)
        except anyio.get_cancelled_exc_class():
            # Not its scope but the task was cancelled: the event loop ends, or somebody cancels all tasks there are.
            if worker.cell is not None and not worker.abandoned:
                interrupted(worker.cell)
            raise
        finally:
            rt.leave(task, worker)

    async def _work(self, worker: Worker, ready: deque[Cell], clean: _Clean) -> bool:
        """Run the cells of ``ready``. Return True when the worker is done for good, False when it needs a new scope.

        The hot path. What each trick in it brings is in docs/design/dispatcher.md.
        """
        rt = self._rt
        mine = worker.home is not None
        lifecycle = rt.lifecycle
        mailbox_pool = rt.mailbox_pool
        context, watched = clean.context, clean.watched
        cancelling = rt.loop.cancelling()
        rng = rt.schedule_rng
        left = budget = 8  # messages until the next look at the clock
        began = perf_counter()
        while True:
            while ready:
                cell = ready.popleft() if rng is None else _draw(ready, rng)
                if cell.variables is not None and not mine:
                    self.start(cell)
                    continue
                worker.cell = cell
                if ready and not rt.awake:
                    rt.wake()  # this worker may be suspended at any await from here on
                box = cell.box
                receive: Any = cell.receive or (_bind(cell) if box and box[0] is not SIGNAL else None)
                calm = box is not None  # nothing but messages comes up
                n = left
                try:
                    while n and box:
                        n -= 1
                        item = box.popleft()
                        if cell.senders is not None:
                            grant(cell)
                        if item.__class__ is not Envelope:
                            await receive(item)
                        elif item is not SIGNAL:
                            await (_answer(cell, item) if item.marks is None else _observed(cell, item))
                        else:
                            calm = False
                            n += 1  # it is no message: `processed` counts those
                            break
                except BaseException as error:  # noqa: BLE001 - told apart there; what is not an actor's failure is raised again
                    failure = self._classify(worker, cell, error)
                    if failure is None:
                        return True
                    calm = False
                    if await self._failed(worker, cell, failure):
                        return True
                    failure = None  # its traceback refers to this frame, and to those of the actor's code
                if worker.interrupted:
                    # The code ignored its cancellation, or was faster than it.
                    if worker.abandoned:
                        return True
                    rt.signal_and_schedule(cell)
                    worker.cell = None
                    return False
                cell.processed += left - n
                left = n
                if calm:
                    if box:
                        ready.append(cell)
                    else:
                        cell.box = None
                        mailbox_pool.append(box)  # type: ignore[arg-type]  # None is not calm
                else:
                    left -= 4
                    item = None  # it may be another actor's, and `on_start` may take its time
                    try:
                        rest = lifecycle.begin(cell) if cell.fresh else lifecycle.step(cell)
                        if rest is not None:
                            await rest
                    except BaseException as error:
                        if isinstance(error, Exception):
                            raise  # no actor's: `step` sees to those
                        failure = self._classify(worker, cell, error)
                        if failure is None:
                            return True
                        if cell.phase == STARTING and not worker.interrupted:
                            if not await self._failed(worker, cell, failure):
                                rt.signal_and_schedule(cell)
                        else:
                            _logger.error("actor %s failed", cell, exc_info=failure)
                            interrupted(cell)
                        return True
                    if worker.interrupted:
                        worker.cell = None
                        return worker.abandoned
                if not mine:
                    try:
                        stained = copy_context() != context
                    except Exception:  # noqa: BLE001 - the values are users' objects, and comparing them may raise; only changed ones are compared
                        stained = True
                    if stained or (watched and clean.stained()):
                        self._settle(cell)
                        return True
                if not calm and cancelling is not None and cancelling():
                    return True  # somebody cancelled the task itself: it is of no more use
                if left <= 0 or rng is not None:
                    # Adapt: look at the clock more often where messages take long.
                    late = perf_counter() - began > SLICE if rng is None else rng.random() < 0.3
                    budget = max(1, budget >> 1) if late else min(TURN, budget << 1)
                    left = budget if rng is None else rng.randint(1, budget)
                    if late:
                        worker.cell = None
                        if rt.facts.is_backlogged():
                            sleep(NUDGE)  # noqa: ASYNC251 - on purpose, see there
                        rt.awake += not mine  # one that serves a cell alone is no spare for the queue
                        try:
                            await rt.loop.yield_to_loop()
                        finally:
                            rt.awake -= not mine
                        began = perf_counter()
            worker.cell = None
            if mine or rt.closing or len(rt.parked) >= MAX_PARKED:
                return True
            # However long it is parked: it keeps nothing of the last actor alive.
            cell = box = receive = item = None  # type: ignore[assignment]  # set anew before any use
            await self._park(worker)
            began = perf_counter()

    async def _park(self, worker: Worker) -> None:
        rt = self._rt
        worker.waiter = rt.loop.waiter()
        rt.parked.append(worker)
        try:
            await worker.waiter
        finally:
            if worker.roused:
                worker.roused = False
                rt.awake -= 1
            elif worker in rt.parked:  # cancelled from outside
                rt.parked.remove(worker)

    def _settle(self, cell: Cell) -> None:
        """Let the cell keep the context variables that it has changed; the worker ends."""
        if cell.phase != STOPPED:
            cell.variables = copy_context()

    def _after_cancel(self, worker: Worker, clean: _Clean) -> bool:
        """Clean up after the scope was cancelled. Return True if the worker ends."""
        cell, worker.cell = worker.cell, None
        if worker.abandoned:
            return True
        stained = worker.home is None and clean.stained()
        if cell is not None and cell.phase != STOPPED:
            if stained:
                self._settle(cell)
            interrupted(cell)
        return stained

    async def _failed(self, worker: Worker, cell: Cell, failure: Exception) -> bool:
        """See to a failure. Return True if that ended the actor in another way, and the worker with it."""
        answering, cell.answering = cell.answering, None
        if answering is not None:
            answering.reply(None, failure)  # it is not an `Exception` that came out
        try:
            await self._rt.lifecycle.supervision.failed(cell, failure)
        except BaseException as error:
            if isinstance(error, Exception):
                raise  # no actor's: `failed` sees to those
            if self._classify(worker, cell, error) is not None:
                interrupted(cell)
            return True
        return False

    def _classify(self, worker: Worker, cell: Cell, error: BaseException) -> Exception | None:
        """Tell what came out of an actor: return a failure, raise a cancellation on, or end the system and return None."""
        if isinstance(error, Exception):
            return error
        if isinstance(error, GeneratorExit) and not self._rt.runs_here(worker):
            raise error  # the coroutine is being closed: its loop has ended
        if isinstance(error, anyio.get_cancelled_exc_class()):
            spurious_cancellation = self._rt.spurious_cancellation(cell, error)
            if spurious_cancellation is None:
                raise error
            return spurious_cancellation
        mixed: object = error
        if isinstance(mixed, BaseExceptionGroup):
            # trio: tasks of a group that was cancelled, and some raised on their way out.
            group = cast("BaseExceptionGroup[BaseException]", mixed)
            cancelled, rest = group.split(anyio.get_cancelled_exc_class())
            if cancelled is not None and (rest is None or isinstance(rest, Exception)):
                if rest is None:
                    raise error
                return rest
        cell.failure = error
        if not cell.stopping:
            cell.reason = "failed"
        interrupted(cell)
        worker.cell = None
        self._fatal(error)
        return None


def _bind(cell: Cell) -> Callable[[Any], Awaitable[Any]] | None:
    """Keep the actor's receive method at hand: not before its first message, for many get none."""
    if cell.actor is not None:
        cell.receive = cell.actor.receive
    return cell.receive


async def _answer(cell: Cell, envelope: Envelope) -> None:
    """Handle an ask or a proxy's call."""
    cell.answering = envelope
    actor: Any = cell.actor
    try:
        if envelope.call is None:
            value = await actor.receive(envelope.message)
        else:
            value = await envelope.call(actor)
    except CallerError as error:
        envelope.reply(None, error.error)  # the caller's mistake, not the actor's failure
    except Exception as error:
        envelope.reply(None, error)
        cell.answering = None
        raise
    else:
        envelope.reply(value)
    cell.answering = None  # stays where a cancellation came out: `Lifecycle.interrupted` tells the asker


async def _observed(cell: Cell, envelope: Envelope) -> None:
    """Handle a message that an instrument marked."""
    begun = begin(cell, envelope.marks or ())
    try:
        await _answer(cell, envelope)
    except BaseException as error:
        end(cell, begun, error)
        raise
    end(cell, begun, None)


def _draw(ready: deque[Cell], rng: random.Random) -> Cell:
    """Take a cell from anywhere in the queue."""
    index = rng.randrange(len(ready))
    ready.rotate(-index)
    cell = ready.popleft()
    ready.rotate(index)
    return cell
