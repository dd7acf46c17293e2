"""Who waits for whom, and whether that can ever end.

A cell whose own code waits (for a reply, for room in a mailbox, for another's stop) has exactly one thing it
waits for, so the waits form chains: a wait that would close a chain to a ring is a deadlock, found by
walking it. An actor that would close one by its own call gets `AskDeadlock`. Two kinds of ring close
otherwise, and are cut instead:

- A failed child waits for its parent's decision while the parent waits for that child. `on_child_failure`
  normally runs between two of the parent's messages; then it runs at once.
- An actor that stops or restarts waits for its children's stop while one of them waits for it. Then that
  child's wait ends with an error, for the actor will handle no message before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from papyra._runtime.cell import SUSPENDED
from papyra.exceptions import ActorStopped, AskDeadlock, PapyraError

if TYPE_CHECKING:
    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.cell import Cell

__all__ = ["StopWait", "Wait", "begin_wait", "end_wait", "wait_for_child", "waits_on"]


class Wait(Protocol):
    """A wait that can be ended with an error."""

    def fail(self, error: PapyraError) -> None:
        """End the wait: what waits raises ``error``."""
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
    """Note that the code of ``me`` waits for ``target``, or raise `AskDeadlock` if that wait could never end."""
    ring = _ring(me, target)
    if ring:
        judged = next((cell for cell in ring if cell.phase == SUSPENDED and _undecided(cell)), None)
        if judged is None:
            raise AskDeadlock([*ring, me])
        # Its own worker asks the parent now, instead of the parent's next turn.
        judged.rt.signal(judged)
    me.waits_for = target
    me.wait = wait


def end_wait(me: Cell) -> None:
    """Note that the code of ``me`` waits no more."""
    me.waits_for = me.wait = None


def wait_for_child(cell: Cell, child: Cell) -> None:
    """Note that ``cell``, which stops or restarts, waits for the stop of ``child``, and cut the ring if that closes one."""
    cell.waits_for = child
    if child.waits_for is None:
        return
    ring = _ring(cell, child)
    for each in reversed(ring[1:]):  # the one that waits for `cell` itself first
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
    # Once `on_child_failure` runs, it can't be asked at once any more: to wait for the child in it is a deadlock.
    queue = cell.parent.judging if cell.parent is not None else None
    return queue is not None and cell in queue


def waits_on(waiting: Cell, cell: Cell) -> bool:
    """Whether ``waiting`` waits for ``cell``, directly or through others."""
    return bool(_ring(cell, waiting))


def _ring(me: Cell, target: Cell) -> list[Cell]:
    path = {me: None}  # in order
    step: Cell | None = target
    while step is not None:
        if step is me:
            return list(path)
        if step in path:
            return []  # others wait in a ring, one of which is about to be told
        path[step] = None
        step = step.waits_for
    return []
