"""P52 to P55: pools and groups."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorStopped, ActorSystem, AskDeadlock, AskTimeout, Strategy, SupervisionPolicy
from papyra_contrib.receptionist import Receptionist, ServiceKey
from papyra_contrib.routing import (
    Broadcast,
    ConsistentHash,
    Group,
    LeastLoaded,
    NoRoutee,
    Pool,
    Random,
    RoundRobin,
    ScatterGatherFirst,
)

from .support import until


class Worker(Actor):
    seen = 0

    async def receive(self, message: object) -> object:
        match message:
            case "crash":
                raise ValueError("as asked")
            case "stop":
                self.context.stop_self()
            case float():
                await anyio.sleep(message)
            case "seen":
                return self.seen
        self.seen += 1
        return str(self.context.self_ref.address)


async def test_p52_an_ask_is_one_ask():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(system, Worker, 3)
        before = system.control_panel()["actors"]["ever"]
        answers = Counter([await pool.ask(number) for number in range(9)])
        assert sorted(answers.values()) == [3, 3, 3]
        assert system.control_panel()["actors"]["ever"] == before
        with pytest.raises(ValueError, match="as asked"):
            await pool.ask("crash")
        with pytest.raises(AskTimeout):
            await pool.ask(5.0, timeout=0.01)
        assert await pool.request("one")


async def test_p52_a_ring_through_a_pool_is_found():
    class Asker(Actor):
        async def receive(self, pool: Pool) -> object:
            return await pool.ask(pool)

    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(system, Asker, 1)
        with pytest.raises(AskDeadlock):
            await pool.ask(pool)


async def test_p53_a_stopped_routee_is_replaced_in_its_slot():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(system, Worker, 2)
        first, second = pool.routees
        await first.stop()
        for _ in range(4):
            assert await pool.ask("hello")  # none goes to the stopped one
        await until(lambda: not (len(pool.routees) < 2))
        assert pool.routees[1] == second
        assert pool.routees[0] != first
        assert system.dead_letters.count == 0


async def test_p53_a_restarting_routee_keeps_its_place():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(system, Worker, 2, routee_policy=SupervisionPolicy(Strategy.RESTART))
        before = pool.routees
        await before[0].tell("crash")
        await before[0].ask("hello")
        assert pool.routees == before


async def test_p53_past_the_intensity_the_pool_fails():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(system, Worker, 1)
        for _ in range(4):
            await until(lambda: pool.routees)
            (only,) = pool.routees
            await only.stop()
        await until(lambda: not pool.ref.is_alive())
        with pytest.raises(ActorStopped):
            await pool.ask("anybody?")


async def test_p53_a_message_waits_while_the_only_routee_is_replaced():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(system, Worker, 1)
        (only,) = pool.routees
        await only.tell("stop")
        while only.is_alive():
            await anyio.lowlevel.checkpoint()
        assert await pool.ask("hello")


class SlowToStop(Worker):
    def __init__(self, gate: anyio.Event) -> None:
        self.gate = gate

    async def on_stop(self) -> None:
        await self.gate.wait()


async def test_p53_a_message_finds_another_actor_while_one_stops():
    gate = anyio.Event()
    async with ActorSystem(shutdown_timeout=0.1) as system, anyio.create_task_group() as tasks:
        pool = await Pool.spawn(system, lambda: SlowToStop(gate), 2)
        first, other = pool.routees
        tasks.start_soon(first.stop)
        await until(lambda: not first.is_alive())
        # One of two is the turn of the actor that stops.
        assert [await pool.ask("hello") for _ in range(2)] == [str(other.address)] * 2
        pool.tell_nowait("hello")
        pool.tell_nowait("hello")
        assert await other.ask("seen") == 4
        assert system.dead_letters.count == 0
        gate.set()


async def test_p53_a_message_waits_while_the_only_actor_stops():
    gate = anyio.Event()
    async with ActorSystem(shutdown_timeout=0.1) as system, anyio.create_task_group() as tasks:
        pool = await Pool.spawn(system, lambda: SlowToStop(gate), 1)
        (first,) = pool.routees
        tasks.start_soon(first.stop)
        await until(lambda: not first.is_alive())
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await pool.ref.ask("hello"))

        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        gate.set()
        await until(lambda: answers)
        assert answers != [str(first.address)]
        assert system.dead_letters.count == 0


async def test_p54_resize_drains_the_newest():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(system, Worker, 2)
        await pool.resize(4)
        assert len(pool.routees) == 4
        newest = pool.routees[3]
        for _ in range(5):
            await newest.tell(0.001)
        await pool.resize(1)
        assert len(pool.routees) == 1
        assert not newest.is_alive()
        assert system.dead_letters.count == 0
        with pytest.raises(ValueError, match="at least 1"):
            await pool.resize(0)
        await pool.stop()
        assert pool.routees == ()


class Stub:
    def __init__(self, pending: int = 0) -> None:
        self._pending = pending

    def pending(self) -> int:
        return self._pending


def test_p54_about_one_key_in_n_moves():
    ring = ConsistentHash(lambda message: message)
    eight = [ring.pick([Stub()] * 8, f"key {n}") for n in range(20_000)]
    nine = [ring.pick([Stub()] * 9, f"key {n}") for n in range(20_000)]
    moved = sum(a != b for a, b in zip(eight, nine, strict=True)) / 20_000
    assert 0.08 < moved < 0.15  # the ideal is 1/9
    assert all(b == 8 for a, b in zip(eight, nine, strict=True) if a != b)
    assert max(Counter(eight).values()) / (20_000 / 8) < 1.35


def test_p54_places_are_the_same_in_every_process():
    code = (
        "from papyra_contrib.routing import ConsistentHash\n"
        "ring = ConsistentHash(lambda message: message)\n"
        "print([ring.pick([None] * 7, key) for key in ('a', b'b', 3, 'd', 'e', 'f')])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(printed) == 1


def test_p54_a_key_of_another_type_is_refused():
    with pytest.raises(TypeError, match="a string, bytes or a whole number"):
        ConsistentHash(lambda message: message).pick([Stub()], 1.5)
    with pytest.raises(ValueError, match="virtual_nodes"):
        ConsistentHash(lambda message: message, virtual_nodes=0)


def test_p55_least_loaded_picks_no_busy_one_while_one_is_idle():
    routees = [Stub(3), Stub(1), Stub(0), Stub(2)]
    assert LeastLoaded().pick(routees, "x") == 2
    many = [Stub(9)] * 99 + [Stub(0)]
    picks = Counter(LeastLoaded().pick(many, "x") for _ in range(2000))
    assert picks[99] > 20  # about 2 in 100, twice the share of a random pick


def test_round_robin_and_random_reach_all():
    for strategy in (RoundRobin(), Random()):
        assert {strategy.pick([Stub()] * 5, "x") for _ in range(500)} == set(range(5))


async def test_p55_scatter_gather_returns_the_first_success():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(
            system, Worker, 3, ScatterGatherFirst(5.0), routee_policy=SupervisionPolicy(Strategy.RESTART)
        )
        assert await pool.ask("hello") in {str(ref.address) for ref in pool.routees}
        with pytest.raises(ExceptionGroup) as raised:
            await pool.ask("crash")
        assert len(raised.value.exceptions) == 3
        with pytest.raises(TimeoutError):
            await pool.ask(5.0, timeout=0.01)
        with pytest.raises(ValueError, match="timeout must be more than 0"):
            ScatterGatherFirst(0)


async def test_broadcast_reaches_all_and_cannot_ask():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(system, Worker, 3, Broadcast())
        await pool.tell("to all")
        pool.tell_nowait("to all")
        assert [await ref.ask("seen") for ref in pool.routees] == [2, 2, 2]
        with pytest.raises(TypeError, match="no single actor to ask"):
            await pool.ask("hello")


async def test_the_pool_s_own_reference_forwards():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        pool = await Pool.spawn(system, Worker, 2)
        answers = {await pool.ref.ask("hello") for _ in range(4)}
        assert answers == {str(ref.address) for ref in pool.routees}
        to_all = await Pool.spawn(system, Worker, 2, Broadcast())
        await to_all.ref.tell("hello")
        await until(lambda: to_all.ref.pending() == 0)
        assert [await ref.ask("seen") for ref in to_all.routees] == [1, 1]
        first = await Pool.spawn(system, Worker, 2, ScatterGatherFirst(20.0))
        assert await first.ref.ask("hello") in {str(ref.address) for ref in first.routees}


async def test_a_pool_below_an_actor_stops_with_it():
    class Parent(Actor):
        async def on_start(self) -> None:
            self.pool = await Pool.spawn(self.context, Worker, 2)

        async def receive(self, message: object) -> object:
            return await self.pool.ask(message)

    async with ActorSystem(shutdown_timeout=0.1) as system:
        parent = system.spawn(Parent)
        assert await parent.ask("hello")
        await parent.stop()
        assert system.refs() == []


async def test_a_group_routes_to_registered_actors():
    key = ServiceKey[object, object]("workers")
    async with ActorSystem(shutdown_timeout=0.1) as system:
        group = Group(system, key)
        with pytest.raises(NoRoutee, match="no living actor is registered"):
            await group.ask("anybody?")
        refs = [system.spawn(Worker) for _ in range(2)]
        for ref in refs:
            await Receptionist.of(system).register(key, ref)
        assert {await group.ask("hello") for _ in range(4)} == {str(ref.address) for ref in refs}
        await group.tell("hello")
