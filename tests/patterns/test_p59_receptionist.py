"""Promise 59: one interface to find actors by the service they offer."""

from __future__ import annotations

import anyio
import pytest

from papyra import Actor, ActorStopped, ActorSystem
from papyra_contrib.receptionist import Listing, Receptionist, ServiceKey

from .support import until

ECHO = ServiceKey[str, str]("echo")


class Echo(Actor):
    async def receive(self, message: str) -> str:
        return message


class Subscriber(Actor):
    def __init__(self) -> None:
        self.listings: list[Listing[str, str]] = []
        self.gate = anyio.Event()

    async def receive(self, message: object) -> list[Listing[str, str]]:
        if isinstance(message, Listing):
            self.listings.append(message)
        elif message in ("block", "fail"):
            await self.gate.wait()
            if message == "fail":
                raise ValueError("as asked")
        return self.listings


async def test_p59_register_find_withdraw():
    async with ActorSystem() as system:
        receptionist = Receptionist.of(system)
        assert Receptionist.of(system) is receptionist
        first, second = system.spawn(Echo), system.spawn(Echo)
        await receptionist.register(ECHO, first)
        await receptionist.register(ECHO, second)
        await receptionist.register(ECHO, first)
        assert receptionist.find(ECHO) == (first, second)
        await receptionist.withdraw(ECHO, first)
        assert receptionist.find(ECHO) == (second,)
        assert await first.ask("hello") == "hello"  # a withdrawn actor lives on
        await system.stop(second)
        assert receptionist.find(ECHO) == ()
        with pytest.raises(ActorStopped):
            await receptionist.register(ECHO, second)


async def test_p59_a_subscriber_gets_a_listing_first_then_each_change():
    async with ActorSystem() as system:
        receptionist = Receptionist.of(system)
        keep = Subscriber()
        subscriber = system.spawn(lambda: keep)
        await receptionist.subscribe(ECHO, subscriber)
        await until(lambda: len(keep.listings) == 1)
        assert keep.listings[0] == Listing(ECHO, (), (), ())
        echo = system.spawn(Echo)
        await receptionist.register(ECHO, echo)
        await until(lambda: len(keep.listings) == 2)
        assert keep.listings[1] == Listing(ECHO, (echo,), (echo,), ())
        await system.stop(echo)
        await until(lambda: len(keep.listings) == 3)
        assert keep.listings[2] == Listing(ECHO, (), (), (echo,))
        await receptionist.unsubscribe(ECHO, subscriber)
        await receptionist.register(ECHO, system.spawn(Echo))
        await subscriber.ask("flush")
        assert len(keep.listings) == 3


async def test_p59_a_slow_subscriber_skips_to_the_newest():
    async with ActorSystem() as system:
        receptionist = Receptionist.of(system)
        keep = Subscriber()
        subscriber = system.spawn(lambda: keep, mailbox_capacity=1)
        await subscriber.tell("block")
        await subscriber.tell("full")
        await receptionist.subscribe(ECHO, subscriber)
        refs = [system.spawn(Echo) for _ in range(50)]
        for ref in refs:
            await receptionist.register(ECHO, ref)
        keep.gate.set()
        await until(lambda: keep.listings and len(keep.listings[-1].refs) == 50)
        assert len(keep.listings) <= 4
        added = [ref for listing in keep.listings for ref in listing.added]
        assert added == refs


async def test_p59_a_subscription_ends_with_the_actor_and_leaves_no_courier():
    async with ActorSystem() as system:
        receptionist = Receptionist.of(system)
        before = len(system.refs())
        subscriber = system.spawn(Subscriber)
        await receptionist.subscribe(ECHO, subscriber)
        await subscriber.ask("flush")
        await system.stop(subscriber)
        await until(lambda: len(system.refs()) == before)
        await receptionist.register(ECHO, system.spawn(Echo))
        assert system.dead_letters.count == 0


@pytest.mark.parametrize("full", [False, True])
async def test_p59_a_subscriber_that_fails_while_it_is_full_takes_its_courier_with_it(full: bool):
    async with ActorSystem() as system:
        receptionist = Receptionist.of(system)
        keep = Subscriber()
        subscriber = system.spawn(lambda: keep, mailbox_capacity=1)
        await subscriber.tell("fail")
        await anyio.wait_all_tasks_blocked()
        if full:
            await subscriber.tell("left over")
        before = system.refs()
        await receptionist.subscribe(ECHO, subscriber)
        await receptionist.subscribe(ECHO, subscriber)  # once is enough
        assert len(system.refs()) == len(before) + 1
        await anyio.wait_all_tasks_blocked()
        keep.gate.set()
        before.remove(subscriber)
        await until(lambda: system.refs() == before)
        crashed = {event.payload["type"] for event in system.events() if event.payload.get("error")}
        assert crashed == {f"{__name__}.Subscriber"}


async def test_p59_an_actor_that_is_not_registered_may_be_withdrawn():
    async with ActorSystem() as system:
        receptionist, echo = Receptionist.of(system), system.spawn(Echo)
        await receptionist.withdraw(ECHO, system.spawn(Echo))
        await receptionist.register(ECHO, echo)
        await receptionist.withdraw(ECHO, system.spawn(Echo))
        assert receptionist.find(ECHO) == (echo,)


async def test_p59_listings_yield_the_current_tuple_then_the_latest():
    async with ActorSystem() as system:
        receptionist = Receptionist.of(system)
        seen = []
        async with anyio.create_task_group() as group:

            async def read() -> None:
                async for refs in receptionist.listings(ECHO):
                    seen.append(refs)
                    if len(refs) == 3:
                        return

            group.start_soon(read)
            await until(lambda: seen == [()])
            refs = [system.spawn(Echo) for _ in range(3)]
            for ref in refs:
                await receptionist.register(ECHO, ref)
        assert seen[-1] == tuple(refs)
        assert len(seen) <= 4


async def test_p59_listings_end_when_the_system_closes():
    system = ActorSystem()
    await system.start()
    reading, ended = anyio.Event(), anyio.Event()

    async def read() -> None:
        async for _ in Receptionist.of(system).listings(ECHO):
            reading.set()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        with anyio.fail_after(20):
            await reading.wait()
            await system.aclose()
            await ended.wait()


def test_p59_a_key_is_a_name():
    assert ServiceKey[str, str]("echo") == ECHO
    with pytest.raises(ValueError, match="1 to 128 characters"):
        ServiceKey[str, str]("")
