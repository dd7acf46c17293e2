"""Tasks and timers for a part of a running program that is not an actor, on asyncio and trio alike."""

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
    """Runs tasks below no cancel scope, and calls at later times, on the event loop that runs here.

    A task that somebody cancels from outside (on asyncio anybody can) is started again, unless the event
    loop ends. What a task raises is logged. `close` ends the timers; tasks end by themselves.
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
        """Make something to await once, woken by ``set_result(None)``."""
        return self._loop.waiter()

    def after(self, delay: float, call: Callable[[], object]) -> Timer:
        """Make ``call`` after ``delay`` seconds; it must not raise."""
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
        """Make no call any more, and start no cancelled task again."""
        self.closed = True
        self._timers.close()


def _log(error: BaseException) -> None:
    log_error("a background task of the cluster raised", error=error)
