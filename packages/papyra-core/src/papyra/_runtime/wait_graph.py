"""The graph of waits between actors, and the search for deadlocks in it.

The code of a cell waits for at most one other cell: for a reply, for room in a mailbox, or for a stop. So the
waits form chains; only `papyra.ask_all` waits for several cells at once, which is a fork in the chain. A wait
that would close a chain to a ring is a deadlock, found by walking the chain. An actor whose call would close
a ring gets `AskDeadlock`. Two kinds of ring are closed without such a call. The runtime cuts them:

- A failed child waits for its parent's decision while the parent waits for that child. `on_child_failure`
  normally runs between two messages of the parent; in this case it runs at once.
- An actor that stops or restarts waits for the stop of its children while one of them waits for it. That
  child's wait ends with an error, because the actor handles no message before.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from papyra._runtime.envelope import Envelope
from papyra._runtime.phases import SUSPENDED
from papyra.exceptions import ActorStopped, AskDeadlock, PapyraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.cell import Cell

__all__ = [
    "Branch",
    "Fork",
    "StopWait",
    "Wait",
    "begin_branch",
    "begin_fork",
    "begin_wait",
    "cut_waits",
    "end_wait",
    "move_wait",
    "wait_for_child",
    "waits_on",
    "waits_on_any",
]


class Wait(Protocol):
    """A wait that can be ended with an error."""

    def fail(self, error: PapyraError) -> None:
        """End the wait; the waiting call raises ``error``."""
        ...


class StopWait:
    """A wait for an actor's stop."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self.error: PapyraError | None = None

    def fail(self, error: PapyraError) -> None:
        """Let the call of `ActorSystem.stop` raise ``error``."""
        self.error = error
        if not self._waiter.done():
            self._waiter.set_result(None)


class Branch:
    """One of several waits of a cell at once. It has the part of a cell that the graph is made of."""

    __slots__ = ("wait", "waits_for")

    def __init__(self, target: Cell, wait: Wait) -> None:
        self.waits_for: Cell | Fork | None = target
        self.wait: Wait | None = wait


class Fork:
    """What a cell waits for that waits for several others at once, as in `papyra.ask_all`."""

    __slots__ = ("branches",)

    def __init__(self) -> None:
        self.branches: list[Branch] = []


def begin_wait(me: Cell, target: Cell, wait: Wait) -> None:
    """Register that the code of ``me`` waits for ``target``.

    Raise `AskDeadlock` if that wait could never end.
    """
    ring = _ring(me, target)
    if ring:
        _refuse_ring(me, ring, wait)
    me.waits_for = target
    me.wait = wait
    if me.group is not None or target.group is not None:
        _tell_group(me, target)


def begin_fork(me: Cell) -> Fork:
    """Register that the code of ``me`` waits for several cells, each of which `begin_branch` adds."""
    fork = Fork()
    me.waits_for = fork
    return fork


def begin_branch(me: Cell, fork: Fork, target: Cell, wait: Wait) -> Branch:
    """Register one more cell that ``me`` waits for; raise `AskDeadlock` if that wait could never end."""
    ring = _ring(me, target)
    if ring:
        _refuse_ring(me, ring, wait)
    branch = Branch(target, wait)
    fork.branches.append(branch)
    if me.group is not None or target.group is not None:
        _tell_group(me, target)
    return branch


def move_wait(waiting: Cell | Branch, target: Cell) -> None:
    """Register that a wait is now for ``target``; raise `AskDeadlock` if it could never end."""
    ring = _ring(waiting, target)
    if ring:
        raise AskDeadlock([*_cells(ring), target])
    waiting.waits_for = target


def _refuse_ring(me: Cell, ring: list[Cell | Branch], wait: Wait) -> None:
    cells = _cells(ring)
    suspended = next((cell for cell in cells if cell.phase == SUSPENDED and _undecided(cell)), None)
    if suspended is None:
        raise AskDeadlock([*cells, me], _kind(wait))
    # Its own worker asks the parent now, not in the parent's next turn.
    suspended.rt.signal(suspended)


def _tell_group(me: Cell, target: Cell) -> None:
    """Have a group that restarts end this wait, if it can't end before the restart."""
    group = me.group or target.group
    if group is not None:
        group.cut()


def end_wait(me: Cell | Branch) -> None:
    """Register that the code of ``me`` no longer waits."""
    me.waits_for = me.wait = None


def wait_for_child(cell: Cell, child: Cell) -> None:
    """Register that ``cell``, which stops or restarts, waits for the stop of ``child``.

    Cut the ring if there is one.
    """
    cell.waits_for = child
    ring = _ring(cell, child)
    for each in reversed(ring[1:]):  # the cell that waits for `cell` itself first
        if each.wait is not None:
            asks_it = each is ring[-1] and not isinstance(each.wait, StopWait)
            error = (
                ActorStopped(cell, "stops or restarts before it can reply")
                if asks_it
                else AskDeadlock([*_cells(ring), cell], _kind(each.wait))
            )
            each.wait.fail(error)
            end_wait(each)
            return


def _kind(wait: Wait) -> str:
    """Name what a wait is for, as `AskDeadlock` does."""
    if isinstance(wait, StopWait):
        return "stop"
    return "reply" if type(wait) is Envelope else "room"


def _undecided(cell: Cell) -> bool:
    # Once `on_child_failure` runs it can't be called again: a wait for the child in it is a deadlock.
    queue = cell.parent.undecided if cell.parent is not None else None
    return queue is not None and cell in queue


def waits_on(waiting: Cell, cell: Cell) -> bool:
    """Return whether ``waiting`` waits for ``cell``, directly or through others."""
    return bool(_ring(cell, waiting))


def waits_on_any(waiting: Cell, condition: Callable[[Cell], bool]) -> bool:
    """Return whether ``waiting`` waits for a cell that meets ``condition``, directly or through others."""
    return any(map(condition, _reachable(waiting)))


def cut_waits(cell: Cell, out_of_reach: Callable[[Cell], bool], why: str) -> None:
    """End every wait of ``cell`` for a cell that is out of reach, directly or through others."""
    waits_for = cell.waits_for
    for waiting in tuple(waits_for.branches) if isinstance(waits_for, Fork) else (cell,):
        if waiting.wait is None:
            continue
        for other in _reachable(waiting):
            if other is not cell and out_of_reach(other):
                waiting.wait.fail(ActorStopped(other, why))
                end_wait(waiting)
                break


def _ring(me: Cell | Branch, target: Cell) -> list[Cell | Branch]:
    """Return the ring that a wait of ``me`` for ``target`` would close, from ``me`` on.

    Nothing if there is none.
    """
    path: dict[Cell | Branch, None] = {me: None}  # in order
    step: Cell | Fork | None = target
    while step is not None:
        if step is me:
            return list(path)
        if isinstance(step, Fork):
            return _ring_through_forks(me, target)
        if step in path:
            return []  # a ring of other cells, one of which is about to get an error
        path[step] = None
        step = step.waits_for
    return []


def _ring_through_forks(me: Cell | Branch, target: Cell) -> list[Cell | Branch]:
    before: dict[Cell | Branch, Cell | Branch] = {target: me}
    queue: deque[Cell | Branch] = deque((target,))
    while queue:
        step = queue.popleft()
        for following in _following(step):
            if following is me:
                path = [step]
                while path[-1] is not me:
                    path.append(before[path[-1]])
                return path[::-1]
            if following not in before:
                before[following] = step
                queue.append(following)
    return []


def _following(step: Cell | Branch) -> Sequence[Cell | Branch]:
    waits_for = step.waits_for
    if waits_for is None:
        return ()
    return waits_for.branches if isinstance(waits_for, Fork) else (waits_for,)


def _reachable(waiting: Cell | Branch) -> Iterator[Cell]:
    """Yield the cells that a wait depends on, the nearest first."""
    seen: dict[Cell | Branch, None] = dict.fromkeys(_following(waiting))
    queue = deque(seen)
    while queue:
        step = queue.popleft()
        if not isinstance(step, Branch):
            yield step
        for following in _following(step):
            if following not in seen:
                seen[following] = None
                queue.append(following)


def _cells(path: Iterable[Cell | Branch]) -> list[Cell]:
    return [step for step in path if not isinstance(step, Branch)]
