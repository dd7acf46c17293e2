"""P56 to P58: the event stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorSystem, DeadLetter
from papyra.events import ActorStarted
from papyra_contrib.eventstream import EventStream, FactHooks, Missed

from .support import until


@dataclass(frozen=True)
class Priced:
    amount: int


@dataclass(frozen=True)
class Sold(Priced):
    pass


class Keeper(Actor):
    def __init__(self, seen: list[Any], gate: anyio.Event | None = None) -> None:
        self.seen = seen
        self.gate = gate

    async def receive(self, message: object) -> int:
        if self.gate is not None:
            await self.gate.wait()
        if message == "crash":
            raise ValueError("as asked")
        if message != "?":
            self.seen.append(message)
        return len(self.seen)


async def test_p56_a_subscriber_gets_an_event_once_and_subclasses_too():
    async with ActorSystem() as system:
        stream, seen = EventStream.of(system), []
        assert EventStream.of(system) is stream
        ref = system.spawn(Keeper, seen)
        stream.subscribe(ref, Priced)
        stream.subscribe(ref, Sold)
        stream.subscribe(ref, Sold, topic="tea")
        assert await stream.publish(Sold(1), topic="tea") == 1
        assert await stream.publish(Priced(2)) == 1
        assert await stream.publish("nothing") == 0
        await ref.ask("?")
        assert seen == [Sold(1), Priced(2)]


async def test_p56_topics_are_exact_and_no_topic_means_all():
    async with ActorSystem() as system:
        stream = EventStream.of(system)
        tea, all_of_them = [], []
        some, every = system.spawn(Keeper, tea), system.spawn(Keeper, all_of_them)
        stream.subscribe(some, Sold, topic="tea")
        stream.subscribe(every, Sold)
        for number, topic in enumerate(["tea", "teapot", None]):
            await stream.publish(Sold(number), topic=topic)
        await some.ask("?")
        await every.ask("?")
        assert tea == [Sold(0)]
        assert all_of_them == [Sold(0), Sold(1), Sold(2)]


async def test_p56_events_of_a_publisher_arrive_in_order():
    async with ActorSystem() as system:
        stream, seen = EventStream.of(system), []
        ref = system.spawn(Keeper, seen)
        stream.subscribe(ref, Sold)
        for number in range(500):
            await stream.publish(Sold(number))
        await ref.ask("?")
        assert seen == [Sold(number) for number in range(500)]


async def test_p57_a_subscription_ends_with_the_actor_and_not_with_a_restart():
    async with ActorSystem() as system:
        stream, seen = EventStream.of(system), []
        ref = system.spawn(Keeper, seen, name="keeper")
        stream.subscribe(ref, Sold)
        await ref.tell("crash")
        await stream.publish(Sold(1))
        await ref.ask("?")
        assert seen == [Sold(1)]
        await system.stop(ref)
        assert await stream.publish(Sold(2)) in (0, 1)
        with anyio.fail_after(30):
            while await stream.publish(Sold(3)):
                await anyio.lowlevel.checkpoint()
        assert stream._subscribers == {}
        assert system.dead_letters.count == 0


async def test_p57_unsubscribe_ends_what_matches():
    async with ActorSystem() as system:
        stream, seen = EventStream.of(system), []
        ref = system.spawn(Keeper, seen)
        for topic in (None, "tea", "pot"):
            stream.subscribe(ref, Sold, topic=topic)
        stream.subscribe(ref, Priced)
        assert stream.unsubscribe(ref, Sold, topic="tea") == 1
        assert stream.unsubscribe(ref, Priced) == 1
        assert stream.unsubscribe(ref) == 2
        assert stream.unsubscribe(ref) == 0
        assert await stream.publish(Sold(1)) == 0


async def test_p58_drop_newest_drops_and_says_how_many_before_the_next():
    async with ActorSystem() as system:
        stream, seen, gate = EventStream.of(system), [], anyio.Event()
        ref = system.spawn(Keeper, seen, gate)
        stream.subscribe(ref, Sold, buffer=3)
        for number in range(10):
            await stream.publish(Sold(number))
        gate.set()
        await ref.ask("?")
        await stream.publish(Sold(99))
        await ref.ask("?")
        kept = [one.amount for one in seen if isinstance(one, Sold)]
        (missed,) = (one for one in seen if isinstance(one, Missed))
        assert kept[:-1] == list(range(len(kept) - 1))
        assert missed.count == 10 - (len(kept) - 1) > 0
        assert seen[-2:] == [missed, Sold(99)]


async def test_p58_drop_oldest_keeps_the_newest():
    async with ActorSystem() as system:
        stream, seen, gate = EventStream.of(system), [], anyio.Event()
        ref = system.spawn(Keeper, seen, gate, mailbox_capacity=1)
        stream.subscribe(ref, Sold, overflow="drop_oldest", buffer=3)
        for number in range(10):
            await stream.publish(Sold(number))
        gate.set()
        await until(lambda: seen and seen[-1] == Sold(9))
        assert [one.amount for one in seen if isinstance(one, Sold)][-3:] == [7, 8, 9]
        (missed,) = (one for one in seen if isinstance(one, Missed))
        assert missed.count == 10 - sum(isinstance(one, Sold) for one in seen)


async def test_p58_wait_is_backpressure_and_loses_nothing():
    async with ActorSystem() as system:
        stream, seen, gate = EventStream.of(system), [], anyio.Event()
        ref = system.spawn(Keeper, seen, gate, mailbox_capacity=2)
        stream.subscribe(ref, Sold, overflow="wait")
        with anyio.move_on_after(0.1) as scope:
            for number in range(10):
                await stream.publish(Sold(number))
        assert scope.cancelled_caught
        gate.set()
        await stream.publish(Sold(99))
        await ref.ask("?")
        assert seen[-1] == Sold(99)
        assert not any(isinstance(one, Missed) for one in seen)


async def test_p58_a_publisher_that_waits_goes_on_when_the_subscriber_stops():
    async with ActorSystem(shutdown_timeout=1.0) as system:
        stream, gate = EventStream.of(system), anyio.Event()
        ref = system.spawn(Keeper, [], gate, mailbox_capacity=1)
        stream.subscribe(ref, Sold, overflow="wait")

        async def publish() -> None:
            for number in range(5):
                await stream.publish(Sold(number))

        async with anyio.create_task_group() as group:
            group.start_soon(publish)
            await anyio.sleep(0.02)
            gate.set()
            await ref.stop()
        assert system.dead_letters.count == 0


async def test_p56_facts_are_events():
    facts = FactHooks()
    async with ActorSystem(hooks=facts) as system:
        stream, seen = EventStream.of(system, facts), []
        ref = system.spawn(Keeper, seen)
        stream.subscribe(ref, ActorStarted)
        stream.subscribe(ref, DeadLetter)
        other = system.spawn(Keeper, [], name="other")
        await other.ask("?")
        await system.stop(other)
        with pytest.raises(Exception, match="stopped"):
            await other.tell("late")
        await until(lambda: not (len([one for one in seen if isinstance(one, DeadLetter)]) < 1))
        assert any(isinstance(one, ActorStarted) and one.payload.get("name") == "other" for one in seen)


async def test_bad_arguments():
    async with ActorSystem() as system:
        stream, ref = EventStream.of(system), system.spawn(Keeper, [])
        with pytest.raises(TypeError, match="expected an ActorRef"):
            stream.subscribe("ref", Sold)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="the class of the events"):
            stream.subscribe(ref, Sold(1))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="overflow must be one of"):
            stream.subscribe(ref, Sold, overflow="explode")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="buffer must be at least 1"):
            stream.subscribe(ref, Sold, buffer=0)
