"""A limit of the event loop's time that all clients take together, whatever they ask."""

from __future__ import annotations

import time
import types
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from papyra_contrib.admin._protocol import MAX_CLIENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

__all__ = ["Budget", "ClientBudget", "in_thread", "metered"]

_T = TypeVar("_T")

MAX_PAUSE_SECONDS = 8.0  # the tools wait 10 s for an answer
CLIENT_BURST_SECONDS = 0.02


class Budget:
    """Time of the event loop that may be used. It grows by `share` of the time that passes, up to `burst`.

    A debt that would take longer than `MAX_PAUSE_SECONDS` to pay back is forgiven. So clients may take more
    than their share if one answer takes over 0.16 s, as in systems of some 100,000 actors.
    """

    def __init__(self, share: float, burst: float) -> None:
        self.share = share
        self._burst = burst
        self._left = burst
        self._at = time.monotonic()
        self._queue = anyio.Lock()

    def spend(self, seconds: float) -> None:
        """Note that time of the loop was used."""
        self._left = max(self.left() - seconds, -MAX_PAUSE_SECONDS * self.share)

    def left(self) -> float:
        """Return the seconds that are left. A debt is below 0."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self.share, self._burst)
        self._at = now
        return self._left

    def pause(self) -> float:
        """Return how many seconds to wait until there is no debt."""
        return max(0.0, -self.left() / self.share)

    async def turn(self) -> None:
        """Wait until the debt of this moment is paid back; first come, first served.

        Meanwhile others may use time, and the wait itself uses some: that is for the next one to wait for.
        """
        async with self._queue:
            await anyio.sleep(self.pause())


class ClientBudget(Budget):
    """The part of one client in the budget of all.

    A client that asks little has some of it left, and does not wait for greedy clients.
    """

    def __init__(self, whole: Budget) -> None:
        super().__init__(whole.share / MAX_CLIENTS, CLIENT_BURST_SECONDS)
        self._whole = whole

    def spend(self, seconds: float) -> None:
        self._left = self.left() - seconds  # no debt is forgiven: the parts together never exceed the whole
        self._whole.spend(seconds)

    async def turn(self) -> None:
        if self.pause() > 0:
            await self._whole.turn()


_budget: ContextVar[Budget] = ContextVar("papyra_admin_budget")


async def in_thread(function: Callable[[], _T]) -> _T:
    """Run a function in a thread, and spend its time: it competes with the event loop for the interpreter."""

    def measured() -> tuple[_T, float]:
        began = time.thread_time()
        result = function()
        return result, time.thread_time() - began

    result, seconds = await anyio.to_thread.run_sync(measured)
    if (budget := _budget.get(None)) is not None:
        budget.spend(seconds)
    return result


@types.coroutine
def metered(coroutine: Coroutine[Any, Any, _T], budget: Budget) -> Generator[Any, Any, _T]:
    """Run a coroutine, and spend the processor time of each of its steps on the event loop."""
    _budget.set(budget)
    step: Callable[[Any], Any] = coroutine.send
    argument: Any = None
    while True:
        began = time.thread_time()
        try:
            awaited = step(argument)
        except StopIteration as end:
            result: _T = end.value
            return result
        finally:
            budget.spend(time.thread_time() - began)
        try:
            argument, step = (yield awaited), coroutine.send
        except BaseException as error:  # noqa: BLE001 - any error: the coroutine handles it, or ends with it
            argument, step = error, coroutine.throw
