"""What becomes of an actor that failed: the parent's decision first, then the actor's own policy."""

from __future__ import annotations

import inspect
import logging
from collections import OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING

import anyio

from papyra import events as ev
from papyra._runtime.cell import BACKING_OFF, DRAINING, RESTARTING_STOP, RUNNING, STARTING, STOPPED, SUSPENDED
from papyra._runtime.mailbox import has_mail
from papyra._runtime.runtime import Worker
from papyra._runtime.stopping import stop_failed
from papyra._runtime.wait_graph import waits_on
from papyra.actor import Actor
from papyra.hooks import FailureInfo
from papyra.ref import ActorRef
from papyra.supervision import Strategy, SupervisorDecision

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.runtime import Runtime

__all__ = ["Supervision"]

_logger = logging.getLogger("papyra")

_BY_STRATEGY = {
    Strategy.STOP: SupervisorDecision.STOP,
    Strategy.RESTART: SupervisorDecision.RESTART,
    Strategy.ESCALATE: SupervisorDecision.ESCALATE,
}


class Supervision:
    """Decide on failures and carry the decisions out."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt

    async def failed(self, cell: Cell, error: Exception, *, escalated: bool = False) -> None:
        """Handle a failure of ``cell``, in its own turn: log it, record it, and find a decision."""
        if isinstance(error, TypeError) and cell.actor is not None:
            _note_plain_methods(cell.actor, error)
        if escalated:
            _logger.warning("actor %s fails with what its child escalated: %s", cell, type(error).__name__)
        else:
            _logger.error("actor %s failed", cell, exc_info=error)
        if cell.phase == STOPPED:
            return  # it was left behind, and has ended after all
        self.rt.facts.crash(cell, error)
        cell.failure = error
        parent = cell.parent
        if _stops_anyway(cell) or not _decides(parent):
            self.apply(cell, error, None)
            return
        assert parent is not None  # noqa: S101 - _decides saw to it
        cell.phase = SUSPENDED
        if waits_on(parent, cell):
            await self._consult_apart(parent, cell, error)
            return
        if parent.judging is None:
            parent.judging = OrderedDict()
        parent.judging[cell] = error
        cell.waits_for = parent
        self.rt.signal(parent)

    async def awaited(self, cell: Cell) -> bool:
        """Look at a cell that awaits its parent's decision; True if it need not wait any longer."""
        parent = cell.parent
        error = cell.failure
        assert parent is not None  # noqa: S101 - only a cell with a parent is judged
        assert isinstance(error, Exception)  # noqa: S101 - `failed` set it
        queued = parent.judging is not None and cell in parent.judging
        if cell.force or (queued and not _decides(parent)):
            self._take_back(parent, cell)
            self.apply(cell, error, None)
            return True
        if queued and waits_on(parent, cell):
            self._take_back(parent, cell)
            await self._consult_apart(parent, cell, error)
            return True
        return cell.phase != SUSPENDED

    def _take_back(self, parent: Cell, cell: Cell) -> None:
        if parent.judging is not None:
            parent.judging.pop(cell, None)

    async def judge(self, parent: Cell) -> None:
        """Decide on the children that failed, in the parent's own turn."""
        while parent.judging and parent.phase in (RUNNING, DRAINING):
            child, error = parent.judging.popitem(last=False)
            if child.phase != SUSPENDED:
                continue
            await self._consult(parent, child, error)
            self.rt.signal(child)

    async def _consult_apart(self, parent: Cell, child: Cell, error: Exception) -> None:
        """Consult a parent that waits for this child: not in the child's task, whose context variables are the child's."""
        loop = self.rt.loop
        waiter = loop.waiter()

        # Known as the child's: a wait for the child in it is a deadlock, and forcing the child cancels it.
        worker = Worker()
        worker.cell = child

        async def consult() -> None:
            task = self.rt.enter(worker)
            try:
                with anyio.CancelScope() as worker.scope:
                    await self._consult(parent, child, error)
            except anyio.get_cancelled_exc_class():
                pass  # the event loop ends; nobody waits for this task
            except BaseException as fatal:  # noqa: BLE001 - carried over to the child's worker, which knows what to do with it
                carried.append(fatal)
            finally:
                self.rt.leave(task, worker)
                if not waiter.done():
                    waiter.set_result(None)

        carried: list[BaseException] = []
        loop.spawn(consult, lambda: f"papyra actor {parent} decides on {child}", parent.variables)
        try:
            await waiter
        except BaseException:
            worker.interrupt()
            raise
        if carried:
            raise carried[0]

    async def _consult(self, parent: Cell, child: Cell, error: Exception) -> None:
        decision = None
        try:
            decision = await _ask_parent(parent, child, error)
        except Exception as own:  # noqa: BLE001 - the parent's failure, handled as any other
            self._parent_failed(parent, own)
        except anyio.get_cancelled_exc_class() as error_:
            spurious_cancellation = self.rt.spurious_cancellation(parent, error_)
            if spurious_cancellation is None:
                self._leave_undecided(child, error)
                raise
            self._parent_failed(parent, spurious_cancellation)
        except BaseException:
            self._leave_undecided(child, error)
            raise
        if child.phase == SUSPENDED:
            self.apply(child, error, decision)

    def _parent_failed(self, parent: Cell, own: Exception) -> None:
        """Note that a parent's own code failed: the child falls back on its policy, the parent is judged for itself."""
        _logger.error("on_child_failure of actor %s raised", parent, exc_info=own)
        parent.escalated = own
        self.rt.signal(parent)

    def _leave_undecided(self, child: Cell, error: Exception) -> None:
        """Let a child follow its policy whose parent was cancelled over it: it must not wait for ever."""
        if child.phase == SUSPENDED:
            self.apply(child, error, None)
            self.rt.signal(child)

    def apply(self, cell: Cell, error: Exception, decision: SupervisorDecision | None) -> None:
        """Carry out a decision, or the cell's policy, by setting the phase the cell goes on in."""
        cell.waits_for = None
        policy = cell.policy
        self.rt.callbacks.call("on_failure", FailureInfo(cell.address, error, policy.strategy, decision))
        taken = decision or _BY_STRATEGY[policy.strategy]
        if _stops_anyway(cell):
            stop_failed(cell, "failed")
        elif taken is SupervisorDecision.RESUME and cell.actor is not None:
            cell.failure = None
            cell.phase = DRAINING if cell.stopping else RUNNING
            self.note_started(cell)
        elif taken is SupervisorDecision.RESTART:
            self._restart(cell)
        else:
            stop_failed(cell, "failed")
            parent = cell.parent
            if taken is SupervisorDecision.ESCALATE and parent is not None and parent.parent is not None:
                if parent.escalated is None:
                    parent.escalated = error
                self.rt.signal(parent)

    def note_started(self, cell: Cell) -> None:
        """Record, once in its life, that the actor runs."""
        if not cell.started:
            cell.started = True
            self.rt.facts.event(ev.ActorStarted, cell, {})

    def _restart(self, cell: Cell) -> None:
        policy = cell.policy
        now = self.rt.window_clock()
        if cell.restarts is None:
            cell.restarts = deque()
        restarts = cell.restarts
        while restarts and restarts[0] <= now - policy.within_seconds:
            restarts.popleft()
        if len(restarts) >= policy.max_restarts:
            stop_failed(cell, "restart_limit")
            return
        restarts.append(now)
        cell.phase = RESTARTING_STOP

    def back_off(self, cell: Cell) -> None:
        """Wait before the new instance is built, if the policy says so."""
        cell.phase = BACKING_OFF
        backoff = cell.policy.backoff
        if backoff is None or cell.stopping:
            return
        delay = backoff.delay(len(cell.restarts or ()), self.rt.rng)
        if delay > 0:
            cell.timer = self.rt.timers.after(delay, partial(self._backed_off, cell))

    def _backed_off(self, cell: Cell) -> None:
        cell.timer = None
        self.rt.signal(cell)


def _note_plain_methods(actor: Actor, error: TypeError) -> None:
    """Add to the error of awaiting what a plain ``receive`` returned that it is to be ``async def``."""
    if "'await' expression" not in str(error):
        return
    for name in ("receive", "on_start"):
        if not inspect.iscoroutinefunction(getattr(actor, name)):
            error.add_note(f"{type(actor).__name__}.{name} is a plain function: write `async def {name}`")


def _stops_anyway(cell: Cell) -> bool:
    """Whether nobody needs to decide on a failure: the actor stops, and has no message left to handle."""
    return cell.force > 0 or (cell.stopping and (cell.halted or not has_mail(cell)))


def _decides(parent: Cell | None) -> bool:
    """Whether a parent has a decision to make: it overrides `on_child_failure` and is not itself on its way out."""
    return (
        parent is not None
        and parent.actor is not None
        and not parent.force
        and parent.phase in (STARTING, RUNNING, SUSPENDED, DRAINING)
        and type(parent.actor).on_child_failure is not Actor.on_child_failure
    )


async def _ask_parent(parent: Cell, child: Cell, error: Exception) -> SupervisorDecision | None:
    actor = parent.actor
    if actor is None:
        return None
    decision: object = actor.on_child_failure(ActorRef(child), error)
    if inspect.isawaitable(decision):
        decision = await decision
    if decision is None or isinstance(decision, SupervisorDecision):
        return decision
    raise TypeError(f"on_child_failure must return a SupervisorDecision or None, not {decision!r}")
