"""The few things that asyncio and trio do differently and anyio has no cheap word for.

Measured on the reference machine, one wait and wake-up costs 5.9 us with a bare future or
``wait_task_rescheduled`` and 9.5 us with an ``anyio.Event``; a task costs 5 us against 16 us in an anyio
task group. All else in the runtime is plain anyio.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

__all__ = ["Loop", "Waiter", "running_loop"]


class Waiter(Protocol):
    """Something to await once, woken by ``set_result(None)``; an `asyncio.Future` is one."""

    def __await__(self) -> Generator[Any, None, None]: ...
    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...


class Loop(Protocol):
    """The event loop as the runtime sees it."""

    clean: contextvars.Context
    """The context variables of the task that started the system; every task of the runtime begins with them."""

    def waiter(self) -> Waiter:
        """Make a waiter."""
        ...

    def current_task(self) -> object | None:
        """Return the running task."""
        ...

    def spawn(
        self,
        make: Callable[[], Coroutine[Any, Any, None]],
        label: Callable[[], str],
        context: contextvars.Context | None = None,
    ) -> None:
        """Run ``make()`` in a task of its own, below no cancel scope, in ``context`` or a copy of ``clean``.

        It must not raise. ``label`` gives the name that the task shows in a task dump, whenever asked.
        """
        ...

    async def breathe(self) -> None:
        """Let every other task that can run do so once. Not a cancellation point on trio."""
        ...


class _NamedTask(asyncio.Task[None]):
    """A task whose name is worked out when somebody looks: naming each turn would cost 150 ns a message."""

    label: Callable[[], str]

    def get_name(self) -> str:
        return self.label()


@types.coroutine
def _yield_once() -> Generator[None, None, None]:
    yield


class AsyncioLoop:
    """asyncio, plain: futures and tasks."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()  # a loop keeps only weak references
        self.clean = contextvars.copy_context()

    def waiter(self) -> Waiter:
        """Make a future."""
        return self._loop.create_future()

    def current_task(self) -> object | None:
        """Return the running task."""
        return asyncio.current_task(self._loop)

    def spawn(
        self,
        make: Callable[[], Coroutine[Any, Any, None]],
        label: Callable[[], str],
        context: contextvars.Context | None = None,
    ) -> None:
        """Start a task."""
        task = _NamedTask(make(), loop=self._loop, context=context or self.clean.copy())
        task.label = label
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def breathe(self) -> None:
        """Go once around the loop."""
        await _yield_once()


def running_loop() -> Loop:
    """Return the loop that runs here; outside of one it is a `RuntimeError`."""
    if "trio" in sys.modules:
        from papyra._runtime import trio_loop

        if trio_loop.is_running():
            return trio_loop.TrioLoop()
    try:
        return AsyncioLoop()
    except RuntimeError:
        raise RuntimeError("no event loop runs here: start an actor system inside anyio.run(...)") from None
