"""Run a main function and its system until it returns or a signal asks for the end."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

import anyio

from papyra import ActorSystem
from papyra_contrib.running._shutdown import Shutdown
from papyra_contrib.running._signals import ReceivedSignals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["run", "run_until_signal"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(
    main: Callable[[ActorSystem], Awaitable[object]],
    *,
    system: ActorSystem | Callable[[], ActorSystem] | None = None,
    backend: str = "asyncio",
    signals: Iterable[int] = SIGNALS,
    deadline: float = 25.0,
) -> int:
    """Run ``await main(system)`` in an event loop and return the exit status of the process.

    ``system`` is a system or a function that makes one; without it, one from the settings. The system is
    started before ``main`` and closed after it. The first signal begins `Shutdown.run`: an audit goes on
    record, the phases run, ``main`` is cancelled after ``DRAIN``, then the actors stop, all within
    ``deadline`` seconds. The second one cancels whatever still runs; ``on_stop`` and the last facts still
    happen. The third one kills.

    Returns 0 after an orderly stop and 1 if something did not end in its time. What ``main`` raises is raised
    here, after the system has been closed. Call it in the main thread, or with ``signals=()``.
    """
    if not callable(main):
        raise TypeError(f"main must be an async function that takes the system, not {main!r}")
    with ReceivedSignals(signals) as received:
        try:
            return anyio.run(_serve, main, system, received, deadline, backend=backend)
        except KeyboardInterrupt:
            if received.count < 2:
                raise  # not by a signal that was received here
            return 1  # the second signal has interrupted an actor that computed


async def run_until_signal(
    system: ActorSystem, *, signals: Iterable[int] = SIGNALS, deadline: float | None = None
) -> int:
    """Wait for a signal, then stop ``system`` as `run` does, and return the exit status.

    For a program that runs an event loop of its own; call it in the main thread.
    """
    shutdown = Shutdown.of(system)
    if deadline is not None:
        shutdown.deadline = deadline
    with ReceivedSignals(signals) as received:
        await received.wait(1)
        return await _stop(shutdown, received, received.reason, None)


async def _serve(
    main: Callable[[ActorSystem], Awaitable[object]],
    system: ActorSystem | Callable[[], ActorSystem] | None,
    received: ReceivedSignals,
    deadline: float,
) -> int:
    if not isinstance(system, ActorSystem):
        system = ActorSystem() if system is None else system()
    shutdown = Shutdown.of(system)
    shutdown.deadline = deadline
    program = _Program(main, system)
    status = 1
    async with system, anyio.create_task_group() as group:
        group.start_soon(program.run)
        await _first_of(partial(received.wait, 1), program.ended.wait)
        reason = received.reason or "the main function ended"
        status = await _stop(shutdown, received, reason, program.end)
        group.cancel_scope.cancel()
    if program.error is not None:
        raise program.error
    return status


class _Program:
    """The main function, which runs beside the signals."""

    def __init__(self, main: Callable[[ActorSystem], Awaitable[object]], system: ActorSystem) -> None:
        self._main = main
        self._system = system
        self._scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self.error: BaseException | None = None

    async def run(self) -> None:
        try:
            with self._scope:
                await self._main(self._system)
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 - raised after the close
            self.error = error
        finally:
            self.ended.set()

    async def end(self, seconds: float) -> bool:
        """Cancel the main function and wait for its end; return whether it has ended in time."""
        self._scope.cancel()
        with anyio.move_on_after(seconds):
            await self.ended.wait()
        return self.ended.is_set()


async def _stop(
    shutdown: Shutdown,
    received: ReceivedSignals,
    reason: str,
    end_main: Callable[[float], Awaitable[bool]] | None,
) -> int:
    """Run the shutdown; cancel it at the second signal."""
    status = 1

    async def cancel_at_second_signal(scope: anyio.CancelScope) -> None:
        await received.wait(2)
        scope.cancel()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(cancel_at_second_signal, scope)
            status = await shutdown.run_around(reason, end_main)
        group.cancel_scope.cancel()
    return status


async def _first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of several waits is over."""
    async with anyio.create_task_group() as group:

        async def run(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            group.cancel_scope.cancel()

        for wait in waits:
            group.start_soon(run, wait)
