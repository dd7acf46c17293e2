"""Supervision: the decision on a failed actor, and its execution.

The parent's ``on_child_failure`` decides first. Without a decision, the actor's own policy applies.
The question to the parent and the execution of its answer are in one file, because each may lead to the
other: a parent that fails while it decides needs a decision itself.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, assert_never

import anyio

from papyra._runtime import phases
from papyra._runtime.failure_log import FailureLog, outcome
from papyra._runtime.failures import note_plain_methods
from papyra._runtime.frames import calls_actor
from papyra._runtime.group import children_policy, group_of
from papyra._runtime.log import log_error
from papyra._runtime.mailbox import has_mail
from papyra._runtime.phases import (
    BACKING_OFF,
    DRAINING,
    RESTARTING_STOP,
    RUNNING,
    STARTING,
    STOPPED,
    SUSPENDED,
)
from papyra._runtime.restarts import RestartWindow
from papyra._runtime.stopping import stop_failed
from papyra._runtime.tracebacks import cut_repeats
from papyra._runtime.user_values import describe, is_a, is_awaitable
from papyra._runtime.wait_graph import waits_on
from papyra._runtime.worker import Worker, context_for
from papyra.actor import Actor
from papyra.hooks import FailureInfo
from papyra.ref import ActorRef
from papyra.supervision import SupervisorDecision

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.group import Group
    from papyra._runtime.runtime import Runtime
    from papyra._runtime.timers import Timer
    from papyra.persistence.models import PersistedEvent
    from papyra.supervision import GroupPolicy

__all__ = ["Supervision"]

_HAS_CHILDREN = (STARTING, RUNNING, SUSPENDED, DRAINING)


MAX_UNDECIDED_SECONDS = 1.0
"""Time for which a crash is not noted, because the parent has not decided yet.

Then it is noted without a decision: neither the record nor `events` nor the log may lack a crash because a
parent is busy.
"""

WITH_SIBLINGS = "restarts with its siblings"


class _Failure(NamedTuple):
    """The failed method or message, and the event and its timer while the parent has not decided."""

    during: str
    message: object = None
    crash: PersistedEvent | None = None
    timer: Timer | None = None
    escalated: bool = False


class Supervision:
    """Decide on failures and carry out the decisions."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.log = FailureLog(rt.timers)
        self._undecided: dict[Cell, _Failure] = {}

    async def failed(
        self,
        cell: Cell,
        error: Exception,
        during: str,
        message: object = None,
        *,
        escalated: bool = False,
    ) -> None:
        """Decide on a failure of ``cell`` in its own turn, or ask its parent; then log it with the decision.

        ``during`` is the type of the ``message`` that was handled, or the name of the method that raised.
        """
        if is_a(error, TypeError) and cell.actor is not None:
            note_plain_methods(cell.actor, error)
        cut_repeats(error)
        if cell.phase == STOPPED:
            self._log(cell, error, escalated, "it was left behind, and counts as stopped already")
            return
        cell.failure = error
        if cell.group is not None and cell.group.goes_down and not _stops_anyway(cell):
            self._log(cell, error, escalated, WITH_SIBLINGS)
            self.rt.history.crash(cell, error, during, SupervisorDecision.RESTART.value, cell.group.restarts)
            phases.enter(cell, SUSPENDED)  # it goes down with its siblings anyway, in its turn
            return
        parent = cell.parent
        if parent is None or _stops_anyway(cell) or not _decides(parent):
            self._choose(cell, error, None, _Failure(during, message, escalated=escalated))
            return
        crash = self.rt.history.crash(cell, error, during, None, 0)
        timer = self.rt.timers.after(MAX_UNDECIDED_SECONDS, partial(self._note_undecided, cell))
        self._undecided[cell] = _Failure(during, message, crash, timer, escalated)
        phases.enter(cell, SUSPENDED)
        if parent.undecided is None:
            parent.undecided = OrderedDict()
        parent.undecided[cell] = error
        if not await self.decide(cell):
            cell.waits_for = parent
            self.rt.signal(parent)

    # -- the parent's decision

    async def decide(self, cell: Cell) -> bool:
        """Decide on a suspended cell in its own turn.

        Return False while it has to wait for its parent's turn.

        The parent's hook runs between two messages of the parent (`decide_children`). If the parent itself
        waits for this cell, that turn would never come, and the hook runs at once in a task of its own.
        """
        parent, error = cell.parent, cell.failure
        assert parent is not None  # noqa: S101 - only a cell with a parent is suspended
        assert is_a(error, Exception)  # noqa: S101 - `failed` set it
        waiting = parent.undecided is not None and cell in parent.undecided
        if cell.force or (waiting and not _decides(parent)):
            self.withdraw(cell)
            self._choose(cell, error, None)
        elif waiting and waits_on(parent, cell):
            self.withdraw(cell)
            await self._ask_in_own_task(parent, cell, error)
        elif cell.phase == SUSPENDED and cell.group is None and cell not in self._undecided:
            stop_failed(cell, "failed")  # it was to go down with its group, and left that because it stops
        elif cell.phase == SUSPENDED:
            return False
        return True

    async def decide_children(self, parent: Cell) -> None:
        """Decide on the failed children of ``parent`` in its own turn."""
        while parent.undecided and parent.phase in (RUNNING, DRAINING):
            child, error = parent.undecided.popitem(last=False)
            if child.phase == SUSPENDED:
                await self._ask(parent, child, error)
                self.rt.signal(child)

    def withdraw(self, cell: Cell) -> None:
        """Have a suspended cell no longer wait for its parent's decision."""
        if cell.phase == SUSPENDED:
            cell.waits_for = None
            if cell.parent is not None and cell.parent.undecided is not None:
                cell.parent.undecided.pop(cell, None)

    @calls_actor
    async def _ask(self, parent: Cell, child: Cell, error: Exception) -> None:
        """Call the parent's ``on_child_failure`` and carry out its decision."""
        decision: SupervisorDecision | None = None
        failure: Exception | None = None
        try:
            if parent.actor is not None:
                answer: object = parent.actor.on_child_failure(ActorRef(child), error)
                if is_awaitable(answer):
                    answer = await answer
                if is_a(answer, SupervisorDecision):
                    decision = answer
                elif answer is not None:
                    raise TypeError(
                        f"on_child_failure must return a SupervisorDecision or None, not {describe(answer)}"
                    )
        except BaseException as own:
            failure = self._own_failure(parent, own)
            if failure is None:
                # The parent was cancelled. The child follows its policy: it must not wait for ever.
                if child.phase == SUSPENDED:
                    self._choose(child, error, None)
                    self.rt.signal(child)
                raise
            parent.escalated = failure  # the parent fails for itself, and the child follows its policy
            self.rt.signal(parent)
        if child.phase == SUSPENDED:
            self._choose(child, error, decision)
        if failure is not None:
            log_error("on_child_failure of actor %s raised", parent, error=failure)
            failure = None  # its traceback refers to this frame: avoid a reference cycle

    def _own_failure(self, parent: Cell, error: BaseException) -> Exception | None:
        if is_a(error, Exception):
            return error
        if is_a(error, anyio.get_cancelled_exc_class()):
            return self.rt.spurious_cancellation(parent, error)
        return None

    async def _ask_in_own_task(self, parent: Cell, child: Cell, error: Exception) -> None:
        """Run `_ask` in another task: the context variables of the child's task are the child's."""
        loop = self.rt.loop
        waiter = loop.waiter()
        # Registered as the child's: a wait for the child in it is a deadlock, and forcing the child cancels
        # it.
        worker = Worker(context_for(parent, loop))
        mine, worker.cell, child.worker = child.worker, child, worker

        async def ask() -> None:
            task = self.rt.enter(worker)
            try:
                with anyio.CancelScope() as worker.scope:
                    await self._ask(parent, child, error)
            except anyio.get_cancelled_exc_class():
                pass  # the event loop ends, and nothing waits for this task
            except BaseException as fatal:  # noqa: BLE001 - raised again in the child's worker
                raised.append(fatal)
            finally:
                self.rt.leave(task, worker)
                child.worker = mine
                if not waiter.done():
                    waiter.set_result(None)

        raised: list[BaseException] = []
        loop.spawn(ask, lambda: f"papyra actor {parent} decides on {child}", worker.context)
        try:
            await waiter
        except BaseException:
            worker.interrupt()
            raise
        if raised:
            raise raised[0]

    # -- its execution

    def _choose(
        self,
        cell: Cell,
        error: Exception,
        decision: SupervisorDecision | None,
        failure: _Failure | None = None,
    ) -> None:
        """Choose what becomes of a failed cell, by a decision or else by its policy, and begin with it."""
        cell.waits_for = None
        failure = failure or self._undecided.pop(cell, None)
        taken, reason = decision or SupervisorDecision(cell.policy.strategy.value), "failed"
        group, policy = cell.group, None
        if _stops_anyway(cell) or (taken is SupervisorDecision.RESUME and cell.actor is None):
            taken = SupervisorDecision.STOP  # without an actor: there is no instance to resume
        elif group is not None and group.goes_down and _keeps_actor(taken):
            self._log(cell, error, failure, WITH_SIBLINGS)
            self._report(cell, error, decision, failure, SupervisorDecision.RESTART)
            return  # it stays suspended until its turn to go down
        elif taken is SupervisorDecision.RESTART:
            policy = self._children_policy(cell) if decision is None else None
            if policy is not None and cell.parent is not None:
                group = group_of(cell.parent)
                if not group.admits(policy):
                    taken, reason = SupervisorDecision.ESCALATE, "restart_limit"
            elif not self._may_restart(cell):
                taken, reason = SupervisorDecision.STOP, "restart_limit"
        counted = None if policy is None else group
        over_limit = reason == "restart_limit"
        restarts = counted.restarts if counted is not None else len(cell.restarts or ())
        self._log(
            cell,
            error,
            failure,
            outcome(cell, taken, decision, over_limit=over_limit, group=policy, restarts=restarts),
        )
        self._report(cell, error, decision, failure, taken, counted)
        if policy is not None and group is not None and taken is SupervisorDecision.RESTART:
            if cell.phase != SUSPENDED:
                phases.enter(cell, SUSPENDED)
            group.begin(cell, policy)
            return
        match taken:
            case SupervisorDecision.RESUME:
                self._resume(cell)
            case SupervisorDecision.RESTART:
                phases.enter(cell, RESTARTING_STOP)
            case SupervisorDecision.STOP | SupervisorDecision.IGNORE:
                stop_failed(cell, reason)
            case SupervisorDecision.ESCALATE:
                stop_failed(cell, reason)
                self._escalate(cell, error)
            case _:
                assert_never(taken)

    def on_stop_failed(self, cell: Cell, error: Exception) -> None:
        """Record a failure of ``on_stop``, which changes nothing: the stop or restart goes on."""
        self.log.failed(
            cell, "on_stop of actor %s ended", error, f"the {'stop' if cell.stopping else 'restart'} goes on"
        )
        taken = SupervisorDecision.STOP if cell.stopping else SupervisorDecision.RESTART
        self._report(cell, error, None, _Failure("on_stop"), taken)

    def _report(
        self,
        cell: Cell,
        error: Exception,
        decision: SupervisorDecision | None,
        failure: _Failure | None,
        taken: SupervisorDecision,
        group: Group | None = None,
    ) -> None:
        """Record a failure with the decision that was ``taken``, and call the hooks."""
        history = self.rt.history
        restarts = group.restarts if group is not None else len(cell.restarts or ())
        if failure is not None and failure.crash is None:
            history.crash(cell, error, failure.during, taken.value, restarts)
        elif failure is not None:
            self._note(failure, taken, restarts)
        info = FailureInfo(
            cell.address,
            error,
            cell.policy.strategy,
            decision,
            failure.message if failure is not None else None,
            cell.name,
            history.class_names.of(cell.actor_type) if cell.actor_type is not None else "",
        )
        self.rt.hooks.call("on_failure", info)

    def _log(self, cell: Cell, error: BaseException, failure: _Failure | bool | None, decided: str) -> None:
        """Log what was decided; with the traceback, unless it is in the log already."""
        escalated = failure if isinstance(failure, bool) else failure is not None and failure.escalated
        if escalated:
            self.log.decided(cell, "fails with what its child escalated,", error, decided)
        elif isinstance(failure, _Failure) and failure.crash is not None and not _is_pending(failure):
            self.log.decided(cell, "failed before with", error, decided)
        else:
            self.log.failed(cell, "actor %s failed", error, decided)

    def _note_undecided(self, cell: Cell) -> None:
        """Note a crash whose decision takes long."""
        failure = self._undecided.get(cell)
        if failure is not None and failure.crash is not None and cell.failure is not None:
            if not failure.escalated:
                self.log.failed(cell, "actor %s failed", cell.failure, "its parent has not decided yet")
            self.rt.history.note(failure.crash)

    def settle(self, cell: Cell, taken: SupervisorDecision) -> None:
        """Note a crash that nobody decides on any more: the actor stops, or restarts with its siblings."""
        failure = self._undecided.pop(cell, None)
        if failure is not None:
            stops = taken is SupervisorDecision.STOP
            if cell.failure is not None:
                self._log(cell, cell.failure, failure, "stopped" if stops else WITH_SIBLINGS)
            self._note(failure, taken, len(cell.restarts or ()))

    def _note(self, failure: _Failure, taken: SupervisorDecision, restarts: int) -> None:
        if failure.crash is not None and failure.timer is not None and _is_pending(failure):
            failure.timer.cancel()
            self.rt.history.decided(failure.crash, taken.value, restarts)
            self.rt.history.note(failure.crash)

    def _resume(self, cell: Cell) -> None:
        cell.failure = None
        phases.enter(cell, DRAINING if cell.stopping else RUNNING)
        self.note_started(cell)
        if cell.group is not None:
            cell.group.up(cell)

    def _may_restart(self, cell: Cell) -> bool:
        """Count a restart. Return False, and count none, if the policy allows no more of them."""
        policy = cell.policy
        now = self.rt.window_clock()
        if cell.restarts is None:
            cell.restarts = RestartWindow()
        restarts = cell.restarts
        while restarts and restarts[0] <= now - policy.within_seconds:
            restarts.popleft()
        if len(restarts) >= policy.max_restarts:
            return False
        restarts.append(now)
        restarts.delay = (
            policy.backoff.delay(len(restarts), self.rt.rng) if policy.backoff is not None else 0.0
        )
        return True

    def _children_policy(self, cell: Cell) -> GroupPolicy | None:
        """Return the policy by which a cell restarts together with its siblings, if there is one."""
        parent = cell.parent
        if parent is None or cell.stopping or parent.force or parent.phase not in _HAS_CHILDREN:
            return None
        try:
            return children_policy(parent)
        except Exception as own:  # noqa: BLE001 - user code: the parent fails for itself
            parent.escalated = own
            self.rt.signal(parent)
            return None

    def _escalate(self, cell: Cell, error: Exception) -> None:
        parent = cell.parent
        if parent is not None and parent.parent is not None:
            if parent.escalated is None:
                parent.escalated = error
            self.rt.signal(parent)

    def note_started(self, cell: Cell) -> None:
        """Record the start of an actor, once in its life."""
        if not cell.started:
            cell.started = True
            self.rt.history.started(cell)

    def back_off(self, cell: Cell) -> None:
        """Wait before the new instance is built, if the policy has a backoff."""
        phases.enter(cell, BACKING_OFF)
        if cell.group is not None:
            cell.group.down(cell)
            return
        if cell.restarts is not None and cell.restarts.delay > 0 and not cell.stopping:
            cell.timer = self.rt.timers.after(cell.restarts.delay, partial(self._backed_off, cell))

    def _backed_off(self, cell: Cell) -> None:
        cell.timer = None
        self.rt.signal(cell)


def _is_pending(failure: _Failure) -> bool:
    """Return whether a crash is not noted yet, because the parent still has time to decide."""
    return failure.timer is not None and failure.timer.when is not None


def _keeps_actor(decision: SupervisorDecision) -> bool:
    """Return whether the actor goes on after the failure, in this instance or a new one."""
    match decision:
        case SupervisorDecision.RESTART | SupervisorDecision.RESUME:
            return True
        case SupervisorDecision.STOP | SupervisorDecision.IGNORE | SupervisorDecision.ESCALATE:
            return False
        case _:
            assert_never(decision)


def _stops_anyway(cell: Cell) -> bool:
    """Return whether no decision is needed, because the actor stops and has no message left to handle."""
    return cell.force > 0 or (cell.stopping and (cell.halted or not has_mail(cell)))


def _decides(parent: Cell) -> bool:
    """Return whether a parent makes a decision.

    It overrides `on_child_failure` and is not stopping or restarting.
    """
    if parent.actor is None or parent.force or parent.phase not in (STARTING, RUNNING, SUSPENDED, DRAINING):
        return False
    try:
        return type(parent.actor).on_child_failure is not Actor.on_child_failure
    except Exception:  # noqa: BLE001 - a descriptor of the user; the call of the hook handles its error
        return True
