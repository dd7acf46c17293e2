"""The graph of waits between actors, and the search for deadlocks in it.

The code of a cell waits for at most one other cell: for a reply, for room in a mailbox, or for a stop. So the
waits form chains. A wait that would close a chain to a ring is a deadlock, found by walking the chain. An
actor whose call would close a ring gets `AskDeadlock`. Two kinds of ring are closed without such a call. The
runtime cuts them:

- A failed child waits for its parent's decision while the parent waits for that child. `on_child_failure`
  normally runs between two messages of the parent; in this case it runs at once.
- An actor that stops or restarts waits for the stop of its children while one of them waits for it. That
  child's wait ends with an error, because the actor handles no message before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from papyra._runtime.phases import SUSPENDED
from papyra.exceptions import ActorStopped, AskDeadlock, PapyraError

if TYPE_CHECKING:
    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.cell import Cell

__all__ = ["StopWait", "Wait", "begin_wait", "end_wait", "wait_for_child", "waits_on"]


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


def begin_wait(me: Cell, target: Cell, wait: Wait) -> None:
    """Register that the code of ``me`` waits for ``target``; raise `AskDeadlock` if that wait could never end."""
    ring = _ring(me, target)
    if ring:
        suspended = next((cell for cell in ring if cell.phase == SUSPENDED and _undecided(cell)), None)
        if suspended is None:
            raise AskDeadlock([*ring, me])
        # Its own worker asks the parent now, not in the parent's next turn.
        suspended.rt.signal(suspended)
    me.waits_for = target
    me.wait = wait


def end_wait(me: Cell) -> None:
    """Register that the code of ``me`` no longer waits."""
    me.waits_for = me.wait = None


def wait_for_child(cell: Cell, child: Cell) -> None:
    """Register that ``cell``, which stops or restarts, waits for the stop of ``child``; cut the ring if there is one."""
    cell.waits_for = child
    if child.waits_for is None:
        return
    ring = _ring(cell, child)
    for each in reversed(ring[1:]):  # the cell that waits for `cell` itself first
        if each.wait is not None:
            asks_it = each is ring[-1] and not isinstance(each.wait, StopWait)
            error = (
                ActorStopped(cell, "stops or restarts before it can reply")
                if asks_it
                else AskDeadlock([*ring, cell])
            )
            each.wait.fail(error)
            end_wait(each)
            return


def _undecided(cell: Cell) -> bool:
    # Once `on_child_failure` runs it can't be called again: a wait for the child in it is a deadlock.
    queue = cell.parent.undecided if cell.parent is not None else None
    return queue is not None and cell in queue


def waits_on(waiting: Cell, cell: Cell) -> bool:
    """Return whether ``waiting`` waits for ``cell``, directly or through others."""
    return bool(_ring(cell, waiting))


def _ring(me: Cell, target: Cell) -> list[Cell]:
    path = {me: None}  # in order
    step: Cell | None = target
    while step is not None:
        if step is me:
            return list(path)
        if step in path:
            return []  # a ring of other cells, one of which is about to get an error
        path[step] = None
        step = step.waits_for
    return []
