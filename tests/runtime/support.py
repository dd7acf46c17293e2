"""What many tests of the runtime use: actors that follow instructions, and ways to wait for a state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorRef, ActorSystem, Strategy, SupervisionPolicy

RESTART = SupervisionPolicy(Strategy.RESTART)
STOP = SupervisionPolicy(Strategy.STOP)
ESCALATE = SupervisionPolicy(Strategy.ESCALATE)

Loop = Literal["asyncio", "trio"]
both_loops = pytest.mark.parametrize("backend", ["asyncio", "trio"])
"""For a plain function that runs an event loop itself."""


def seeded(count: int) -> Callable[[Any], Any]:
    """Run a test with the first seeds, as ``seeds``, on both loops; with a thousand of them in the sweep."""
    many = pytest.param(range(1_000), id="1000", marks=pytest.mark.sweep)
    seeds = pytest.mark.parametrize("seeds", [pytest.param(range(count), id=str(count)), many])
    return lambda test: both_loops(seeds(test))


class Boom(Exception):
    """What fails in a test."""


class Echo(Actor):
    """Return each message; raise a `RuntimeError` for "boom"."""

    async def receive(self, message: Any) -> Any:
        if message == "boom":
            raise RuntimeError("boom")
        return message


class Runs(Actor):
    """Run a message that is a function with the actor; note and return any other one."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log: list[Any] = [] if log is None else log

    async def receive(self, message: Any) -> Any:
        if callable(message):
            result = message(self)
            return await result if hasattr(result, "__await__") else result
        self.log.append(message)
        return message


class SlowStart(Actor):
    """Note when ``on_start`` has ended, and each message."""

    def __init__(self, order: list[str]) -> None:
        self.order = order

    async def on_start(self) -> None:
        await go_round()
        self.order.append("on_start")

    async def receive(self, message: str) -> None:
        self.order.append(message)


class Gated(Actor):
    """Keep what it gets; handle nothing before ``gate`` is open."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.busy = anyio.Event()
        self.got: list[Any] = []

    async def receive(self, message: Any) -> Any:
        self.busy.set()
        if not self.gate.is_set():  # once open, there is no await at all
            await self.gate.wait()
        self.got.append(message)
        return message


async def stuck(_actor: Any) -> None:
    """Be a message for `Runs` that never ends."""
    await anyio.sleep_forever()


def stuck_after(inside: anyio.Event) -> Callable[[Any], Awaitable[None]]:
    """Return a message for `Runs` that never ends, and sets an event first."""

    async def stuck(_actor: Any) -> None:
        inside.set()
        await anyio.sleep_forever()

    return stuck


async def nothing(_actor: Any) -> str:
    """Be a message for `Runs` that does nothing."""
    return "answer"


async def boom(_actor: Any) -> None:
    """Be a message for `Runs` that fails."""
    raise ValueError("boom")


@asynccontextmanager
async def running(*, seconds: float = 60, **options: Any) -> AsyncIterator[ActorSystem]:
    """Run a system; fail after a time that only a hang reaches.

    No shutdown timeout ends a hang before that.
    """
    options.setdefault("shutdown_timeout", 2 * seconds)
    with anyio.fail_after(seconds):
        async with ActorSystem(**options) as system:
            try:
                yield system
            except AssertionError:  # show it at once: what it left behind may never stop
                await system.aclose(deadline=1)
                raise


async def begin(ref: ActorRef[Any, Any], message: Any) -> None:
    """Tell an actor that is idle a message, and wait until it handles it: its mailbox is empty then."""
    await ref.tell(message)
    await wait_until(lambda: ref._cell.box is not None and not ref._cell.box)


async def go_round(times: int = 20) -> None:
    """Let everything that can run do so."""
    for _ in range(times):
        await anyio.lowlevel.checkpoint()


class Turns:
    """Counts how often the event loop goes round."""

    count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await anyio.lowlevel.checkpoint()


async def wait_until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; wait at rest if it is time and no other task that brings it about."""
    for _ in range(500):
        if condition():
            return
        await anyio.lowlevel.checkpoint()
    while not condition():  # noqa: ASYNC110 - any condition, and nobody who signals it
        await anyio.sleep(0.001)


def same(actor: Gated) -> Gated:
    return actor


def letters(system: ActorSystem) -> list[tuple[object, bool]]:
    return [(letter.message, letter.expects_reply) for letter in system.dead_letters.messages]
