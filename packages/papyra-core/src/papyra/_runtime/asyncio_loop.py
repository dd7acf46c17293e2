"""asyncio's side of `papyra._runtime.loops`; imported only where asyncio runs."""

from __future__ import annotations

import asyncio
import contextvars
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from papyra._runtime.loops import Waiter

__all__ = ["AsyncioLoop"]


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
        self.time = self._loop.time

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

    def uncancelled(self) -> bool:
        """Whether nobody called ``cancel()`` on the running task: it awaited something that was cancelled."""
        task = asyncio.current_task(self._loop)
        return task is not None and task.cancelling() == 0

    async def breathe(self) -> None:
        """Go once around the loop."""
        await _yield_once()
