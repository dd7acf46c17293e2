"""Guarantee 4: messages that are left over."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorStopped, DeadLetter

from .support import Gated, go_round, letters, running, wait_until


async def test_g04_queued_messages_become_dead_letters_in_order() -> None:
    go = anyio.Event()

    class Stops(Actor):
        async def receive(self, message: int) -> None:
            await go.wait()
            if message == 2:
                self.context.stop_self()

    heard: list[DeadLetter] = []
    async with running(on_dead_letter=heard.append) as system:
        ref = system.spawn(Stops)

        async def ask(message: int) -> None:
            with pytest.raises(ActorStopped):
                await ref.ask(message)

        async with anyio.create_task_group() as group:
            for number in range(8):
                if number == 5:
                    group.start_soon(ask, number)
                    await go_round()
                else:
                    await ref.tell(number)
            go.set()
        await system.stop(ref)
        expected = [(number, number == 5) for number in range(3, 8)]
        assert letters(system) == expected
        assert [(letter.message, letter.expects_reply) for letter in heard] == expected
        assert {letter.target for letter in heard} == {ref}
    assert letters(system) == expected


async def test_g04_a_failure_makes_dead_letters_of_the_rest_but_not_of_the_failed_message() -> None:
    go = anyio.Event()

    class Fails(Actor):
        async def receive(self, message: int) -> None:
            await go.wait()
            raise ValueError(message)

    async with running() as system:
        ref = system.spawn(Fails)
        for number in range(5):
            await ref.tell(number)
        go.set()
        await system.stop(ref)
    assert letters(system) == [(number, False) for number in range(1, 5)]


async def test_g04_a_restart_keeps_the_mailbox_and_does_not_repeat_the_failed_message() -> None:
    handled: list[tuple[int, int]] = []
    instances = 0
    go = anyio.Event()

    class Fails(Actor):
        def __init__(self) -> None:
            nonlocal instances
            instances += 1
            self.number = instances

        async def receive(self, message: int) -> None:
            await go.wait()
            handled.append((self.number, message))
            if message in (1, 3):
                raise ValueError(message)

    async with running() as system:
        ref = system.spawn(Fails, name="fails")
        for number in range(6):
            await ref.tell(number)
        go.set()
    assert handled == [(1, 0), (1, 1), (2, 2), (2, 3), (3, 4), (3, 5)]
    assert letters(system) == []


async def test_g04_a_forced_stop_makes_dead_letters_in_order() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor)
        for number in range(5):
            await ref.tell(number)
        await actor.busy.wait()
        await system.stop(ref, timeout=0)
        assert letters(system) == [(number, False) for number in range(1, 5)]
    assert letters(system) == [(number, False) for number in range(1, 5)]


async def test_g04_a_mailbox_of_an_actor_that_never_started() -> None:
    class Broken(Actor):
        async def on_start(self) -> None:
            await go_round()
            raise OSError

    async with running() as system:
        ref = system.spawn(Broken)
        await ref.tell(1)
        await ref.tell(2)
        await wait_until(lambda: system.ref_for(ref.address) is None)
        assert letters(system) == [(1, False), (2, False)]
