"""Wait in an event loop for another thread, on asyncio and trio.

anyio offers this too, but its event takes some microseconds more than the loop's own future, and
`anyio.from_thread.run_sync` makes the thread wait for the loop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Call: TypeAlias = Callable[[Callable[[], object]], object]
    Waiter: TypeAlias = "_Asyncio | _Trio"

__all__ = ["new_waiter"]


def new_waiter() -> Waiter:
    """Return a waiter for the running task.

    Its ``call`` runs a function in the task's loop, from any thread, and raises `RuntimeError` once that loop
    is closed. Its ``wake`` ends the wait, even one that has not begun. Call it in the loop.
    """
    trio = _trio()
    return _Asyncio() if trio is None else _Trio(trio)


def _trio() -> Any:
    """Return the trio module if one of its tasks runs in this thread."""
    trio: Any = sys.modules.get("trio")
    # Ask for a task, not only a run: as a guest, trio shares the thread with tasks of asyncio. The attributes
    # may be missing while another thread imports trio.
    in_trio_task = getattr(getattr(trio, "lowlevel", None), "in_trio_task", None)
    return trio if in_trio_task is not None and in_trio_task() else None


class _Asyncio:
    __slots__ = ("_future", "call")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.call: Call = loop.call_soon_threadsafe
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        if not self._future.done():  # cancelling the task has cancelled the future
            self._future.set_result(None)

    async def wait(self) -> None:
        await self._future


class _Trio:
    __slots__ = ("_event", "call")

    def __init__(self, trio: Any) -> None:
        self.call: Call = trio.lowlevel.current_trio_token().run_sync_soon
        self._event = trio.Event()

    def wake(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
