"""Context variables stay with the actor that set them.

A worker must show every actor the variables that it began with. After each turn it compares them. If an
actor has changed them, the actor keeps the changed ones and the worker ends (`papyra._runtime.worker_loop`).
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING

from papyra._runtime.phases import STOPPED

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell

__all__ = ["ContextGuard", "keep"]


class ContextGuard:
    """The context variables that a worker began with."""

    __slots__ = ("context", "watched")

    def __init__(self) -> None:
        self.context = copy_context()
        # Values that may be equal to others: the comparison of two contexts does not notice a change of these.
        # Numbers are not excluded, because 1 == True.
        self.watched = tuple(
            (var, value) for var, value in self.context.items() if type(value) not in (str, bytes, type(None))
        )

    def changed(self) -> bool:
        """Return whether an actor has changed them. Unchanged contexts share their tree: comparing takes 30 ns."""
        try:
            if copy_context() != self.context:
                return True
        except Exception:  # noqa: BLE001 - user values are compared, and only changed ones are
            return True
        return any(var.get(None) is not value for var, value in self.watched)


def keep(cell: Cell) -> None:
    """Let ``cell`` keep the context variables of the current task, for its next turns."""
    if cell.phase != STOPPED:
        cell.variables = copy_context()
