"""Tasks and timers for code that is not an actor, on asyncio and trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from papyra._runtime._eventloop import running_loop
from papyra._runtime.containment.log import log_error
from papyra._runtime.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.timers import Timer

__all__ = ["Background"]


class Background:
    """Runs tasks outside of any cancel scope, and timers, on the running event loop.

    A task that is cancelled from outside, as any code can do on asyncio, is started again, unless the event
    loop ends. An error of a task is logged. `close` ends the timers, but not the tasks.
    """

    def __init__(self) -> None:
        self._loop = running_loop()
        self._loop.fatal = _log
        self._timers = Timers(self._loop, None)
        self.closed = False

    def time(self) -> float:
        """Return the event loop's time in seconds."""
        return self._loop.time()

    def waiter(self) -> Waiter:
        """Make an object to await once. ``set_result(None)`` wakes it."""
        return self._loop.waiter()

    def after(self, delay: float, call: Callable[[], object]) -> Timer:
        """Call ``call()`` after ``delay`` seconds. It must not raise."""
        return self._timers.after(delay, call)

    def spawn(self, make: Callable[[], Coroutine[Any, Any, None]], label: str) -> None:
        """Run ``make()`` in a task of its own; see the class for cancellations."""
        self._loop.spawn(lambda: self._resumed(make, label), lambda: label)

    async def _resumed(self, make: Callable[[], Coroutine[Any, Any, None]], label: str) -> None:
        try:
            await make()
        except anyio.get_cancelled_exc_class():
            if self._loop.has_strays and not self.closed and not self._loop.ending():
                self.spawn(make, label)
            raise

    def close(self) -> None:
        """End the timers, and let cancelled tasks end."""
        self.closed = True
        self._timers.close()


def _log(error: BaseException) -> None:
    log_error("a background task of the cluster raised", error=error)
