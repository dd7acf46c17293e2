"""Promises 11, 13, 16: names, listings, and what is left behind."""

from __future__ import annotations

import gc
import itertools
from types import SimpleNamespace

import anyio
import pytest
from _world import COUNTER, Counter, seeded, systems, until

from papyra import ActorStopped, ActorSystem
from papyra.exceptions import ActorNameTaken
from papyra.testing import run_seeded
from papyra_contrib.cluster import Fence, NameLost, NodeUnreachable, NotClustered, ServiceKey, _memory_hub
from papyra_contrib.cluster.testing import MemoryNetwork

numbers = itertools.count(1)


async def race(nodes: list[ActorSystem], races: int) -> None:
    for number in range(races):
        wins: list[str] = []
        losses: list[str] = []

        async def claim(system, name=f"name {number}", wins=wins, losses=losses) -> None:
            ref = system.spawn(Counter)
            try:
                await system.cluster.claim(name, ref)
                wins.append(str(system.cluster.address(ref)))
            except ActorNameTaken as error:
                losses.append(str(error))

        async with anyio.create_task_group() as group:
            for system in nodes:
                group.start_soon(claim, system)
        assert (len(wins), len(losses)) == (1, 2)
        assert all(wins[0] in loss for loss in losses)


@pytest.mark.parametrize("races", [100, pytest.param(1_000, marks=pytest.mark.sweep)])
@seeded(1)
async def test_c11_of_1000_races_for_a_name_one_wins(races):
    async with systems(MemoryNetwork(1, lag=0.1), "a", "b", "c") as nodes:
        await race(nodes, races)


@pytest.mark.parametrize("races", [10, pytest.param(200, marks=pytest.mark.sweep)])
async def test_c11_of_many_races_over_nats_one_wins(nats_server, races):
    url = nats_server.url(f"races{next(numbers)}")
    async with (
        ActorSystem(system_id="a", cluster=url) as a,
        ActorSystem(system_id="b", cluster=url) as b,
        ActorSystem(system_id="c", cluster=url) as c,
    ):
        await race([a, b, c], races)


@seeded(1)
async def test_c11_a_name_is_found_typed_released_and_gone_with_its_actor():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        counter = a.spawn(Counter)
        first = await a.cluster.claim("boss", counter)
        await until(lambda: b.cluster.lookup("boss") is not None)
        found = b.cluster.lookup(ServiceKey("boss"))
        assert found is not None
        assert await found.ask("get") == 0
        assert a.cluster.lookup("boss") == counter
        await a.cluster.release("boss")
        second = await b.cluster.claim("boss", other := b.spawn(Counter))
        assert first < second
        assert str(first) < str(second)
        assert len(str(first)) == len(str(second))
        await b.stop(other)
        await until(lambda: a.cluster.lookup("boss") is None and b.cluster.lookup("boss") is None)
        await a.cluster.claim("boss", counter)


@seeded(1)
async def test_c11_a_holder_that_claims_again_has_the_same_fence():
    async with systems(MemoryNetwork(1, lag=0.1), "a", "b") as (a, b):
        counter = a.spawn(Counter)
        fences = []

        async def claim() -> None:
            fences.append(await a.cluster.claim("boss", counter))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(claim)
        await claim()
        await anyio.sleep(15)  # a look at what the registry shows is in it
        await claim()
        assert len(fences) == 7
        assert len(set(fences)) == 1
        await a.cluster.release("boss")
        assert await a.cluster.claim("boss", counter) > fences[0]
        await a.stop(counter)
        with pytest.raises(ActorStopped):
            await a.cluster.claim("boss", counter)
        await until(lambda: b.cluster.lookup("boss") is None)
        assert len(a.cluster._claims._locks) == 0


@pytest.mark.parametrize("network", [lambda: MemoryNetwork(1), None], ids=["seeded", "by its URL"])
def test_c11_a_fence_is_greater_after_the_registry_was_lost_and_a_second_run_is_like_the_first(
    backend, network, monkeypatch
):
    monkeypatch.setattr(
        _memory_hub, "time", SimpleNamespace(time=lambda: 1_800_000_000.0)
    )  # all in one instant

    def run() -> list[Fence]:
        fences = []

        async def lose_registry() -> None:
            for _ in range(3):
                cluster = network().cluster() if network is not None else "memory:lost"
                async with ActorSystem(system_id="a", cluster=cluster) as a:
                    fences.append(await a.cluster.claim("boss", a.spawn(Counter)))

        run_seeded(1, lose_registry, backend=backend)
        return fences

    first, second, third = fences = run()
    assert first < second < third
    assert str(first) < str(second) < str(third)
    assert run() == fences


@seeded(1)
async def test_c11_a_holder_that_was_cut_off_claims_again_to_get_its_greater_fence():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", "c") as (a, b, _):
        counter = a.spawn(Counter)
        first = await a.cluster.claim("boss", counter)
        network.partition({"a"}, {"b", "c"})
        await until(lambda: len(b.cluster.members()) == 2)
        between = await b.cluster.claim("boss", b.spawn(Counter))
        await b.cluster.release("boss")
        network.heal()
        await until(lambda: b.cluster.lookup("boss") is not None)
        again = await a.cluster.claim("boss", counter)
        assert first < between < again
        assert again == await a.cluster.claim("boss", counter)
        claim = b.cluster._session.replica.claim("boss")
        assert claim is not None
        assert claim.revision == again.revision


@seeded(1)
async def test_c11_after_a_lost_lease_a_name_is_claimed_again_or_lost():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", "c") as (a, b, _):
        seen: list[object] = []

        class Named(Counter):
            async def receive(self, message):
                seen.append(message)

        named = a.spawn(Named)
        await a.cluster.claim("kept", named)
        await a.cluster.claim("taken", named)
        await a.cluster.register(COUNTER, named)
        network.partition({"a"}, {"b", "c"})
        await until(lambda: len(b.cluster.members()) == 2)
        await b.cluster.claim("taken", b.spawn(Counter))
        network.heal()
        await until(lambda: NameLost("taken") in seen)
        await until(lambda: b.cluster.lookup("kept") is not None)
        assert b.cluster.lookup("kept").address.system == str(a.cluster._session.me)
        await until(lambda: len(b.cluster.find(COUNTER)) == 1)


@seeded(1)
async def test_c13_a_lagging_follower_removes_nobody():
    network = MemoryNetwork(1, lag=1.5)
    async with systems(network, "a", "b", "c") as nodes:
        await until(lambda: all(len(system.cluster.members()) == 3 for system in nodes))
        for _ in range(20):
            network.restart(0.5)
            await anyio.sleep(1.5)
        for system in nodes:
            assert [e for e in system.events() if type(e).__name__ == "NodeDown"] == []


@seeded(1)
async def test_c16_nothing_grows_with_actors_asks_or_nodes_that_were():
    network = MemoryNetwork(1)
    async with systems(network, "a") as (a,):
        counter = a.spawn(Counter, name="counter")
        await a.cluster.register(COUNTER, counter)
        for _ in range(5):
            async with systems(network, "b") as (b,):
                await until(lambda b=b: b.cluster.find(COUNTER))
                ref = b.cluster.find(COUNTER)[0]
                for _ in range(50):
                    passing = b.spawn(Counter)
                    await b.cluster.register(COUNTER, passing)
                    await ref.ask("get")
                    await b.stop(passing)
                await until(lambda b=b: len(a.cluster.find(COUNTER)) == 1)
        await anyio.sleep(5)
        gc.collect()
        session = a.cluster._session
        assert len(session.links) == len(session.asks) == 0
        assert len(session.exports) == 1
        assert sorted(session.replica.entries) == ["n.a", f"s.counter.a.{counter.address.actor_id}"]
        assert len(a.cluster._refs.targets) == 0


def test_c16_a_cancelled_host_leaves_nothing(backend):
    network = MemoryNetwork(1)

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with systems(network, "a", "b") as (a, _):
                await a.cluster.register(COUNTER, a.spawn(Counter))
                scope.cancel()
                await anyio.sleep(1)
        assert network._hub.transports == {}
        assert [key for key in network._hub._keys if key.startswith("n.")] == []

    run_seeded(1, main, backend=backend)


def test_c17_memory_needs_no_server_and_no_cluster_says_what_to_pass(backend):
    async def main() -> None:
        async with (
            ActorSystem(system_id="a", cluster="memory:shop") as a,
            ActorSystem(system_id="b", cluster="memory:shop") as b,
        ):
            await until(lambda: len(a.cluster.members()) == 2)
            assert b.cluster.me.node == "b"
        async with ActorSystem() as alone:
            with pytest.raises(NotClustered, match="cluster='nats://"):
                _ = alone.cluster

    anyio.run(main, backend=backend)


@seeded(1)
async def test_c16_waits_for_names_that_nobody_has_leave_nothing():
    async with systems(MemoryNetwork(1), "a") as (a,):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(_expect_nobody, a, f"name {number % 10}")
        assert a.cluster._sending._names == {}


async def _expect_nobody(system: ActorSystem, name: str) -> None:
    with pytest.raises(NodeUnreachable, match="nobody had the name"):
        await system.cluster.role(ServiceKey(name)).ask("get")
