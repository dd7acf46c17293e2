"""How much of the event loop's time the clients may take together, however many and whatever they do."""

from __future__ import annotations

import time
import types
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

__all__ = ["CLIENTS_SHARE", "DOOR_SHARE", "Budget", "in_thread", "metered"]

_T = TypeVar("_T")

CLIENTS_SHARE = 0.016  # of the loop's time, for all clients together
DOOR_SHARE = 0.003  # of the loop's time, for accepting and refusing connections
BURST_SECONDS = 0.02
MAX_DEBT_SECONDS = 0.05
MAX_PAUSE_SECONDS = 8.0  # the tools wait 10 s for an answer


class Budget:
    """Time of the event loop that may be used: it grows by a share of the time that passes.

    It never has more than `BURST_SECONDS`, nor a debt of more than `MAX_DEBT_SECONDS`.
    """

    def __init__(self) -> None:
        self._left = BURST_SECONDS
        self._at = time.monotonic()

    def spend(self, seconds: float) -> None:
        """Note that time of the loop was used."""
        self._left = max(self._left - seconds, -MAX_DEBT_SECONDS)

    def pause(self, share: float) -> float:
        """Return how many seconds to wait until nothing is owed, if it grows by ``share`` in a second."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * share, BURST_SECONDS)
        self._at = now
        return min(max(0.0, -self._left / share), MAX_PAUSE_SECONDS)


_budget: ContextVar[Budget] = ContextVar("papyra_admin_budget")


async def in_thread(function: Callable[[], _T]) -> _T:
    """Run a function in a thread; what it computes holds up the event loop too, and is on the budget."""

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
        except BaseException as error:  # noqa: BLE001 - of any kind: the coroutine handles it, or ends with it
            argument, step = error, coroutine.throw
