"""Context variables stay with the actor that set them.

A worker must show every actor the variables that it began with. After each turn it looks whether they have
changed. If so, the actor keeps them and the worker ends (`papyra._runtime.worker_loop`).
"""

from __future__ import annotations

from collections import deque
from contextvars import Context
from gc import get_referents
from typing import TYPE_CHECKING

from papyra._runtime.phases import STOPPED

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.worker import Worker

__all__ = [
    "ContextGuard",
    "changed_variables",
    "keep",
    "keep_worker",
    "reference_of",
    "release_worker",
    "tree_of",
]

_MISSING = object()

_SYSTEM_VARIABLES = ("current_async_library_cvar", "decimal_context")
"""Variables that no actor sets to an object of a user's class: sniffio's and that of the decimal module."""


def tree_of(context: Context) -> object:
    """Return the tree in which CPython keeps the variables of a context.

    Contexts share it until one of them changes. It is compared by identity, and the values are not looked at.
    """
    referents = get_referents(context)
    return referents[-1] if referents else context


def reference_of(context: Context) -> Context:
    """Return a context that a worker can compare with, so that most turns need no exact check.

    The comparison takes 12 ns. Two contexts of one size are compared by their values, which would call the
    ``__eq__`` of a user's value. So where the host has set variables, an empty context is returned: its size
    differs, and the exact check follows each comparison.
    """
    return context if all(variable.name in _SYSTEM_VARIABLES for variable in context) else Context()


class ContextGuard:
    """The context variables that a worker began with.

    The worker compares ``live`` with ``reference`` after each turn, and calls `changed` if they differ. Where
    they were ``kept`` for an actor before the worker began, they count as changed.
    """

    __slots__ = ("_before", "_kept", "_tree", "live", "reference")

    def __init__(self, live: Context, *, kept: bool) -> None:
        self._kept = kept
        self.live = live  # the worker's own: reading it needs no copy
        self._before = live.copy()
        self._tree = tree_of(live)
        self.reference = reference_of(self._before)

    def changed(self) -> bool:
        """Return whether an actor has left a variable with another value."""
        if self._kept:
            return True
        tree = tree_of(self.live)
        if tree is self._tree:
            return False
        now, before = self.live, self._before
        if len(now) != len(before) or any(
            before.get(variable, _MISSING) is not value for variable, value in now.items()
        ):
            return True
        self._tree = tree  # set, and set back: another tree with the same values
        return False


def keep(cell: Cell, worker: Worker) -> None:
    """Let ``cell`` keep the context of ``worker``, which it has changed.

    Its next turns run in this very object, so a token that one message has made can be used in a later one.
    """
    if cell.phase != STOPPED:
        cell.variables = worker.context


def keep_worker(cell: Cell, worker: Worker) -> None:
    """Let ``cell`` keep the task of ``worker``, because it holds a lock or a limiter that the task owns.

    Its next messages run in this task, which serves no other actor until the lock is released.
    """
    if cell.phase != STOPPED:
        worker.home, cell.variables = cell, worker
        worker.queue = deque()


def release_worker(worker: Worker) -> None:
    """Let any worker run a worker's actor again, because the actor holds nothing of its task any more."""
    cell, worker.home, worker.queue = worker.home, None, None
    assert cell is not None  # noqa: S101 - only a worker with a home is released
    cell.variables = None


def changed_variables(context: Context, before: Context, clean: Context) -> Context | None:
    """Return ``clean`` with the variables that ``context`` has changed since ``before``.

    None if there are none.
    """
    changed = [
        (variable, value)
        for variable, value in context.items()
        if before.get(variable, _MISSING) is not value
    ]
    if not changed:
        return None
    variables = clean.copy()
    for variable, value in changed:
        variables.run(variable.set, value)
    return variables
