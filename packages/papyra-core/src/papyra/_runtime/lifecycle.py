"""The state machine of a cell: what it does besides handling messages, from its start to its stop.

A worker that holds the cell calls `Lifecycle.step`, which goes through the phases as far as it can. Where the
cell has to wait (until a decision, the end of its children or of a backoff), `step` leaves it ``paused``. The
end of the wait signals the cell.

`step` is long because it is one table: a branch for each phase, in the order of a life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from papyra._runtime import phases
from papyra._runtime.cell import Cell
from papyra._runtime.containment.failures import as_failure, leave_scopes, left_open, own_failure
from papyra._runtime.containment.frames import calls_actor
from papyra._runtime.containment.log import LOG, log_error
from papyra._runtime.containment.scope_guard import ScopeGuard
from papyra._runtime.context_guard import changed_variables
from papyra._runtime.delivery.sending import grant
from papyra._runtime.envelope import SIGNAL
from papyra._runtime.mailbox import discard, has_mail, stopped_early
from papyra._runtime.phases import (
    BACKING_OFF,
    DRAINING,
    RESTARTING_CHILDREN,
    RESTARTING_STOP,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    STOPPING_CHILDREN,
    SUSPENDED,
)
from papyra._runtime.resources.pipes import abandon_pipes, pipes_gone
from papyra._runtime.spawning import build
from papyra._runtime.stopping import NO_TIME, begin_stopping_children, finish, stop_next_child
from papyra._runtime.supervision import Supervision
from papyra._runtime.worker import Worker
from papyra.actor import Actor
from papyra.exceptions import ActorStopped
from papyra.supervision import UNNAMED_POLICY, SupervisorDecision

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from papyra._runtime.runtime import Runtime

__all__ = ["Lifecycle"]

MAX_DISCARDED_MESSAGES = 1_000
"""Dead letters made before the event loop goes round."""

ON_STOP_CUT = "on_stop of actor %s was cancelled: the time to stop is over"


class Lifecycle:
    """Start, restart and stop the cells of one runtime."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.supervision = Supervision(rt)
        # The root of the tree: a cell without an actor, whose stop is the stop of the system.
        self.guardian = Cell(rt, 0, None, None, None, UNNAMED_POLICY, 1)
        phases.enter(self.guardian, RUNNING)
        self.guardian.fresh = False

    def can_stop_at_once(self, cell: Cell) -> bool:
        """Return whether a cell is idle, and its stop runs no code of its actor."""
        return (
            cell.phase == RUNNING
            and cell.box is None
            and cell.resources is None
            and not cell.children
            and cell.actor is not None
            and _inherits_on_stop(cell.actor)
        )

    # -- steps

    def begin(self, cell: Cell, worker: Worker) -> Coroutine[Any, Any, None] | None:
        """Start a fresh cell in its first turn: a short cut through `step` for the common cases.

        Return a coroutine for the rest of the turn, or None if no user code has to run.
        """
        actor = cell.actor
        starts_plainly = actor is not None and _inherits_on_start(actor)
        box = None if starts_plainly else self.rt.new_box()
        if actor is None or cell.stopping or cell.box is not None or cell.group is not None:
            return self.step(cell)
        if box is not None:
            cell.box = box
        cell.fresh = False
        cell.limit = cell.capacity
        if not starts_plainly:
            return self._begin(cell, actor, worker)
        phases.enter(cell, RUNNING)
        cell.started = True
        self.rt.history.started(cell)
        return None

    @calls_actor
    async def _begin(self, cell: Cell, actor: Actor, worker: Worker) -> None:
        try:
            await actor.on_start()
            scopes = worker.scopes
            if scopes is not None and scopes.state.cancel_scope is not worker.floor:
                self._check_scopes(cell, "on_start")
        except BaseException as error:
            failure = own_failure(cell, error)
            if failure is None:
                raise
            await self.supervision.failed(cell, failure, "on_start")
            failure = None  # its traceback refers to this frame: avoid a reference cycle
            await self.step(cell)
            return
        if cell.phase == STOPPED:
            return  # it was abandoned, and has now returned
        phases.enter(cell, RUNNING)
        cell.started = True
        self.rt.history.started(cell)
        if cell.stopping or cell.undecided or cell.escalated is not None:
            await self.step(cell)  # a fresh cell has no box for the signal
        elif cell.box:
            self.rt.schedule(cell)
        else:
            box, cell.box = cell.box, None
            if box is not None:
                self.rt.mailbox_pool.append(box)

    async def step(self, cell: Cell) -> None:
        """Do everything that is due except messages, until the cell is queued again, idle, paused or dead."""
        if cell.box is None:
            box = self.rt.new_box()
            if cell.box is None:  # else a finalizer, which may run at any call, has sent to it
                cell.box = box
        if cell.fresh:
            cell.fresh = False
            cell.limit = 0 if cell.stopping or cell.senders else cell.capacity
        if cell.stopping and cell.phase == RUNNING and cell.actor is not None and _has_only_to_stop(cell):
            phases.enter(cell, STOPPING)
            if not _inherits_on_stop(cell.actor):
                await self._run_on_stop(cell)
            finish(cell)
            return
        while True:
            phase = cell.phase
            if cell.group is not None and cell.group.wants_down(cell) and self._goes_down(cell):
                continue
            if phase == STARTING and cell.force:
                begin_stopping_children(cell)  # its time was over before it started
            elif phase == STARTING:
                await self._start(cell)
            elif phase in (RUNNING, DRAINING):
                if (cell.undecided or cell.escalated is not None) and await self._handle_child_failures(cell):
                    continue
                if self._settle_running(cell):
                    return
            elif phase == SUSPENDED:
                if not await self.supervision.decide(cell):
                    self._pause(cell)
                    return
            elif phase in (RESTARTING_STOP, STOPPING) and not self._resources_gone(cell):
                self._pause(cell)
                return
            elif phase in (RESTARTING_STOP, STOPPING) and self._interrupted():
                self.rt.signal_and_schedule(cell)  # on_stop must not run in a cancelled scope
                return
            elif phase == RESTARTING_STOP:
                await self._run_on_stop(cell)
                if cell.phase != STOPPED:
                    phases.enter(cell, RESTARTING_CHILDREN)
            elif phase == RESTARTING_CHILDREN:
                if stop_next_child(cell):
                    self._pause(cell)
                    return
                self.supervision.decisions.back_off(cell)
            elif phase == BACKING_OFF:
                if not cell.stopping and (
                    cell.timer is not None or (cell.group is not None and cell.group.holds(cell))
                ):
                    self._pause(cell)
                    return
                await self._rebuild(cell)
                # In a turn of its own, behind other cells: an actor that fails at every start must not starve
                # them.
                self.rt.signal_and_schedule(cell)
                return
            elif phase == STOPPING_CHILDREN:
                if cell.box:
                    await self._discard(cell)
                    if cell.phase == STOPPED:
                        return  # the stop was forced to its end meanwhile
                if stop_next_child(cell):
                    self._pause(cell)
                    return
                phases.enter(cell, STOPPING)
            elif phase == STOPPING:
                await self._run_on_stop(cell)
                finish(cell)
                return
            else:
                return

    async def _discard(self, cell: Cell) -> None:
        """Make dead letters of the mailbox, with pauses for the store: there may be a million."""
        while discard(cell, MAX_DISCARDED_MESSAGES):
            if self.rt.ready and not self.rt.awake:
                self.rt.wake()
            await self.rt.loop.yield_to_loop()

    def _check_scopes(self, cell: Cell, where: str) -> None:
        """Raise an error if the actor's code left a cancel scope or a task group open, and close it."""
        if leave_scopes(cell):
            raise left_open(cell, where)

    def _interrupted(self) -> bool:
        worker = self.rt.workers.get(self.rt.loop.current_task())
        return worker is not None and worker.interrupted

    def _pause(self, cell: Cell) -> None:
        """Leave the queue until the next signal, unless one came in the meantime."""
        box = cell.box
        if box and box[0] is SIGNAL:
            self.rt.schedule(cell)
        else:
            cell.paused = True

    async def _handle_child_failures(self, cell: Cell) -> bool:
        """Decide on failed children. Return True if the cell may have another phase now."""
        if cell.undecided:
            await self.supervision.decide_children(cell)
            if cell.phase not in (RUNNING, DRAINING):
                return True
        if cell.escalated is not None:
            error, cell.escalated = cell.escalated, None
            await self.supervision.failed(cell, error, "on_child_failure", escalated=True)
            return True
        return False

    def _settle_running(self, cell: Cell) -> bool:
        """Queue a running cell or make it idle. Return False if it needs a further step now."""
        box = cell.box
        mine = cell.resources
        owes = mine is not None and bool(mine.owed)
        if cell.halted or cell.force or (cell.stopping and not owes and not (box and has_mail(cell))):
            begin_stopping_children(cell)
            return False
        if cell.stopping:
            if cell.phase != DRAINING:
                phases.enter(cell, DRAINING)
            if box and box[-1] is not SIGNAL:
                box.append(SIGNAL)  # after the last message, the cell comes back here
        if cell.senders is not None:
            grant(cell)
        if mine is not None and mine.receive_timeout is not None:
            mine.receive_timeout.settle()
        if box:
            self.rt.schedule(cell)
        else:
            cell.box = None
            if box is not None:
                self.rt.mailbox_pool.append(box)
        return True

    @calls_actor
    async def _start(self, cell: Cell) -> None:
        actor = cell.actor
        assert actor is not None  # noqa: S101 - a cell in this phase has an instance
        if cell.force:
            begin_stopping_children(cell)
            return
        try:
            await actor.on_start()
            self._check_scopes(cell, "on_start")
        except BaseException as error:
            failure = own_failure(cell, error)
            if failure is None:
                raise
            await self.supervision.failed(cell, failure, "on_start")
            failure = None  # as above
            return
        if cell.phase == STOPPED:
            return  # as above
        cell.failure = None
        phases.enter(cell, DRAINING if cell.stopping else RUNNING)
        if cell.renewed:
            cell.renewed = False
            self.rt.history.restarted(cell, _restart_reason(cell))
        self.supervision.decisions.note_started(cell)
        if cell.group is not None:
            cell.group.up(cell)

    async def _rebuild(self, cell: Cell) -> None:
        cell.cancel_timer()
        if cell.force or cell.halted or (cell.stopping and not has_mail(cell)):
            begin_stopping_children(cell)
            return
        cell.escalated = None
        assert cell.factory is not None  # noqa: S101 - only a dead cell has none
        clean = self.rt.loop.clean_context
        # The worker in the former instance's own task ends after this turn, and its variables with it.
        leaves = cell.variables is None and cell.worker is not None and cell.worker.home is cell
        variables = clean.copy() if leaves else None
        try:
            actor = build(cell.factory, variables)
            actor._papyra_cell = cell
            own_task = bool(actor.own_task)
        except KeyboardInterrupt:
            raise  # Ctrl-C comes anywhere
        except BaseException as error:  # noqa: BLE001 - any error of the factory is a failure of the actor, SystemExit too
            await self.supervision.failed(cell, as_failure(cell, "the factory", error), "factory")
            return
        cell.actor = actor
        self.rt.tallies.change_type(cell, type(actor))
        cell.actor_type = type(actor)
        cell.renewed = True
        if variables is not None and changed_variables(variables, clean, clean) is not None:
            cell.variables = variables
        elif own_task and cell.variables is None:
            cell.variables = clean.copy()
        phases.enter(cell, STARTING)

    @calls_actor
    async def _run_on_stop(self, cell: Cell) -> None:
        """Run ``on_stop`` of the current instance, once. Its errors are logged, and the stop continues."""
        actor, cell.actor = cell.actor, None
        cell.receive = None
        if type(cell.variables) is Worker:
            cell.variables = None  # a new instance gets a new task
        if actor is None:
            return
        try:
            await (actor.on_stop() if cell.force < NO_TIME else self._cut_on_stop(cell, actor))
        except BaseException as error:
            failure = own_failure(cell, error)
            if failure is None:
                raise
            if cell.phase != STOPPED:  # after its end, nothing more is recorded
                self.supervision.decisions.on_stop_failed(cell, failure)
            else:
                log_error("on_stop of actor %s, which was left behind, raised", cell, error=failure)
            failure = None  # as above
        finally:
            leave_scopes(cell)
            if cell.resources is not None:
                cell.resources.release(stopped_early(cell))  # what on_stop itself has begun

    def _goes_down(self, cell: Cell) -> bool:
        """End the instance of a cell whose group restarts, if it has one.

        Return whether the phase has changed.
        """
        if cell.stopping or cell.phase not in (STARTING, RUNNING, SUSPENDED):
            return False
        self.supervision.withdraw(cell)
        self.supervision.settle(cell, SupervisorDecision.RESTART)
        phases.enter(cell, RESTARTING_STOP)
        return True

    def _resources_gone(self, cell: Cell) -> bool:
        """Release what an instance that ends has. Return False while its background work is not over."""
        mine = cell.resources
        if mine is None or cell.actor is None:
            return True
        if cell.phase == RESTARTING_STOP:
            error = ActorStopped(cell, "restarted before it replied")
            error.__cause__ = cell.failure
            mine.release(error)
        if not pipes_gone(cell) and cell.force >= NO_TIME:
            abandon_pipes(cell)
        return pipes_gone(cell)

    @calls_actor
    async def _cut_on_stop(self, cell: Cell, actor: Actor) -> None:
        # Its time is over: it runs until its first await.
        worker = cell.running()
        if worker is not None and worker.own:
            worker.interrupt()  # the scope that is cancelled has to be around those that the actor has open
            try:
                await actor.on_stop()
            except anyio.get_cancelled_exc_class():
                LOG.error(ON_STOP_CUT, cell)
                raise
            return
        with anyio.CancelScope() as scope:
            scope.cancel()
            with ScopeGuard(self.rt.loop, f"on_stop of actor {cell}"):
                await actor.on_stop()
        if scope.cancelled_caught:
            LOG.error(ON_STOP_CUT, cell)


# Whether an actor inherits a hook from `Actor`, which does nothing: awaiting it would take 0.25 us. Each life
# asks for both, so their names are written out: `getattr` takes longer.
_NO_START, _NO_STOP = Actor.on_start, Actor.on_stop


def _inherits_on_start(actor: Any) -> bool:
    try:
        return actor.on_start.__func__ is _NO_START
    except BaseException:  # noqa: BLE001 - a property of the user; the call of the hook handles its error
        return False  # or another callable than a method


def _inherits_on_stop(actor: Any) -> bool:
    try:
        return actor.on_stop.__func__ is _NO_STOP
    except BaseException:  # noqa: BLE001 - as above
        return False


def _has_only_to_stop(cell: Cell) -> bool:
    """Return whether a running cell can stop without waiting, as most can.

    The way through all phases takes 0.7 us more.
    """
    return not (
        cell.box
        or cell.children
        or cell.force
        or cell.undecided
        or cell.escalated is not None
        or cell.resources is not None
    )


def _restart_reason(cell: Cell) -> str:
    group = cell.group
    return "actor restarted" if group is None or group.failed is cell else "sibling failed"
