"""Siblings that restart together: Erlang/OTP's one_for_all and rest_for_one.

The members go down one by one, newest first, and come up again one by one, oldest first. A group never
changes a member itself: it signals the member, whose own worker asks in `Lifecycle.step` whether its turn has
come (`wants_down`, `holds`) and reports back (`down`, `up`, `gone`).
"""

from __future__ import annotations

from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

from papyra._runtime import phases
from papyra._runtime.containment.user_values import describe, is_a, type_name
from papyra._runtime.phases import BACKING_OFF, DRAINING, RESTARTING_CHILDREN, SUSPENDED
from papyra._runtime.resources import resources
from papyra._runtime.restart_window import RestartWindow, delay_before
from papyra._runtime.stopping import ABANDON, force, request_stop, stop_failed
from papyra._runtime.wait_graph import cut_waits
from papyra.supervision import GroupPolicy, RestartStrategy, Strategy

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.timers import Timer

__all__ = ["Group", "children_policy", "group_of"]

MAX_CANCELLATIONS = 3
"""A member that ignores more cancellations is abandoned."""


class _State(Enum):
    UP = auto()
    DOWN = auto()
    RISING = auto()


class Group:
    """The children of one actor that restart together.

    It exists from the first restart on, and keeps the times of the restarts. They count only seconds in which
    the group was up, because a slow stop must not make the limit unreachable.
    """

    def __init__(self, parent: Cell) -> None:
        self.parent = parent
        self.members: dict[Cell, _State] = {}  # oldest first; empty while no restart is under way
        self.failed: Cell | None = None
        self._policy: GroupPolicy | None = None
        self._rising = False
        self._left: list[Cell] = []  # members whose turn will come, the next one last
        self._current: Cell | None = None  # the member that is going down or coming up
        self._stopped_for_good: Cell | None = None
        self._cancellations = 0
        self._timer: Timer | None = None
        self._restarts = RestartWindow()
        self._down_since: float | None = None
        self._down_seconds = 0.0

    # -- called by supervision

    def admits(self, policy: GroupPolicy) -> bool:
        """Count a restart, or return False if the policy allows no more."""
        now = self.parent.rt.window_clock() if self._down_since is None else self._down_since
        return self._restarts.admits(policy, now - self._down_seconds)

    def begin(self, failed: Cell, policy: GroupPolicy) -> None:
        """Suspend ``failed``, and take it down with the siblings that go with it."""
        if failed.phase != SUSPENDED:
            phases.enter(failed, SUSPENDED)
        if self._down_since is None:
            self._down_since = self.parent.rt.window_clock()
        self._policy, self.failed = policy, failed
        for cell in (self.parent.children or {}).values():
            if cell.phase < DRAINING and not cell.stopping and _goes_with(cell, failed, policy):
                self.members.setdefault(cell, _State.UP)
                cell.group = self
        if self.members[failed] is _State.RISING:
            self.members[failed] = _State.UP
        self.members = dict(sorted(self.members.items(), key=lambda item: item[0].id))
        self._rising, self._current = False, None
        self._left = list(self.members)
        self._cancel_timer()
        self.cut()
        self._advance()

    @property
    def goes_down(self) -> bool:
        """Whether members are going down now: an error of one of them has no effect then."""
        return not self._rising and bool(self.members)

    @property
    def restarts(self) -> int:
        """The number of restarts that the policy counts now."""
        return len(self._restarts)

    # -- called by members

    def wants_down(self, cell: Cell) -> bool:
        """Whether it is this member's turn to end its instance."""
        return self.goes_down and cell is self._current

    def stops_for_good(self, cell: Cell) -> bool:
        """Whether a member is stopped in its turn, because its own policy is STOP."""
        return cell.policy.strategy is Strategy.STOP and cell is not self.failed

    def holds(self, cell: Cell) -> bool:
        """Whether a member that is down must wait for its turn to come up."""
        return self.members.get(cell) is _State.DOWN

    def down(self, cell: Cell) -> None:
        """Note that a member has no instance and no children any more."""
        self.members[cell] = _State.DOWN
        self._turn_over(cell)

    def up(self, cell: Cell) -> None:
        """Note that the ``on_start`` of a member's new instance has returned."""
        if self.members.get(cell) is _State.RISING:
            self.members[cell] = _State.UP
            self._turn_over(cell)

    def closed(self, cell: Cell) -> None:
        """Note that a member is stopping. If the group did not stop it, it leaves the group."""
        if cell is not self._stopped_for_good:
            self.gone(cell)

    def gone(self, cell: Cell) -> None:
        """Note that a member has stopped."""
        self.members.pop(cell, None)
        cell.group = None
        self._turn_over(cell)

    def cut(self) -> None:
        """End the waits for members that handle no message before the waiting member is down, or up.

        If the parent waits, a suspended member looks at once whether the parent can decide in its own turn.
        """
        for cell, state in self.members.items():
            if cell.phase == SUSPENDED and self.parent.waits_for is not None:
                cell.rt.signal(cell)
            if cell.waits_for is not None and (not self._rising or state is _State.RISING):
                cut_waits(cell, self.is_out_of_reach, "restarts with its siblings before it can reply")

    def is_out_of_reach(self, cell: Cell) -> bool:
        """Whether a member handles no message before others are down, or up."""
        state = self.members.get(cell)
        return state is not None and (not self._rising or state is not _State.UP)

    # -- turns

    def _turn_over(self, cell: Cell) -> None:
        if cell is self._current:
            self._current = self._stopped_for_good = None
            self._cancel_timer()
        if self._current is None and self._timer is None and self._down_since is not None:
            self._advance()

    def _advance(self) -> None:
        """Turn to the next member."""
        if not self._rising:
            while self._left:
                cell = self._left.pop()
                if self.members.get(cell, _State.DOWN) is not _State.DOWN and not self._is_down_already(cell):
                    self._bring_down(cell)
                    return
            self._rising = True
            self._left = list(reversed(self.members))
            assert self._policy is not None  # noqa: S101 - `begin` set it
            delay = delay_before(len(self._restarts), self._policy.backoff, self.parent.rt.rng)
            if delay > 0 and self.members:
                self._timer = self.parent.rt.timers.after(delay, self._rise)
                return
        self._rise()

    def _rise(self) -> None:
        self._timer = None
        while self._left:
            cell = self._left.pop()
            if self.members.get(cell) is _State.DOWN:
                self.members[cell] = _State.RISING
                self._current = cell
                cell.rt.signal(cell)
                return
        for cell in self.members:
            cell.group = None
        self.members.clear()
        self._note_over()

    def _note_over(self) -> None:
        if self._down_since is not None:
            self._down_seconds += self.parent.rt.window_clock() - self._down_since
        self._down_since = None
        self._rising = False

    def _is_down_already(self, cell: Cell) -> bool:
        """Take over a member that waits for its own backoff."""
        if cell.phase != BACKING_OFF or self.stops_for_good(cell):
            return False
        cell.cancel_timer()
        self.members[cell] = _State.DOWN
        return True

    def _bring_down(self, cell: Cell) -> None:
        self._current = cell
        self._cancellations = 0
        self._await_grace(cell)
        if self.stops_for_good(cell):
            self._stopped_for_good = cell
            if cell.phase == SUSPENDED:
                if self.parent.undecided is not None:
                    self.parent.undecided.pop(cell, None)
                stop_failed(cell, "failed")
            cell.halted = True  # what is queued becomes dead letters
            request_stop(cell)
        cell.rt.signal(cell)

    # -- slow members

    def _await_grace(self, cell: Cell) -> None:
        assert self._policy is not None  # noqa: S101 - `begin` set it
        self._timer = self.parent.rt.timers.after(self._policy.grace, partial(self._hurry, cell))

    def _hurry(self, cell: Cell) -> None:
        """Cancel the code that keeps a member from going down. Abandon the member after three attempts."""
        self._cancellations += 1
        self._await_grace(cell)
        if self._cancellations > MAX_CANCELLATIONS:
            cell.reason = "failed"
            force(cell, 0.0, ABANDON)
            return
        if cell.phase == RESTARTING_CHILDREN or cell.stopping:
            assert self._policy is not None  # noqa: S101 - `begin` set it
            for child in list((cell.children or {}).values()):
                force(child, self._policy.grace)
        worker = cell.running()
        if worker is not None:
            worker.interrupt()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def group_of(parent: Cell) -> Group:
    """Return the group of an actor's children."""
    mine = resources(parent)
    if mine.group is None:
        mine.group = Group(parent)
    return mine.group


def _goes_with(cell: Cell, failed: Cell, policy: GroupPolicy) -> bool:
    match policy.strategy:
        case RestartStrategy.ONE_FOR_ALL:
            return True
        case RestartStrategy.REST_FOR_ONE:
            return cell.id >= failed.id
        case RestartStrategy.ONE_FOR_ONE:
            return cell is failed


def children_policy(parent: Cell) -> GroupPolicy | None:
    """Return the policy by which the children of an actor restart together.

    It is an attribute of the actor, so user code may raise here.
    """
    policy: object = getattr(parent.actor, "children_policy", None)
    if policy is None or is_a(policy, GroupPolicy):
        return policy
    raise TypeError(
        f"children_policy of {type_name(type(parent.actor))} must be a GroupPolicy or None, not {describe(policy)}"
    )
