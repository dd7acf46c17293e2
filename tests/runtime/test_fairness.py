"""Guarantee 6: nobody starves; and there are always enough workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor

from .support import Echo, Turns, running


@asynccontextmanager
async def others_go_on() -> AsyncIterator[None]:
    """Fail unless the event loop goes round ten times meanwhile."""
    turns = Turns()
    async with anyio.create_task_group() as group:
        group.start_soon(turns.run)
        yield
        assert turns.count >= 10
        group.cancel_scope.cancel()


@pytest.mark.parametrize("capacity", [1, 1024, None])
async def test_g06_a_tell_loop_lets_other_tasks_go_on(capacity: int | None) -> None:
    async with running() as system:
        ref = system.spawn(Echo, mailbox_capacity=capacity)
        async with others_go_on():
            for number in range(2_000 if capacity == 1 else 20_000):  # one waits for each turn of the other
                await ref.tell(number)


@pytest.mark.parametrize("started", [False, True])
async def test_g06_a_loop_of_deferred_calls_lets_other_tasks_go_on(started: bool) -> None:
    async with running() as system:
        ref = system.spawn(Echo, mailbox_capacity=None)
        if started:
            await ref.ask(0)
        async with others_go_on():
            for number in range(20_000):
                await ref.proxy().receive.defer(number)


async def test_g06_a_tell_loop_to_started_actors_lets_other_tasks_go_on() -> None:
    async with running() as system:
        refs = [system.spawn(Echo, mailbox_capacity=None) for _ in range(10)]
        for ref in refs:
            await ref.ask(0)
        async with others_go_on():
            for number in range(20_000):
                await refs[number % 10].tell(number)


async def test_g06_a_tell_loop_inside_an_actor_lets_other_tasks_go_on() -> None:
    progress = Turns()

    class Talks(Actor):
        async def receive(self, message: int) -> int:
            for number in range(message):
                await sink.tell(number)
            return progress.count

    async with running() as system, anyio.create_task_group() as group:
        sink = system.spawn(Echo, mailbox_capacity=None)
        group.start_soon(progress.run)
        assert await system.spawn(Talks).ask(20_000) >= 10
        group.cancel_scope.cancel()


async def test_g06_an_ask_loop_lets_other_tasks_go_on() -> None:
    async with running() as system:
        ref = system.spawn(Echo)
        async with others_go_on():
            for number in range(2_000):
                assert await ref.ask(number) == number


async def test_g06_two_actors_that_tell_each_other_for_ever_let_others_go_on() -> None:
    rallies = 0

    class Player(Actor):
        async def receive(self, message: str) -> None:
            nonlocal rallies
            rallies += 1
            await players[rallies % 2].tell("ball")

    async with running(shutdown_timeout=0.05) as system:
        players = [system.spawn(Player) for _ in range(2)]
        echo = system.spawn(Echo)
        async with others_go_on():
            await players[0].tell("ball")
            for number in range(50):
                assert await echo.ask(number) == number
            assert rallies > 50


async def test_g06_an_actor_that_always_tells_itself_lets_others_go_on() -> None:
    count = 0

    class Spins(Actor):
        async def receive(self, message: str) -> None:
            nonlocal count
            count += 1
            await self.context.self_ref.tell("again")

    async with running(shutdown_timeout=0.05) as system:
        spins = system.spawn(Spins)
        echo = system.spawn(Echo)
        await spins.tell("go")
        for number in range(50):
            assert await echo.ask(number) == number
            await anyio.lowlevel.checkpoint()
        assert count > 50


async def test_g06_a_flooded_actor_does_not_starve_the_others() -> None:
    handled = 0
    gate = anyio.Event()

    class Sink(Actor):
        async def receive(self, message: int) -> None:
            nonlocal handled
            if not gate.is_set():
                await gate.wait()
            handled += 1

    async with running(shutdown_timeout=0.05) as system:
        flooded = system.spawn(Sink, mailbox_capacity=None)
        echo = system.spawn(Echo)
        for number in range(50_000):
            await flooded.tell(number)
        assert handled == 0
        gate.set()
        assert await echo.ask("quick") == "quick"
        assert handled < 25_000, "the answer came long before the flood was worked off"
        await system.stop(flooded, timeout=0)


async def test_g06_a_flooded_actor_does_not_starve_the_event_loop() -> None:
    progress = Turns()

    gate = anyio.Event()

    class Sink(Actor):
        async def receive(self, message: int) -> None:
            if not gate.is_set():
                await gate.wait()
            sum(range(100))

    async with running() as system, anyio.create_task_group() as group:
        ref = system.spawn(Sink, mailbox_capacity=None)
        for number in range(50_000):
            await ref.tell(number)
        group.start_soon(progress.run)
        gate.set()
        await anyio.lowlevel.checkpoint()
        before = progress.count
        await ref.ask(0)
        assert progress.count - before >= 3
        group.cancel_scope.cancel()


async def test_g06_actors_that_all_have_mail_take_turns() -> None:
    order: list[int] = []

    class Notes(Actor):
        async def receive(self, message: int) -> None:
            order.append(message)

    async with running() as system:
        refs = [system.spawn(Notes, mailbox_capacity=None) for _ in range(4)]
        for _ in range(2_000):
            for number, ref in enumerate(refs):
                await ref.tell(number)
    for number in range(4):
        assert order.count(number) == 2_000
        assert order.index(number) < 1_000, "each one had a turn early on"


async def test_g06_a_thousand_actors_suspended_at_once_all_answer() -> None:
    inside = 0
    all_in = anyio.Event()
    size = 1_000

    class Waits(Actor):
        async def receive(self, message: int) -> int:
            nonlocal inside
            inside += 1
            if inside == size:
                all_in.set()
            await all_in.wait()
            return message

    answers: list[int] = []
    async with running() as system, anyio.create_task_group() as group:
        refs = [system.spawn(Waits) for _ in range(size)]

        async def ask(number: int) -> None:
            answers.append(await refs[number].ask(number))

        for number in range(size):
            group.start_soon(ask, number)
    assert sorted(answers) == list(range(size))


async def test_g06_a_chain_of_a_thousand_asks_needs_no_more_than_there_is() -> None:
    class Link(Actor):
        async def receive(self, message: int) -> int:
            if message == 0:
                return 0
            return 1 + await refs[message - 1].ask(message - 1)

    async with running() as system:
        refs = [system.spawn(Link) for _ in range(1_001)]
        assert await refs[1_000].ask(1_000) == 1_000


async def test_g06_suspended_actors_do_not_hold_up_the_others() -> None:
    gate = anyio.Event()

    class Waits(Actor):
        async def receive(self, message: Any) -> None:
            await gate.wait()

    async with running() as system:
        for _ in range(200):
            await system.spawn(Waits).tell(None)
        echo = system.spawn(Echo)
        for number in range(50):
            assert await echo.ask(number) == number
        assert await system.spawn(Echo).ask("new") == "new"
        gate.set()


async def test_g06_an_actor_that_blocks_in_on_start_or_on_stop_holds_up_nobody() -> None:
    gate = anyio.Event()

    class Slow(Actor):
        async def on_start(self) -> None:
            await gate.wait()

    class SlowToStop(Actor):
        async def on_stop(self) -> None:
            await gate.wait()

    async with running() as system, anyio.create_task_group() as group:
        for _ in range(50):
            system.spawn(Slow)
        stopping = [system.spawn(SlowToStop) for _ in range(50)]
        for ref in stopping:
            group.start_soon(system.stop, ref)
        assert await system.spawn(Echo).ask(1) == 1
        gate.set()
