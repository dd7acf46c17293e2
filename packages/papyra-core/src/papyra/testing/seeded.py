"""Run a test in an order drawn from a seed: same seed, same interleaving.

The dispatcher takes cells from anywhere in its queue, gives them turns of any length and pauses between
them as a random generator says, and time is virtual: where nothing can run, the clock jumps to the next
timer. So a scenario that sleeps for minutes takes a millisecond, thousands of orders can be tried in
seconds, and one that fails can be run again. The idea is that of FoundationDB's simulation.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio

from papyra._runtime.runtime import SCHEDULE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["SimulationDeadlock", "explore", "run_seeded"]

_T = TypeVar("_T")

_PATIENCE = 5.0  # real seconds to wait for a thread or a socket before nothing is taken to be left
_END_OF_TIME = 1e9  # virtual seconds on trio: nobody sets a timer that far off


class SimulationDeadlock(AssertionError):
    """Nothing can happen any more, and the test has not ended."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for time to pass, let it have passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None and timeout > 0:
            self.now += timeout
            return ready
        ready = super().select(_PATIENCE)
        if not ready:
            raise SimulationDeadlock("every task waits, and no timer is set: nothing can happen any more")
        return ready


def run_seeded(
    seed: int,
    main: Callable[..., Awaitable[_T]],
    *args: Any,
    backend: Literal["asyncio", "trio"] = "asyncio",
) -> _T:
    """Run ``main(*args)`` in virtual time, with the interleaving that ``seed`` stands for.

    The order is that of the actors; on trio also that of ``main``'s own tasks, which on asyncio take turns as ever.
    Deterministic as long as ``main`` uses no threads, sockets or other sources of chance. A seed stands for
    an interleaving of one version of Papyra on one backend, not of all.
    """
    token = SCHEDULE.set(random.Random(seed))  # noqa: S311 - repeatable on purpose
    try:
        return _on_asyncio(main, args) if backend == "asyncio" else _on_trio(seed, main, args)
    finally:
        SCHEDULE.reset(token)


def _on_asyncio(main: Callable[..., Awaitable[_T]], args: tuple[Any, ...]) -> _T:
    def make_loop() -> asyncio.AbstractEventLoop:
        selector = _JumpingSelector()
        loop = asyncio.SelectorEventLoop(selector)
        loop.time = lambda: selector.now  # type: ignore[method-assign]  # documented as the loop's clock, and the one place it is read from
        return loop

    return anyio.run(main, *args, backend="asyncio", backend_options={"loop_factory": make_loop})


def _on_trio(seed: int, main: Callable[..., Awaitable[_T]], args: tuple[Any, ...]) -> _T:
    import trio
    import trio._core._run as scheduler
    import trio.testing

    async def bounded() -> _T:
        # The clock jumps to the next timer, and to this one if there is no other.
        with trio.move_on_after(_END_OF_TIME):
            return await main(*args)
        raise SimulationDeadlock("every task waits, and no timer is set: nothing can happen any more")

    chance = scheduler._r
    scheduler._r = random.Random(seed)  # noqa: S311 - repeatable on purpose
    try:
        # Not anyio.run: that of anyio 4.7 drops its backend_options, and the clock with them.
        return trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        scheduler._r = chance


def explore(
    main: Callable[..., Awaitable[object]],
    *args: Any,
    seeds: Iterable[int] = range(1000),
    backend: Literal["asyncio", "trio"] = "asyncio",
) -> None:
    """Run ``main(*args)`` once with each seed; an error is noted with its seed and raised."""
    for seed in seeds:
        try:
            run_seeded(seed, main, *args, backend=backend)
        except BaseException as error:
            error.add_note(
                f"with seed {seed}; run it again with run_seeded({seed}, ..., backend={backend!r})"
            )
            raise
