"""Supervision: who decides on a failed actor, and when.

The parent's ``on_child_failure`` decides first. Without a decision, the actor's own policy applies. What the
decision means is in `papyra._runtime.decisions`.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

import anyio

from papyra._runtime import phases
from papyra._runtime.containment.failures import leave_scopes, note_plain_methods, own_failure
from papyra._runtime.containment.frames import calls_actor
from papyra._runtime.containment.log import log_error
from papyra._runtime.containment.tracebacks import cut_repeats
from papyra._runtime.containment.user_values import describe, is_a, is_awaitable
from papyra._runtime.decisions import HAS_CHILDREN, WITH_SIBLINGS, Decisions, Failure, stops_anyway
from papyra._runtime.phases import DRAINING, RUNNING, STOPPED, SUSPENDED
from papyra._runtime.stopping import stop_failed
from papyra._runtime.wait_graph import waits_on, waits_on_any
from papyra._runtime.worker import Worker, context_for
from papyra.actor import Actor
from papyra.ref import ActorRef
from papyra.supervision import SupervisorDecision

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.runtime import Runtime

__all__ = ["Supervision"]

MAX_UNDECIDED_SECONDS = 1.0
"""Time for which a crash is not noted, because the parent has not decided yet.

Then it is noted without a decision: neither the record nor `events` nor the log may lack a crash because a
parent is busy.
"""


class Supervision:
    """Ask who decides on each failure, and have the decision carried out."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.decisions = Decisions(rt)
        self._undecided: dict[Cell, Failure] = {}

    async def failed(
        self, cell: Cell, error: Exception, during: str, message: object = None, *, escalated: bool = False
    ) -> None:
        """Decide on a failure of ``cell`` in its own turn, or ask its parent; then log it with the decision.

        ``during`` is the type of the ``message`` that was handled, or the name of the method that raised.
        """
        if is_a(error, TypeError) and cell.actor is not None:
            note_plain_methods(cell.actor, error)
        cut_repeats(error)
        failure = Failure(during, message, escalated=escalated)
        if cell.phase == STOPPED:
            text = "it was left behind, and counts as stopped already"
            self.decisions.log_decided(cell, error, failure, text)
            return
        cell.failure = error
        if cell.group is not None and cell.group.goes_down and not stops_anyway(cell):
            self.decisions.log_decided(cell, error, failure, WITH_SIBLINGS)
            self.rt.history.crash(cell, error, during, SupervisorDecision.RESTART.value, cell.group.restarts)
            phases.enter(cell, SUSPENDED)  # it goes down with its siblings anyway, in its turn
            return
        parent = cell.parent
        if parent is None or stops_anyway(cell) or not _decides(parent):
            self.decisions.carry_out(cell, error, None, failure)
            return
        crash = self.rt.history.crash(cell, error, during, None, 0)
        timer = self.rt.timers.after(MAX_UNDECIDED_SECONDS, partial(self._note_undecided, cell))
        self._undecided[cell] = Failure(during, message, crash, timer, escalated)
        phases.enter(cell, SUSPENDED)
        if parent.undecided is None:
            parent.undecided = OrderedDict()
        parent.undecided[cell] = error
        if not await self.decide(cell):
            cell.waits_for = parent
            self.rt.signal(parent)

    # -- the parent's decision

    async def decide(self, cell: Cell) -> bool:
        """Decide on a suspended cell in its own turn. Return False while it has to wait for its parent's.

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
        elif waiting and _is_waited_for(cell, parent):
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
            failure = own_failure(parent, own)
            if failure is None:
                # The parent was cancelled. The child follows its policy: it must not wait for ever.
                if child.phase == SUSPENDED:
                    self._choose(child, error, None)
                    self.rt.signal(child)
                raise
            parent.escalated = failure  # the parent fails for itself, and the child follows its policy
            self.rt.signal(parent)
        leave_scopes(parent)
        if child.phase == SUSPENDED:
            self._choose(child, error, decision)
        if failure is not None:
            log_error("on_child_failure of actor %s raised", parent, error=failure)
            failure = None  # its traceback refers to this frame: avoid a reference cycle

    async def _ask_in_own_task(self, parent: Cell, child: Cell, error: Exception) -> None:
        """Run `_ask` in another task: the context variables of the child's task are the child's."""
        loop = self.rt.loop
        waiter = loop.waiter()
        # Registered as the child's: a wait for the child in it is a deadlock, and forcing the child ends it.
        runs = parent.running()  # it waits, and has perhaps set a variable in this very message
        worker = Worker(runs.context if runs is not None else context_for(parent, loop))
        mine, worker.cell, child.worker = child.worker, child, worker

        async def ask() -> None:
            task = self.rt.enter(worker)
            try:
                with anyio.CancelScope() as worker.scope:
                    worker.enter_scopes(loop)
                    try:
                        await self._ask(parent, child, error)
                    finally:
                        worker.close_scopes()
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

    def _choose(self, cell: Cell, error: Exception, decision: SupervisorDecision | None) -> None:
        self.decisions.carry_out(cell, error, decision, self._undecided.pop(cell, None))

    # -- crashes without a decision

    def _note_undecided(self, cell: Cell) -> None:
        """Note a crash whose decision takes long."""
        failure = self._undecided.get(cell)
        if failure is not None and failure.crash is not None and cell.failure is not None:
            if not failure.escalated:
                text = "its parent has not decided yet"
                self.decisions.log.failed(cell, "actor %s failed", cell.failure, text)
            self.rt.history.note(failure.crash)

    def settle(self, cell: Cell, taken: SupervisorDecision) -> None:
        """Note a crash that nobody decides on any more: the actor stops, or restarts with its siblings."""
        failure = self._undecided.pop(cell, None)
        if failure is not None:
            if cell.failure is not None:
                text = "stopped" if taken is SupervisorDecision.STOP else WITH_SIBLINGS
                self.decisions.log_decided(cell, cell.failure, failure, text)
            self.decisions.note(failure, taken, len(cell.restarts or ()))


def _is_waited_for(cell: Cell, parent: Cell) -> bool:
    """Return whether ``parent`` waits for ``cell``, or for a sibling that comes up only after it."""
    group = cell.group
    return waits_on(parent, cell) or (group is not None and waits_on_any(parent, group.is_out_of_reach))


def _decides(parent: Cell) -> bool:
    """Return whether a parent overrides `on_child_failure`, and is not stopping or restarting."""
    if parent.actor is None or parent.force or parent.phase not in HAS_CHILDREN:
        return False
    try:
        return type(parent.actor).on_child_failure is not Actor.on_child_failure
    except Exception:  # noqa: BLE001 - a descriptor of the user; the call of the hook handles its error
        return True
