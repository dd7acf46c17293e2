"""The phases of an orderly stop."""

from __future__ import annotations

import logging
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import anyio

from papyra.exceptions import SystemNotRunning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra import ActorSystem

__all__ = ["CLOSE", "DRAIN", "UNBIND", "Phase", "Shutdown"]

_logger = logging.getLogger("papyra")

RESERVED_SHARE = 0.4  # of the deadline, which the first phases leave to the actors


class Phase(StrEnum):
    """When a task of a `Shutdown` runs."""

    UNBIND = "unbind"
    """First: take in nothing new. Close listeners, leave the load balancer."""
    DRAIN = "drain"
    """Then: finish what came in. The actors stop after this phase."""
    CLOSE = "close"
    """Last: the actors have stopped. Close what they used: pools, journals."""


UNBIND = Phase.UNBIND
DRAIN = Phase.DRAIN
CLOSE = Phase.CLOSE


class Shutdown:
    """The orderly stop of one system, in phases; the idea is Akka's coordinated shutdown.

    The tasks of a phase run together, each within its timeout or within what is left of ``deadline``,
    whichever is less. A task that fails or takes too long is logged and stops nothing.
    """

    _of: ClassVar[WeakKeyDictionary[ActorSystem, Shutdown]] = WeakKeyDictionary()

    def __init__(self, system: ActorSystem, *, deadline: float = 25.0) -> None:
        if not deadline > 0:
            raise ValueError(f"deadline must be more than 0 seconds, not {deadline!r}")
        self.system = system
        self.deadline = deadline
        self._tasks: dict[Phase, list[tuple[Callable[[], Awaitable[Any] | Any], float]]] = {
            phase: [] for phase in Phase
        }
        self._ended: anyio.Event | None = None
        self._status = 0

    @classmethod
    def of(cls, system: ActorSystem) -> Shutdown:
        """Return the `Shutdown` of a system, which `run` uses, too."""
        shutdown = cls._of.get(system)
        if shutdown is None:
            shutdown = cls._of[system] = cls(system)
        return shutdown

    def add(
        self, phase: Phase | str, fn: Callable[[], Awaitable[Any] | Any], *, timeout: float = 5.0
    ) -> None:
        """Run ``fn()``, plain or async, in a phase, for at most ``timeout`` seconds.

        Raises `ValueError` for an unknown phase and `RuntimeError` once the stop has begun.
        """
        if not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
        if not callable(fn):
            raise TypeError(f"expected a function without arguments, plain or async, not {fn!r}")
        if self._ended is not None:
            raise RuntimeError("the shutdown has begun, so nothing can be added to it. Add tasks before it.")
        self._tasks[Phase(phase)].append((fn, timeout))

    async def run(self, reason: str) -> int:
        """Stop in order and return the exit status: 0, or 1 if something was cut because its time was over.

        A second call only waits for the first one. If the caller is cancelled, all running code is cancelled;
        ``on_stop`` still runs, and the last facts are written.
        """
        return await self.run_around(reason, None)

    async def run_around(self, reason: str, end_main: Callable[[float], Awaitable[bool]] | None) -> int:
        """Do what `run` does; ``end_main(seconds)`` ends the program's main function before the actors."""
        if self._ended is not None:
            await self._ended.wait()
            return self._status
        self._ended = anyio.Event()
        self._status = 1  # until it has ended in order
        try:
            self._status = int(not await self._run(reason, end_main))
        finally:
            self._ended.set()
        return self._status

    async def _run(self, reason: str, end_main: Callable[[float], Awaitable[bool]] | None) -> bool:
        end = anyio.current_time() + self.deadline
        reserve = self.deadline * RESERVED_SHARE
        _logger.info("%s: stops within %g s", reason, self.deadline)
        with suppress(SystemNotRunning):  # it has ended already; the phases still run
            self.system.audit()
        whole = True
        try:
            whole &= await self._run_phase(Phase.UNBIND, end - reserve)
            whole &= await self._run_phase(Phase.DRAIN, end - reserve)
            if end_main is not None:
                whole &= await end_main(max(0.1, end - reserve - anyio.current_time()))
        finally:
            whole &= await self._close_system(end)
        return await self._run_phase(Phase.CLOSE, end) and whole

    async def _close_system(self, end: float) -> bool:
        """Close the system; return whether nothing was cut."""
        await self.system.aclose(deadline=max(0.1, end - anyio.current_time()))
        panel = self.system.control_panel()
        return not panel["forced"]

    async def _run_phase(self, phase: Phase, end: float) -> bool:
        results: list[bool] = []

        async def run_one(fn: Callable[[], Awaitable[Any] | Any], timeout: float) -> None:
            results.append(await _run_task(phase, fn, min(timeout, max(0.0, end - anyio.current_time()))))

        async with anyio.create_task_group() as group:
            for fn, timeout in self._tasks[phase]:
                group.start_soon(run_one, fn, timeout)
        return all(results)


async def _run_task(phase: Phase, fn: Callable[[], Awaitable[Any] | Any], seconds: float) -> bool:
    name = getattr(fn, "__qualname__", None) or type(fn).__name__
    with anyio.move_on_after(seconds) as scope:
        try:
            result = fn()
            if hasattr(result, "__await__"):
                await result
        except Exception:  # a task is a user's function: it may raise anything, and the stop continues
            _logger.exception("shutdown, phase %s: %s failed", phase, name)
    if scope.cancelled_caught:
        _logger.error("shutdown, phase %s: %s did not end within %g s", phase, name, seconds)
        return False
    return True
