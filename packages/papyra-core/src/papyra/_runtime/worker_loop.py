"""The tasks that run actors' code.

A worker takes a cell from the ready queue and runs a turn of it: some of its messages, or other work that is
due. All of an actor's code runs directly in the worker's task, so cancel scopes and time-outs in ``receive``
work as usual. Cancelling the worker's own scope cancels only the code of its current actor.

A worker must show every actor the same context variables. If an actor changes them, the worker ends and the
actor keeps them (``cell.variables``). From then on, workers of its own run it, as if it had its own task.

The file is long, and `Workers._work` is, because a call in the loop costs a share of every message.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from contextvars import Context, ContextVar
from functools import partial
from sys import getrefcount
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, cast

import anyio

from papyra._runtime.containment.failures import left_open
from papyra._runtime.containment.frames import calls_actor
from papyra._runtime.containment.log import LOG, log_error
from papyra._runtime.containment.user_values import is_a, leaves, type_name
from papyra._runtime.context_guard import ContextGuard, keep, keep_worker, release_worker
from papyra._runtime.delivery.sending import grant
from papyra._runtime.envelope import SIGNAL, Envelope
from papyra._runtime.observation.attached_instrument import begin, end
from papyra._runtime.phases import DRAINING, RUNNING, STARTING, STOPPED
from papyra._runtime.stopping import interrupted, note_interrupted
from papyra._runtime.worker import Worker, context_for
from papyra.exceptions import Reject
from papyra.proxy import CallerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra._runtime.cell import Cell
    from papyra._runtime.resources import Resources
    from papyra._runtime.runtime import Runtime
    from papyra.actor import Actor

__all__ = ["TURN_MESSAGES", "WORKER_LOOP", "Workers", "answer", "observed"]

TURN_MESSAGES = 64
"""The most messages of one turn, and the most between two looks at the clock."""

SLICE_SECONDS = 0.0005
"""Time after which a worker lets the event loop go round. With 64 messages of 0.3 us each, looking at the
clock costs nothing. Where messages are slow the worker looks more often, at the limit after each message."""

NUDGE_SECONDS = 0.00005
"""Time without the GIL for the thread of a store that is behind.

Otherwise that thread gets the GIL every 5 ms, and loses it at each system call: a system that starts and
stops 100,000 actors had its first batch in the file after 1.2 s. Of five runs of the row `record` each, the
slowest had 86,000 facts a second with this pause, and 38,000 without it.
"""

MAX_PARKED = 32
"""Idle workers kept for the next burst of suspended actors; each is a task of about 3 KB."""


class Workers:
    """Starts workers, and is their code."""

    def __init__(self, rt: Runtime, fatal: Callable[[BaseException], None]) -> None:
        self._rt = rt
        self._fatal = fatal
        rt.start_worker = self.start

    def start(self, home: Cell | None = None) -> None:
        """Start a worker for the ready queue, or for one cell in that cell's own context variables."""
        loop = self._rt.loop
        if home is not None and type(home.variables) is Worker:
            self._hand_over(home, home.variables)
            return
        worker = Worker(context_for(home, loop))
        if home is not None:
            worker.home = home
            worker.queue = deque((home,))
            if home.actor is not None and _has_own_task(home.actor):
                worker.own, home.variables = True, worker
        loop.spawn(partial(self._main, worker), worker.label, worker.context)

    def _hand_over(self, cell: Cell, worker: Worker) -> None:
        """Let an actor's own worker run it."""
        assert worker.queue is not None  # noqa: S101 - it has a home
        if worker.waiter is not None and not worker.waiter.done():
            worker.waiter.set_result(None)
        worker.queue.append(cell)

    def _shielded(self, worker: Worker, cell: Cell, error: BaseException | None = None) -> bool:
        """Let an actor's own worker go on after it was interrupted, for on_stop. Return whether it does.

        Its task must not leave the scopes that the actor has open, so the cancelled scope is shielded off.
        The actor's code was cancelled with ``error``, or has ended.
        """
        if not (worker.own and worker.interrupted) or worker.abandoned or worker.inner is worker.scope:
            return False
        cancelled = anyio.get_cancelled_exc_class()
        errors = leaves(error) if error is not None else ()
        if worker.inner is None or not all(is_a(leaf, cancelled) for leaf in errors):
            return False
        worker.inner.shield = True
        if worker.scopes is not None:
            worker.scopes.forget_cancellation()
        worker.scope, worker.interrupted = worker.inner, False
        if errors:
            note_interrupted(cell)
        return True

    async def _park_own(self, worker: Worker) -> None:
        """Wait in an actor's own task until it has something to do.

        A task of a group that the actor has open may fail, which cancels this wait: the actor fails. From
        then on its scope cancels each wait of the task until ``on_stop`` has left it, so waits are shielded
        from it.
        """
        rt, cell = self._rt, worker.home
        assert cell is not None  # noqa: S101 - it is the actor's own
        worker.waiter = rt.loop.waiter()
        try:
            with anyio.CancelScope(shield=cell.phase not in (RUNNING, DRAINING)):
                await worker.waiter
        except anyio.get_cancelled_exc_class() as error:
            failure = rt.spurious_cancellation(cell, error)
            if failure is None or worker.scopes is None:
                interrupted(cell)
                raise
            if cell.phase not in (RUNNING, DRAINING):
                worker.scopes.forget_cancellation()  # the actor cancelled its task before it began to stop
                return
            worker.cell, cell.worker = cell, worker
            with anyio.CancelScope(shield=True):
                await self._failed(worker, cell, failure, "its own task")
            rt.signal(cell)
            worker.cell = None

    async def _main(self, worker: Worker) -> None:
        rt = self._rt
        task = rt.enter(worker)
        guard = ContextGuard(worker.context, kept=worker.home is not None)
        if worker.queue is None:
            rt.awake -= 1
        try:
            while True:
                with (
                    anyio.CancelScope() as scope,
                    anyio.CancelScope() if worker.own else nullcontext() as inner,
                ):
                    worker.scope, worker.inner = scope, inner
                    worker.enter_scopes(rt.loop)
                    worker.interrupted = False
                    try:
                        if await self._work(
                            worker, rt.ready if worker.queue is None else worker.queue, guard
                        ):
                            return
                    finally:
                        worker.close_scopes()
                if self._after_cancel(worker):
                    return
        except Exception as error:  # noqa: BLE001 - a bug of this package: it ends the system and is raised in the host
            self._fatal(error)
            if worker.cell is not None and not worker.abandoned:
                interrupted(worker.cell)
        except anyio.get_cancelled_exc_class():
            # The task itself was cancelled, not its scope: the event loop ends, or some code cancels all
            # tasks.
            if worker.cell is not None and not worker.abandoned:
                interrupted(worker.cell)
            raise
        finally:
            if worker.home is not None:
                if worker.home.variables is worker:
                    worker.home.variables = worker.context  # what is left to do needs another task
                rt.ready.extend(worker.queue or ())
            rt.leave(task, worker)

    @calls_actor
    async def _work(self, worker: Worker, ready: deque[Cell], guard: ContextGuard) -> bool:
        """Run the cells of ``ready``. Return True if the worker ends, False if it needs a new scope.

        This is the hot path. The page "The dispatcher" of the design documentation says what each trick
        saves. `papyra.testing.seeded` has the same loop without the tricks, in a random order.
        """
        rt = self._rt
        mine = worker.home is not None
        lifecycle = rt.lifecycle
        mailbox_pool = rt.mailbox_pool
        cancelling = rt.loop.cancelling()
        context, reference = guard.live, guard.reference
        scopes, floor, own = worker.state, worker.floor, worker.own
        task = rt.loop.current_task()
        # A lock or limiter of anyio that an actor holds refers to the task. Counted once, before any actor:
        # code that was cancelled may have left one.
        references = worker.references = worker.references or getrefcount(task)
        left = budget = 8  # messages until the next look at the clock
        item: Any = None
        kind_of, envelopes = type, Envelope  # locals, which each message looks up
        began = perf_counter()
        while True:
            while ready:
                cell = ready.popleft()
                if cell.variables is not None and not mine:
                    self.start(cell)
                    continue
                worker.cell = cell
                cell.worker = worker
                if ready and not rt.awake:
                    rt.wake()  # this worker may be suspended at any await from here on
                box = cell.box
                actor: Any = cell.actor
                receive = cell.receive  # None, unless something takes the place of the actor's own
                calm = box is not None  # the turn has only messages, so far
                n = left
                try:
                    while n and box:
                        n -= 1
                        item = box.popleft()
                        if cell.senders is not None:
                            grant(cell)
                        if kind_of(item) is not envelopes:  # not __class__: that of a message is user code
                            # Looked up for each message, because the actor may assign another one.
                            await (actor.receive(item) if receive is None else receive(item))
                        elif item is not SIGNAL:
                            await (
                                answer(cell, item, worker)
                                if item.marks is None
                                else observed(cell, item, worker)
                            )
                        else:
                            calm = False
                            n += 1  # `processed` counts messages only
                            break
                except BaseException as error:  # noqa: BLE001 - classified there; all but failures are raised again
                    calm = False
                    if not own:
                        worker.close_scopes()  # they may be cancelled, and a failure waits for decisions
                    if not self._shielded(worker, cell, error) and await self._message_failed(
                        worker, cell, error, item
                    ):
                        return True
                if worker.interrupted and not self._shielded(worker, cell):
                    return self._release(worker, cell)
                if not own and scopes.cancel_scope is not floor:
                    calm = False
                    worker.close_scopes()
                    if await self._message_failed(worker, cell, left_open(cell, "a message"), item):
                        return True
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
                    item = None  # it may be another actor's, and `on_start` may be slow
                    try:
                        rest = lifecycle.begin(cell, worker) if cell.fresh else lifecycle.step(cell)
                        if rest is not None:
                            await rest
                    except BaseException as error:  # noqa: BLE001 - classified there, as above
                        if self._shielded(worker, cell, error):
                            ready.append(cell)  # for the rest of its stop
                            continue
                        await self._step_failed(worker, cell, error)
                        return True
                    if worker.interrupted and not self._shielded(worker, cell):
                        return self._cut_short(worker, cell)
                    if worker.spoilt or (not own and scopes.cancel_scope is not floor):
                        return self._cut_short(worker, cell)  # it serves no other actor
                if (
                    getrefcount(task) != references
                    and not mine
                    and await self._holds(worker, cell, references)
                ):
                    if worker.queue is None:
                        return True  # the actor has stopped: the task serves no other one
                    mine, ready = True, worker.queue
                # `ContextGuard.changed`, inlined for the common case
                if not mine and context != reference and guard.changed():
                    keep(cell, worker)
                    return True
                if not mine and cancelling is not None and cancelling():
                    return True  # the actor cancelled the task itself, which the next one would notice
                if left <= 0:
                    # Adapt: look at the clock more often where messages take long.
                    late = perf_counter() - began > SLICE_SECONDS
                    left = budget = max(1, budget >> 1) if late else min(TURN_MESSAGES, budget << 1)
                    # With an empty queue of its own it does not: another worker may run its actor meanwhile.
                    if late and (ready or not mine):
                        await self._pause(worker)
                        began = perf_counter()
            worker.cell = None
            if worker.home is not None:
                if not await self._stays(worker, worker.home, guard, references):
                    return True
                assert worker.queue is not None  # noqa: S101 - it has a home
                ready = worker.queue
                began = perf_counter()
                continue
            if rt.closing or len(rt.parked) >= MAX_PARKED:
                return True
            # A parked worker must not keep objects of its last actor alive.
            cell = box = actor = receive = item = None  # type: ignore[assignment]  # set again before any use
            await self._park(worker)
            began = perf_counter()

    async def _stays(self, worker: Worker, home: Cell, guard: ContextGuard, references: int) -> bool:
        """Wait until the actor of a worker has something to do. Return False if the actor no longer needs it.

        A worker stays with an actor that has a task of its own, or that holds something of the worker's task.
        """
        rt = self._rt
        if type(home.variables) is Context and not worker.own:  # this worker runs it in its own variables
            if getrefcount(rt.loop.current_task()) == references:
                return False
            if await self._holds(worker, home, references):
                return worker.queue is not None  # else the actor has stopped
            keep(home, worker)
            return False
        if home.variables is not worker:
            return False
        if not worker.own and getrefcount(rt.loop.current_task()) <= references:
            release_worker(worker)
            if guard.changed():
                keep(home, worker)
            return False
        if rt.ready and not rt.awake:
            rt.wake()
        await self._park_own(worker)
        return True

    async def _holds(self, worker: Worker, cell: Cell, references: int) -> bool:
        """Return whether an actor holds something that the worker's task owns: then it keeps the worker."""
        # trio itself refers to a task that it has just resumed, so the count is right a round later. In this
        # round no other worker may run the actor, because the lock can't be released in another task.
        keep_worker(cell, worker)
        worker.cell = None  # the turn is over, and the wait is not the actor's
        holds = False
        try:
            await self._go_round(worker)
            holds = getrefcount(self._rt.loop.current_task()) > references
        finally:
            if not holds and worker.queue is not None:
                self._rt.ready.extend(worker.queue)
                release_worker(worker)
        return holds

    async def _pause(self, worker: Worker) -> None:
        """Let the event loop go round once."""
        rt = self._rt
        spare = worker.home is None  # a worker for one cell does not serve the queue
        worker.cell = None
        if rt.fact_writer.is_backlogged():
            sleep(NUDGE_SECONDS)  # noqa: ASYNC251 - on purpose, see there
        rt.awake += spare
        try:
            await self._go_round(worker)
        finally:
            rt.awake -= spare

    async def _go_round(self, worker: Worker) -> None:
        """Let the event loop go round once, while no code of an actor runs.

        A worker with a home stays with its actor. That may have cancelled the task, which then ends here, or
        has a cancelled scope open, which its own next wait notices.
        """
        loop = self._rt.loop
        try:
            with anyio.CancelScope(shield=True) if worker.own else nullcontext():
                await loop.yield_to_loop()
        except anyio.get_cancelled_exc_class():
            if worker.home is None or worker.scopes is None or not loop.has_strays or loop.ending():
                raise
            worker.scopes.forget_cancellation()

    async def _park(self, worker: Worker) -> None:
        rt = self._rt
        make_waiter = rt.loop.waiter  # as in `asks.ask`
        worker.waiter = waiter = make_waiter()
        rt.parked.append(worker)
        try:
            await waiter
        finally:
            if worker.roused:
                worker.roused = False
                rt.awake -= 1
            elif worker in rt.parked:  # cancelled from outside
                rt.parked.remove(worker)

    def _release(self, worker: Worker, cell: Cell) -> bool:
        """Release a cell whose code ignored its cancellation, or ended before it.

        Return True if the worker ends.
        """
        if not worker.abandoned:
            self._rt.signal_and_schedule(cell)
        return self._cut_short(worker, cell)

    def _cut_short(self, worker: Worker, cell: Cell) -> bool:
        """Let a cell keep the worker in which it was interrupted: its ``on_stop`` may need the task.

        Return True if the worker ends.
        """
        worker.cell = None
        if worker.home is None:
            keep_worker(cell, worker)
        return worker.abandoned or worker.queue is None

    def _after_cancel(self, worker: Worker) -> bool:
        """Clean up after the scope was cancelled. Return True if the worker ends."""
        cell = worker.cell
        if cell is None or worker.abandoned:
            return worker.abandoned
        ends = self._cut_short(worker, cell)
        if cell.phase != STOPPED:
            interrupted(cell)
        return ends

    async def _message_failed(self, worker: Worker, cell: Cell, error: BaseException, item: object) -> bool:
        """Handle what ``receive`` raised for ``item``. Return True if the worker ends."""
        if is_a(error, Reject) and type(item) is not Envelope:
            LOG.debug("actor %s rejected a message; no caller waits for the error", cell)
            return False
        failure = self._classify(worker, cell, error)
        if failure is None:
            return True
        message = item.message if type(item) is Envelope else item
        ended = await self._failed(worker, cell, failure, type_name(type(message)), message)
        del failure  # its traceback refers to this frame, and to those of the actor's code
        return ended

    async def _step_failed(self, worker: Worker, cell: Cell, error: BaseException) -> None:
        """Handle what came out of `Lifecycle.step`, after which the worker ends."""
        if is_a(error, Exception):
            raise error  # not an actor's: `step` handles those
        failure = self._classify(worker, cell, error)
        if failure is None:
            return
        if cell.phase == STARTING and not worker.interrupted:
            if not await self._failed(worker, cell, failure, "on_start"):
                self._rt.signal_and_schedule(cell)
        else:
            log_error("actor %s failed", cell, error=failure)
            interrupted(cell)

    async def _failed(
        self, worker: Worker, cell: Cell, failure: Exception, during: str, message: object = None
    ) -> bool:
        """Handle a failure. Return True if that ended the actor in another way, and the worker with it."""
        answering, cell.answering = cell.answering, None
        if answering is not None:
            answering.reply(None, failure)  # the actor raised something other than an `Exception`
        try:
            await self._rt.lifecycle.supervision.failed(cell, failure, during, message)
        except BaseException as error:
            if is_a(error, Exception):
                raise  # not an actor's: `failed` handles those
            if self._classify(worker, cell, error) is not None:
                interrupted(cell)
            return True
        return False

    def _classify(self, worker: Worker, cell: Cell, error: BaseException) -> Exception | None:
        """Return a failure, raise a cancellation again, or end the system and return None."""
        if is_a(error, Exception):
            return error
        if is_a(error, GeneratorExit) and not self._rt.runs_here(worker):
            raise error  # the coroutine is being closed, because its loop has ended
        cancelled = anyio.get_cancelled_exc_class()
        errors = leaves(error)
        rest = [leaf for leaf in errors if not is_a(leaf, cancelled)]
        if not rest:
            failure = self._rt.spurious_cancellation(cell, error)
            if failure is not None:
                return failure
            if is_a(error, cancelled):
                raise error
            # A group of cancellations only, and they were requested. No cancel scope of asyncio knows such a
            # group.
            if not worker.abandoned:
                interrupted(cell)
            worker.cell = None
            return None
        if len(rest) < len(errors) and all(is_a(leaf, Exception) for leaf in rest):
            # trio: tasks of a group were cancelled, and some of them raised as they ended.
            return ExceptionGroup("errors in tasks of the actor", cast("list[Exception]", rest))
        cell.failure = error
        if not cell.stopping:
            cell.reason = "failed"
        interrupted(cell)
        worker.cell = None
        self._fatal(error)
        return None


def _has_own_task(actor: Actor) -> bool:
    try:
        return bool(actor.own_task)
    except KeyboardInterrupt as interrupt:
        LOG.contain(interrupt)
        return False
    except BaseException:  # noqa: BLE001 - a property of the user, which has answered before, at the spawn
        return False


WORKER_LOOP: ContextVar[Callable[[Runtime, Callable[[BaseException], None]], Workers]] = ContextVar(
    "papyra_worker_loop", default=Workers
)
"""The class of the workers of systems that start in this context; `papyra.testing` sets another."""


@calls_actor
async def answer(cell: Cell, envelope: Envelope, worker: Worker) -> None:
    """Handle an ask or a proxy's call. One whose asker has gone is skipped."""
    if envelope.replied:
        cell.rt.expired_asks += 1
        cell.processed -= 1  # the worker counts it
        return
    cell.answering = envelope
    actor: Any = cell.actor
    try:
        if envelope.call is None:
            value = await (cell.receive or actor.receive)(envelope.message)
        elif cell.resources is None or envelope.source is not None:
            value = await envelope.call(actor)
        else:
            value = await _call_as_activity(cell.resources, envelope.call, actor)
        # `Worker.left_open`, without a call
        if worker.state.cancel_scope is not worker.floor and not (worker.own or worker.interrupted):
            worker.close_scopes()
            raise left_open(cell, "a message")
    except (CallerError, Reject) as error:
        if cell.answering is envelope:
            envelope.reply(None, error.error)  # no failure of the actor
    except Exception as error:
        if cell.answering is envelope:
            envelope.reply(None, error)
            cell.answering = None
        raise
    else:
        if cell.answering is envelope:  # else it was stashed, handed on, or is answered later
            envelope.reply(value)
    cell.answering = None  # after a cancellation it stays: `stopping.interrupted` answers the asker


async def observed(cell: Cell, envelope: Envelope, worker: Worker) -> None:
    """Handle a message that an instrument marked."""
    if envelope.replied:
        await answer(cell, envelope, worker)  # which skips it
        return
    begun = begin(cell, envelope.marks or ())
    try:
        await answer(cell, envelope, worker)
    except BaseException as error:
        end(cell, begun, error)
        raise
    end(cell, begun, None)


async def _call_as_activity(mine: Resources, call: Callable[[Actor], Awaitable[Any]], actor: Actor) -> Any:
    """Run a proxy's call in an actor that may have a receive timeout."""
    try:
        return await call(actor)
    finally:
        if mine.receive_timeout is not None:
            mine.receive_timeout.note_activity()
