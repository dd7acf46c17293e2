"""Who waits for whom, and whether that can ever end.

A cell whose own code waits (for a reply, for room in a mailbox, for another's stop) has exactly one thing it
waits for, so the waits form chains: a wait that would close a chain to a ring is a deadlock, found by
walking it. One kind of link can be cut: a failed child that waits for its parent's decision. The parent's
`on_child_failure` normally runs between two of the parent's messages; if the parent waits for that child,
it runs at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra._runtime.cell import JUDGED
from papyra.exceptions import AskDeadlock

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell

__all__ = ["begin_wait", "waits_on"]


def begin_wait(me: Cell, target: Cell) -> None:
    """Note that ``me`` waits for ``target``, or raise `AskDeadlock` if that wait could never end."""
    ring = _ring(me, target)
    if ring:
        judged = next((cell for cell in ring if cell.phase == JUDGED), None)
        if judged is None:
            raise AskDeadlock([*ring, me])
        # Its own worker asks the parent now, instead of the parent's next turn.
        judged.rt.signal(judged)
    me.waits_for = target


def waits_on(waiting: Cell, cell: Cell) -> bool:
    """Whether ``waiting`` waits for ``cell``, directly or through others."""
    return bool(_ring(cell, waiting))


def _ring(me: Cell, target: Cell) -> list[Cell]:
    path = [me]
    step: Cell | None = target
    while step is not None:
        if step is me:
            return path
        path.append(step)
        step = step.waits_for
    return []
