"""Guarantee 13: the start-up checks."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import ActorSystem

from .lives import Recording
from .support import Runs, go_round, nothing


async def test_g13_a_start_that_is_cancelled_or_fails_starts_nothing() -> None:
    from papyra.persistence.startup import PersistenceStartupMode

    gate = anyio.Event()

    class Slow(Recording):
        async def scan(self) -> Any:
            await gate.wait()
            return await super().scan()

    with anyio.fail_after(5):
        system = ActorSystem(persistence=Slow(), persistence_startup=PersistenceStartupMode.FAIL_ON_ANOMALY)
        with anyio.move_on_after(0.01) as scope:
            await system.start()
        assert scope.cancelled_caught
        with pytest.raises(RuntimeError, match="not started"):
            system.spawn(Runs)
        gate.set()
        async with system:
            assert await system.spawn(Runs).ask(nothing) == "answer"


async def test_g13_aclose_during_the_start_wins() -> None:
    from papyra.persistence.startup import PersistenceStartupMode

    gate, scanning = anyio.Event(), anyio.Event()

    class Slow(Recording):
        async def scan(self) -> Any:
            report = await super().scan()
            scanning.set()
            await gate.wait()
            return report

    errors: list[Exception] = []
    with anyio.fail_after(5):
        system = ActorSystem(persistence=Slow(), persistence_startup=PersistenceStartupMode.FAIL_ON_ANOMALY)

        async def start() -> None:
            try:
                await system.start()
            except RuntimeError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(start)
            await scanning.wait()
            group.start_soon(system.aclose)
            await go_round()
            gate.set()
        with pytest.raises(RuntimeError, match="closed"):
            system.spawn(Runs)
