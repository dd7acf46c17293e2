"""Promise 49: ``aclose(deadline=)`` returns in time, whatever actors, hooks and store do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import anyio
import pytest

from papyra import Actor, ActorSystem, SystemHooks
from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import PersistedRecord
from papyra.testing import run_seeded

DEADLINE = 10.0


class Stuck(Actor):
    """Hangs where a message says so."""

    def __init__(self, where: str) -> None:
        self.where = where

    async def receive(self, message: Any) -> None:
        if self.where == "receive":
            await anyio.sleep_forever()
        if self.where == "ignores":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(10_000)
        if self.where == "background":
            self.context.start_soon(self.ignore)
        if self.where == "owes":
            self.kept = self.context.reply_later()
        if self.where == "mailbox":
            await anyio.sleep(1)

    async def ignore(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(10_000)

    async def on_stop(self) -> None:
        if self.where == "on_stop":
            await anyio.sleep_forever()


class StuckStore(InMemoryPersistence):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        if self.where == "store":
            await anyio.sleep_forever()
        await super().record_batch(records)

    async def aclose(self) -> None:
        if self.where == "store closes":
            await anyio.sleep_forever()
        await super().aclose()


PLACES = [
    "nowhere",
    "receive",
    "ignores",
    "background",
    "owes",
    "mailbox",
    "on_stop",
    "store",
    "store closes",
    "hook",
]


async def close_in_time(where: str, how_many: int) -> float:
    async def hook(_event: Any) -> None:
        if where == "hook":
            await anyio.sleep_forever()

    system = ActorSystem(
        persistence=StuckStore(where), hooks=SystemHooks(on_event=hook), shutdown_timeout=1_000
    )
    await system.start()
    for _ in range(how_many):
        ref = system.spawn(Stuck, where)
        for _ in range(50):
            ref.tell_nowait("message")
    await anyio.sleep(0.5)
    began = anyio.current_time()
    await system.aclose(deadline=DEADLINE)
    return anyio.current_time() - began


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("where", PLACES)
def test_p49_it_returns_within_the_deadline_and_a_second(
    where: str, backend: Literal["asyncio", "trio"]
) -> None:
    for seed in range(5):
        took = run_seeded(seed, close_in_time, where, 3, backend=backend)
        assert took <= DEADLINE + 1, (seed, took)
        if where == "nowhere":
            assert took < 1


@pytest.mark.parametrize("deadline", [-1, math.nan, math.inf])
async def test_p49_a_bad_deadline_is_a_value_error(deadline: float) -> None:
    async with ActorSystem() as system:
        with pytest.raises(ValueError, match="at least 0 seconds"):
            await system.aclose(deadline=deadline)


async def test_p49_no_time_at_all() -> None:
    with anyio.fail_after(10):
        system = ActorSystem()
        await system.start()
        await system.spawn(Stuck, "receive").tell("message")
        await system.aclose(deadline=0)
