"""From spawn to stop: what a cell does besides handling messages.

`Lifecycle.step` is called by a worker that holds the cell. It goes through the phases of `cell` as far as
it can; where it must wait for something (a decision, children, the time of a backoff) it leaves the cell
``paused``, and whatever ends the wait signals the cell.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

from papyra import events as ev
from papyra._runtime.cell import (
    BACKING_OFF,
    DRAINING,
    RESTARTING_CHILDREN,
    RESTARTING_STOP,
    RUNNING,
    SIGNAL,
    STARTING,
    STOPPED,
    STOPPING,
    STOPPING_CHILDREN,
    SUSPENDED,
    Cell,
)
from papyra._runtime.mailbox import discard, grant, has_mail
from papyra._runtime.spawning import build
from papyra._runtime.stopping import begin_stopping_children, children_gone, finish
from papyra._runtime.supervision import Supervision
from papyra.actor import Actor
from papyra.exceptions import ActorNameTaken, ActorStopped
from papyra.hooks import FailureInfo
from papyra.supervision import NAMED_POLICY, UNNAMED_POLICY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from papyra._runtime.runtime import Runtime
    from papyra.supervision import SupervisionPolicy

__all__ = ["Lifecycle"]

_logger = logging.getLogger("papyra")

MAX_BURIALS = 1_000
"""Dead letters made in one go."""

_NEW_BOX: type[deque[Any]] = deque


class Lifecycle:
    """Start, restart and stop the cells of one dispatcher."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.supervision = Supervision(rt)
        # The root of the tree: an actor-less cell whose stop is the stop of the system.
        self.guardian = Cell(rt, 0, None, None, None, UNNAMED_POLICY, 1)
        self.guardian.phase = RUNNING
        self.guardian.fresh = False

    # -- spawn

    def spawn(
        self,
        factory: Callable[[], Any],
        name: str | None,
        parent: Cell,
        policy: SupervisionPolicy | None,
        capacity: int,
    ) -> Cell:
        """Make an actor and its cell and queue its start. Whatever the factory raises is the caller's."""
        rt = self.rt
        if name is not None and name in rt.names:
            raise ActorNameTaken(name, rt.names[name])
        if not _takes_children(parent):
            raise ActorStopped(parent, "is stopping or restarting and takes no children")
        actor = build(factory)
        # The factory is a stranger's code: it may have spawned actors itself.
        if name is not None and name in rt.names:
            raise ActorNameTaken(name, rt.names[name])
        if policy is None:
            policy = UNNAMED_POLICY if name is None else NAMED_POLICY
        rt.last_id = number = rt.last_id + 1
        cell = Cell(rt, number, name, parent, factory, policy, capacity)
        actor._papyra_cell = cell
        cell.actor = actor
        cell.actor_type = type(actor)
        rt.cells[number] = cell
        if name is not None:
            rt.names[name] = cell
        if parent.children is None:
            parent.children = {}
        parent.children[number] = cell
        rt.ready.append(cell)
        if not rt.awake:
            rt.wake()
        return cell

    def has_only_to_die(self, cell: Cell) -> bool:
        """Whether a cell is idle, and no code of its actor is to be run when it stops."""
        rng = self.rt.schedule_rng
        return (
            cell.phase == RUNNING
            and cell.box is None
            and not cell.children
            and cell.actor is not None
            and _inherits(cell.actor, "on_stop", Actor.on_stop)
            and (rng is None or rng.random() < 0.5)
        )

    # -- the steps of a life

    def begin(self, cell: Cell) -> Coroutine[Any, Any, None] | None:
        """Give a fresh cell its first turn: `step`, with the ways that nearly all take cut short.

        Return what of it is to be awaited: nothing if no code of the actor is to be run in it.
        """
        actor = cell.actor
        if actor is None or cell.stopping or cell.box is not None:
            return self.step(cell)
        cell.fresh = False
        cell.limit = cell.capacity
        if not _inherits(actor, "on_start", Actor.on_start):
            return self._begin(cell, actor)
        cell.phase = RUNNING
        cell.started = True
        self.rt.facts.event(ev.ActorStarted, cell, {})
        return None

    async def _begin(self, cell: Cell, actor: Actor) -> None:
        mailbox_pool = self.rt.mailbox_pool
        cell.box = box = mailbox_pool.pop() if mailbox_pool else _NEW_BOX()
        try:
            await actor.on_start()
        except BaseException as error:
            failure = self._failure(cell, error)
            if failure is None:
                raise
            await self.supervision.failed(cell, failure)
            failure = None  # its traceback leads to this frame: leave no cycle behind
            await self.step(cell)
            return
        if cell.phase == STOPPED:
            return  # it was left behind, and has ended after all
        cell.phase = RUNNING
        cell.started = True
        self.rt.facts.event(ev.ActorStarted, cell, {})
        if cell.stopping or cell.judging or cell.escalated is not None:
            await self.step(cell)  # a fresh cell has no box for the signal
        elif box:
            self.rt.schedule(cell)
        else:
            cell.box = None
            mailbox_pool.append(box)

    async def step(self, cell: Cell) -> None:
        """Do what is due besides messages, until the cell is queued again, idle, paused or dead."""
        if cell.fresh:
            cell.fresh = False
            cell.limit = 0 if cell.stopping else cell.capacity
        if cell.box is None:
            cell.box = self.rt.new_box()
        if cell.stopping and cell.phase == RUNNING and cell.actor is not None and _has_only_to_stop(cell):
            cell.phase = STOPPING
            if not _inherits(cell.actor, "on_stop", Actor.on_stop):
                await self._run_on_stop(cell)
            finish(cell)
            return
        while True:
            phase = cell.phase
            if phase == STARTING and cell.force:
                begin_stopping_children(cell)  # its time was over before it began
            elif phase == STARTING:
                await self._start(cell)
            elif phase in (RUNNING, DRAINING):
                if (cell.judging or cell.escalated is not None) and await self._handle_child_failures(cell):
                    continue
                if self._settle_running(cell):
                    return
            elif phase == SUSPENDED:
                if not await self.supervision.awaited(cell):
                    self._pause(cell)
                    return
            elif cell.force and phase in (RESTARTING_STOP, STOPPING) and self._interrupted():
                self.rt.signal_and_schedule(cell)  # on_stop must not run in a scope that is cancelled already
                return
            elif phase == RESTARTING_STOP:
                await self._run_on_stop(cell)
                if cell.phase != STOPPED:
                    cell.phase = RESTARTING_CHILDREN
            elif phase == RESTARTING_CHILDREN:
                if not children_gone(cell):
                    self._pause(cell)
                    return
                self.supervision.back_off(cell)
            elif phase == BACKING_OFF:
                if cell.timer is not None and not cell.stopping:
                    self._pause(cell)
                    return
                await self._rebuild(cell)
                # In a turn of its own, behind the others: an actor that fails at every start must not starve them.
                self.rt.signal_and_schedule(cell)
                return
            elif phase == STOPPING_CHILDREN:
                if cell.box:
                    await self._discard(cell)
                if not children_gone(cell):
                    self._pause(cell)
                    return
                cell.phase = STOPPING
            elif phase == STOPPING:
                await self._run_on_stop(cell)
                finish(cell)
                return
            else:
                return

    async def _discard(self, cell: Cell) -> None:
        """Make dead letters of the mailbox, with pauses in which the store gets them: there may be a million."""
        while discard(cell, MAX_BURIALS):
            if self.rt.ready and not self.rt.awake:
                self.rt.wake()
            await self.rt.loop.yield_to_loop()

    def _interrupted(self) -> bool:
        worker = self.rt.workers.get(self.rt.loop.current_task())
        return worker is not None and worker.interrupted

    def _pause(self, cell: Cell) -> None:
        """Leave the queue until signalled, but for a signal that came in the meantime."""
        box = cell.box
        if box and box[0] is SIGNAL:
            self.rt.schedule(cell)
        else:
            cell.paused = True

    async def _handle_child_failures(self, cell: Cell) -> bool:
        """See to children that failed. Return True if that gave the cell another phase, or may have."""
        if cell.judging:
            await self.supervision.judge(cell)
            if cell.phase not in (RUNNING, DRAINING):
                return True
        if cell.escalated is not None:
            error, cell.escalated = cell.escalated, None
            await self.supervision.failed(cell, error, escalated=True)
            return True
        return False

    def _settle_running(self, cell: Cell) -> bool:
        """Look after an active cell. Return True if it needs no further step now."""
        box = cell.box
        if cell.halted or cell.force or (cell.stopping and not (box and has_mail(cell))):
            begin_stopping_children(cell)
            return False
        if cell.stopping and box:
            cell.phase = DRAINING
            if box[-1] is not SIGNAL:
                box.append(SIGNAL)  # what comes up when the last message is done
        if cell.senders is not None:
            grant(cell)
        if box:
            self.rt.schedule(cell)
        else:
            cell.box = None
            if box is not None:
                self.rt.mailbox_pool.append(box)
        return True

    async def _start(self, cell: Cell) -> None:
        actor = cell.actor
        assert actor is not None  # noqa: S101 - a cell in this phase has an instance
        if cell.force:
            begin_stopping_children(cell)
            return
        try:
            await actor.on_start()
        except BaseException as error:
            failure = self._failure(cell, error)
            if failure is None:
                raise
            await self.supervision.failed(cell, failure)
            failure = None  # as above
            return
        if cell.phase == STOPPED:
            return  # as above
        cell.failure = None
        cell.phase = DRAINING if cell.stopping else RUNNING
        if cell.renewed:
            cell.renewed = False
            self.rt.tallies.of(cell.actor_type).restarts += 1
            self.rt.facts.event(ev.ActorRestarted, cell, {"reason": "actor restarted"})
        self.supervision.note_started(cell)

    async def _rebuild(self, cell: Cell) -> None:
        if cell.timer is not None:
            cell.timer.cancel()
            cell.timer = None
        if cell.force or cell.halted or (cell.stopping and not has_mail(cell)):
            begin_stopping_children(cell)
            return
        cell.escalated = None
        assert cell.factory is not None  # noqa: S101 - only a dead cell has none
        try:
            actor = build(cell.factory)
        except Exception as error:  # noqa: BLE001 - a failing factory is a failure like any other
            await self.supervision.failed(cell, error)
            return
        actor._papyra_cell = cell
        cell.actor = actor
        self.rt.tallies.change_type(cell, type(actor))
        cell.actor_type = type(actor)
        cell.renewed = True
        cell.phase = STARTING

    async def _run_on_stop(self, cell: Cell) -> None:
        """Run ``on_stop`` of the instance there is, once; what it raises is logged, and the stop goes on."""
        actor, cell.actor = cell.actor, None
        cell.receive = None
        if actor is None:
            return
        try:
            await (actor.on_stop() if cell.force < 2 else self._cut_on_stop(cell, actor))
        except BaseException as error:
            failure = self._failure(cell, error)
            if failure is None:
                raise
            _logger.error("on_stop of actor %s raised", cell, exc_info=failure)
            if cell.phase != STOPPED:  # nothing is recorded of an actor after its end
                self.rt.facts.crash(cell, failure)
                self.rt.callbacks.call(
                    "on_failure", FailureInfo(cell.address, failure, cell.policy.strategy, None)
                )
            failure = None  # as above

    def _failure(self, cell: Cell, error: BaseException) -> Exception | None:
        """Return the failure that ``error`` is, or None if it is to be raised on (guarantee 12)."""
        if isinstance(error, Exception):
            return error
        return (
            self.rt.spurious_cancellation(cell, error)
            if isinstance(error, anyio.get_cancelled_exc_class())
            else None
        )

    async def _cut_on_stop(self, cell: Cell, actor: Actor) -> None:
        with anyio.CancelScope() as scope:  # its time is over: it gets as far as its first await
            scope.cancel()
            await actor.on_stop()
        if scope.cancelled_caught:
            _logger.error("on_stop of actor %s was cancelled: the time to stop is over", cell)


def _inherits(actor: Actor, hook: str, default: Callable[..., Any]) -> bool:
    """Whether a hook of an actor is the one of `Actor`, which does nothing: to await that takes 0.25 us."""
    try:
        return getattr(getattr(actor, hook), "__func__", None) is default
    except Exception:  # noqa: BLE001 - a user's property: who calls the hook sees to what it raises
        return False


def _has_only_to_stop(cell: Cell) -> bool:
    """Whether an active cell that stops can do so at once, as nearly all can: the way through the phases costs 0.7 us."""
    return not (cell.box or cell.children or cell.force or cell.judging or cell.escalated is not None)


def _takes_children(cell: Cell) -> bool:
    """Whether an actor may spawn: also while it works off its mailbox, for that is ordinary work."""
    if cell.parent is None:
        return not cell.stopping
    return cell.phase in (STARTING, RUNNING, DRAINING) and not cell.halted and not cell.force
