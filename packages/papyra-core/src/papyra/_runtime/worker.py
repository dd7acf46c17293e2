"""A worker: one task that runs cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import deque
    from contextvars import Context

    import anyio

    from papyra._runtime._eventloop import Loop, Scopes, Waiter
    from papyra._runtime.cell import Cell

__all__ = ["WORKERS", "Worker", "context_for"]


class Worker:
    """A task that runs cells; ``cell`` is the current one."""

    __slots__ = (
        "abandoned",
        "cell",
        "context",
        "floor",
        "home",
        "inner",
        "interrupted",
        "own",
        "queue",
        "references",
        "roused",
        "scope",
        "scopes",
        "spoilt",
        "state",
        "waiter",
    )

    def __init__(self, context: Context) -> None:
        self.context = context  # the one that its task runs in
        self.cell: Cell | None = None
        self.home: Cell | None = None  # if set, it serves this cell alone, in that cell's context variables
        self.own = False  # it is the actor's own task: it runs on_start, every message and on_stop
        self.queue: deque[Cell] | None = None  # of one with a home
        self.scope: anyio.CancelScope | None = None
        self.inner: anyio.CancelScope | None = None
        self.scopes: Scopes | None = None
        self.state: Any = None  # of its scopes
        self.floor: object = None  # the innermost scope that is the worker's
        self.waiter: Waiter | None = None
        self.interrupted = False  # its scope is cancelled, so no other cell may run in it
        self.spoilt = False  # code of an actor left a scope open in its task: it serves no other actor
        self.abandoned = False
        self.references = 0  # to its task, before it ran an actor
        self.roused = False  # and counted awake

    def rouse(self) -> bool:
        """Wake the parked worker; return False if it is being cancelled and will not take another cell."""
        if self.waiter is None or self.waiter.done():
            return False
        self.roused = True
        self.waiter.set_result(None)
        return True

    def interrupt(self) -> None:
        """Cancel the actor's code that it runs."""
        self.interrupted = True
        if self.scope is not None:
            self.scope.cancel()

    def left_open(self) -> bool:
        """Return whether code of an actor has left a cancel scope or a task group open."""
        return self.scopes is not None and self.scopes.cancel_scope is not self.floor

    def is_cut_off(self) -> bool:
        """Return whether a scope that its actor has open is cancelled, and with it each wait of the task."""
        return self.scopes is not None and self.scopes.is_cancelled_inside(self.floor)

    def close_scopes(self) -> None:
        """Cancel and leave what was left open."""
        if self.scopes is not None and self.left_open():
            self.spoilt = True
            self.scopes.close_down_to(self.floor)

    def enter_scopes(self, loop: Loop) -> None:
        """Note the scopes that its task has entered: those that an actor's code enters come after them."""
        self.scopes = scopes = loop.scopes()
        self.state = scopes.state
        self.floor = scopes.cancel_scope

    def label(self) -> str:
        """Name the worker in a task dump by the actor it runs."""
        return f"papyra actor {self.cell}" if self.cell is not None else "papyra worker (idle)"


def context_for(cell: Cell | None, loop: Loop) -> Context:
    """Return the context that a worker for ``cell`` runs in: the cell's own, or a clean one."""
    variables = cell.variables if cell is not None else None
    if variables is None:
        return loop.clean_context.copy()
    return variables.context if isinstance(variables, Worker) else variables


WORKERS: dict[object, Worker] = {}
"""The workers of all systems by their tasks. An actor of one system may wait for an actor of another."""
