"""What each decision on a failed actor means: what happens to the actor, and what is logged and recorded.

To add a member of `SupervisorDecision`, handle it in the two ``match`` statements of this module. The phase
that follows is in `phases.TRANSITIONS`. If the actor waits as SUSPENDED meanwhile, `supervision.decide` has
to know what comes after the wait, and `lifecycle._goes_down` ends its timer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, assert_never

from papyra._runtime import phases
from papyra._runtime.containment.failure_log import FailureLog
from papyra._runtime.mailbox import has_mail
from papyra._runtime.phases import BACKING_OFF, DRAINING, RESTARTING_STOP, RUNNING, STARTING, SUSPENDED
from papyra._runtime.restart_group import children_policy, group_of
from papyra._runtime.restart_window import RestartWindow, delay_before
from papyra._runtime.stopping import stop_failed
from papyra._runtime.worker import Worker
from papyra.hooks import FailureInfo
from papyra.supervision import SupervisorDecision

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime.cell import Cell
    from papyra._runtime.restart_group import Group
    from papyra._runtime.runtime import Runtime
    from papyra._runtime.timers import Timer
    from papyra.persistence.models import PersistedEvent
    from papyra.supervision import GroupPolicy, SupervisionPolicy

__all__ = ["HAS_CHILDREN", "WITH_SIBLINGS", "Decisions", "Failure", "stops_anyway"]

HAS_CHILDREN = (STARTING, RUNNING, SUSPENDED, DRAINING)
"""The phases in which an actor decides on its children."""

WITH_SIBLINGS = "restarts with its siblings"


class Failure(NamedTuple):
    """The failed method or message, and the event and its timer while the parent has not decided."""

    during: str
    message: object = None
    crash: PersistedEvent | None = None
    timer: Timer | None = None
    escalated: bool = False

    @property
    def is_pending(self) -> bool:
        """Whether the crash is not noted yet, because the parent still has time to decide."""
        return self.timer is not None and self.timer.when is not None


class _Plan(NamedTuple):
    """What a decision means for one failed cell."""

    taken: SupervisorDecision  # as it is recorded
    text: str  # as it is logged
    begin: Callable[[], None]  # what is done
    group: Group | None = None  # whose restarts are recorded, instead of the cell's own


class Decisions:
    """Carry out the decisions on the failed actors of one runtime."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.log = FailureLog(rt.timers)

    def carry_out(
        self, cell: Cell, error: Exception, decision: SupervisorDecision | None, failure: Failure | None
    ) -> None:
        """Log, record and begin what its parent decided on a failed cell, or else what its policy says."""
        cell.waits_for = None
        plan = self._plan(cell, error, decision)
        self.log_decided(cell, error, failure, plan.text)
        restarts = plan.group.restarts if plan.group is not None else len(cell.restarts or ())
        self._report(cell, error, decision, failure, plan.taken, restarts)
        plan.begin()

    def _plan(self, cell: Cell, error: Exception, decision: SupervisorDecision | None) -> _Plan:
        by = "" if decision is None else ", as its parent decided"
        wanted = decision or SupervisorDecision(cell.policy.strategy.value)
        if stops_anyway(cell):
            wanted = SupervisorDecision.STOP
        if cell.group is not None and cell.group.goes_down and _goes_on(cell, wanted):
            # It stays suspended until its turn to go down.
            return _Plan(SupervisorDecision.RESTART, WITH_SIBLINGS, lambda: None)
        match wanted:
            case SupervisorDecision.RESUME if cell.actor is not None and _is_cut_off(cell):
                return self._plan_restart(cell, ", because its own task is cancelled and can't be resumed")
            case SupervisorDecision.RESUME if cell.actor is not None:
                return _Plan(wanted, f"resumed{by}", partial(self._resume, cell))
            case SupervisorDecision.RESTART:
                policy = self._children_policy(cell) if decision is None else None
                if policy is not None and cell.parent is not None:
                    return self._plan_group_restart(cell, error, group_of(cell.parent), policy)
                return self._plan_restart(cell, by)
            case SupervisorDecision.STOP | SupervisorDecision.IGNORE | SupervisorDecision.RESUME:
                taken = wanted if wanted is SupervisorDecision.IGNORE else SupervisorDecision.STOP
                return _Plan(taken, f"stopped{by}", partial(stop_failed, cell, "failed"))
            case SupervisorDecision.ESCALATE:
                parent = cell.parent
                to = f"stopped, and escalated to {parent}{by}"
                if parent is None or parent.parent is None:
                    to = f"stopped: it would escalate, and has no parent{by}"
                return _Plan(wanted, to, partial(self._escalate, cell, error, "failed"))
            case _:
                assert_never(wanted)

    # -- restart

    def _plan_restart(self, cell: Cell, by: str) -> _Plan:
        policy = cell.policy
        if cell.restarts is None:
            cell.restarts = RestartWindow()
        restarts = cell.restarts
        if not restarts.admits(policy, self.rt.window_clock()):
            text = _over_limit(len(restarts), policy)
            return _Plan(SupervisorDecision.STOP, text, partial(stop_failed, cell, "restart_limit"))
        wait = delay_before(len(restarts), policy.backoff, self.rt.rng)
        restarts.delay = wait
        when = f"after {wait:{'.1f' if wait >= 0.1 else '.2g'}} s" if wait else "at once"
        begin = partial(phases.enter, cell, RESTARTING_STOP)
        return _Plan(SupervisorDecision.RESTART, f"{_counted(len(restarts), policy)}, {when}{by}", begin)

    def _plan_group_restart(self, cell: Cell, error: Exception, group: Group, policy: GroupPolicy) -> _Plan:
        if not group.admits(policy):
            text = f"{_over_limit(group.restarts, policy)}, and its parent fails"
            begin = partial(self._escalate, cell, error, "restart_limit")
            return _Plan(SupervisorDecision.ESCALATE, text, begin, group)
        text = f"{_counted(group.restarts, policy)}, {policy.strategy.value}"
        return _Plan(SupervisorDecision.RESTART, text, partial(group.begin, cell, policy), group)

    def _children_policy(self, cell: Cell) -> GroupPolicy | None:
        """Return the policy by which a cell restarts together with its siblings, if there is one."""
        parent = cell.parent
        if parent is None or cell.stopping or parent.force or parent.phase not in HAS_CHILDREN:
            return None
        try:
            return children_policy(parent)
        except Exception as own:  # noqa: BLE001 - user code: the parent fails for itself
            parent.escalated = own
            self.rt.signal(parent)
            return None

    def back_off(self, cell: Cell) -> None:
        """Wait before the new instance is built, if the policy has a backoff."""
        phases.enter(cell, BACKING_OFF)
        if cell.group is not None:
            cell.group.down(cell)
        elif cell.restarts is not None and cell.restarts.delay > 0 and not cell.stopping:
            self._wait(cell, cell.restarts.delay)

    def _wait(self, cell: Cell, seconds: float) -> None:
        """Give the cell a turn after some seconds, or earlier if it stops: its phase says what follows."""
        cell.timer = self.rt.timers.after(seconds, partial(self._waited, cell))

    def _waited(self, cell: Cell) -> None:
        cell.timer = None
        self.rt.signal(cell)

    # -- resume and escalate

    def _resume(self, cell: Cell) -> None:
        cell.failure = None
        phases.enter(cell, DRAINING if cell.stopping else RUNNING)
        self.note_started(cell)
        if cell.group is not None:
            cell.group.up(cell)

    def _escalate(self, cell: Cell, error: Exception, reason: str) -> None:
        stop_failed(cell, reason)
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

    # -- the log and the record

    def on_stop_failed(self, cell: Cell, error: Exception) -> None:
        """Record a failure of ``on_stop``, which changes nothing: the stop or restart goes on."""
        taken = SupervisorDecision.STOP if cell.stopping else SupervisorDecision.RESTART
        self.log.failed(cell, "on_stop of actor %s ended", error, f"the {taken.value} goes on")
        self._report(cell, error, None, Failure("on_stop"), taken, len(cell.restarts or ()))

    def _report(
        self,
        cell: Cell,
        error: Exception,
        decision: SupervisorDecision | None,
        failure: Failure | None,
        taken: SupervisorDecision,
        restarts: int,
    ) -> None:
        """Record a failure with the decision that was ``taken``, and call the hooks."""
        history = self.rt.history
        if failure is not None and failure.crash is None:
            history.crash(cell, error, failure.during, taken.value, restarts)
        elif failure is not None:
            self.note(failure, taken, restarts)
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

    def log_decided(self, cell: Cell, error: BaseException, failure: Failure | None, text: str) -> None:
        """Log what was decided; with the traceback, unless it is in the log already."""
        if failure is not None and failure.escalated:
            self.log.decided(cell, "fails with what its child escalated,", error, text)
        elif failure is not None and failure.crash is not None and not failure.is_pending:
            self.log.decided(cell, "failed before with", error, text)
        else:
            self.log.failed(cell, "actor %s failed", error, text)

    def note(self, failure: Failure, taken: SupervisorDecision, restarts: int) -> None:
        """Add the decision to a crash that waits for it, and note the crash."""
        if failure.crash is not None and failure.timer is not None and failure.is_pending:
            failure.timer.cancel()
            self.rt.history.decided(failure.crash, taken.value, restarts)
            self.rt.history.note(failure.crash)


def _goes_on(cell: Cell, decision: SupervisorDecision) -> bool:
    """Return whether the actor goes on after the failure, in this instance or a new one."""
    match decision:
        case SupervisorDecision.RESTART:
            return True
        case SupervisorDecision.RESUME:
            return cell.actor is not None
        case SupervisorDecision.STOP | SupervisorDecision.IGNORE | SupervisorDecision.ESCALATE:
            return False
        case _:
            assert_never(decision)


def _is_cut_off(cell: Cell) -> bool:
    """Return whether the actor has a task of its own in which it can wait for nothing any more.

    If it was resumed, the wait for its next message would fail, and that at once and without end.
    """
    return type(cell.variables) is Worker and cell.variables.is_cut_off()


def stops_anyway(cell: Cell) -> bool:
    """Return whether no decision is needed, because the actor stops and has no message left to handle."""
    return cell.force > 0 or (cell.stopping and (cell.halted or not has_mail(cell)))


def _counted(restarts: int, policy: SupervisionPolicy | GroupPolicy) -> str:
    return f"restart {restarts} of {policy.max_restarts} in {policy.within_seconds:g} s"


def _over_limit(restarts: int, policy: SupervisionPolicy | GroupPolicy) -> str:
    return f"stopped for good: {restarts} restart{'s' * (restarts != 1)} in {policy.within_seconds:g} s"
