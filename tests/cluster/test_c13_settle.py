"""Promises 7, 11, 12 and 13: the registry shows what a node has, also after requests that got no answer."""

from __future__ import annotations

import anyio
import pytest
from _world import COUNTER, Counter, seeded, systems, until

from papyra import Actor
from papyra_contrib.cluster import ClusterUnavailable
from papyra_contrib.cluster.testing import MemoryNetwork


class Brief(Actor):
    """Stops at the first message."""

    async def receive(self, message):
        self.context.stop_self()


@seeded(1)
async def test_c13_what_ended_while_the_registry_was_away_is_withdrawn():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", lease=60, join_timeout=2.0) as (a, b):
        brief, kept = a.spawn(Brief), a.spawn(Counter)
        await a.cluster.register(COUNTER, brief)
        await a.cluster.register(COUNTER, kept)
        await a.cluster.claim("name", brief)
        await a.cluster.claim("released", kept)
        await until(lambda: len(b.cluster.find(COUNTER)) == 2)
        network.restart(10.0)
        await brief.tell("stop")
        with pytest.raises(ClusterUnavailable):
            await a.cluster.release("released")
        with pytest.raises(ClusterUnavailable):
            await a.cluster.register(COUNTER, b_side := a.spawn(Counter))
        await anyio.sleep(10.0)
        await until(lambda: len(b.cluster.find(COUNTER)) == 1)
        await until(lambda: all(b.cluster.lookup(name) is None for name in ("name", "released")))
        await b.cluster.claim("name", b.spawn(Counter))
        assert await b_side.ask("get") == 0


@seeded(1)
async def test_c12_a_singleton_that_stopped_while_the_registry_was_away_runs_again():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", lease=60, join_timeout=2.0) as (a, b):
        terms: list[str] = []

        def sole(_fence) -> Actor:
            terms.append("term")
            return Brief()

        ref = await a.cluster.singleton("sole", sole)
        await until(lambda: ref.is_alive())
        holder = a.cluster.lookup("sole")
        network.restart(10.0)
        await holder.tell("stop")
        await anyio.sleep(10.0)
        await until(lambda: len(terms) == 2)
        await until(lambda: ref.is_alive())
        assert b.cluster.lookup("sole").address == a.cluster.address(a.cluster.lookup("sole"))


@seeded(1)
async def test_c09_a_join_over_ones_own_former_lease_is_no_end_of_the_new_one():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        await until(lambda: len(b.cluster.members()) == 2)
        network.pause("a")
        await anyio.sleep(2.6)  # the lease is lost for the node, and the registry has it still
        network.resume("a")
        await until(lambda: a.cluster._session.joined)
        await anyio.sleep(3)
        downs = [e.payload["reason"] for e in a.events() if type(e).__name__ == "NodeDown"]
        assert downs == ["lost"]
        ups = [e.payload for e in b.events() if type(e).__name__ == "NodeUp"]
        assert len([one for one in ups if one["node"] == "a"]) == 2


@seeded(1)
async def test_c07_a_join_anew_waits_for_a_singleton_that_stops_slowly():
    network = MemoryNetwork(1)
    running: list[str] = []
    most = 0

    def sole(node: str):
        class Slow(Actor):
            async def on_start(self) -> None:
                nonlocal most
                running.append(node)
                most = max(most, len(running))

            async def on_stop(self) -> None:
                await anyio.sleep(0.2)
                running.remove(node)

            async def receive(self, message):
                return node

        return Slow()

    async with systems(network, "a", "b", "c") as nodes:
        for system in nodes:
            await system.cluster.singleton("sole", lambda _, node=system.system_id: sole(node))
        await until(lambda: running == ["a"])
        network.pause("a")
        await anyio.sleep(2.6)
        network.resume("a")
        await until(lambda: running and running != ["a"])
        assert most == 1


@seeded(1)
async def test_c09_a_join_anew_does_not_wait_for_a_connection_that_does_not_close():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        transport = a.cluster._session.transport
        close, never = transport.aclose, anyio.Event()

        async def stuck() -> None:
            await close()
            await never.wait()

        transport.aclose = stuck
        network.partition({"a"}, {"b", "c"})
        await until(lambda: not a.cluster._session.joined)
        network.heal()
        began = anyio.current_time()
        await until(lambda: a.cluster._session.joined)
        assert anyio.current_time() - began < 5.0
        await until(lambda: len(b.cluster.members()) == 2)
        never.set()


@seeded(1)
async def test_c10_a_lease_of_12_seconds_outlasts_8_without_a_leader_whenever_they_begin():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", lease=12) as (a, b):
        await until(lambda: len(b.cluster.members()) == 2)
        for phase in range(12):
            await anyio.sleep(5 + phase / 3)
            network.restart(8.0)
            await anyio.sleep(8.5)
        for system in (a, b):
            assert [e for e in system.events() if type(e).__name__ == "NodeDown"] == []


@seeded(1)
async def test_c12_a_candidate_whose_node_leaves_ends():
    """It would ask for the session again and again, without a pause in which the system could close."""
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        await a.cluster.singleton("sole", lambda _: Brief())
        await until(lambda: b.cluster.lookup("sole") is not None)
        membership, session = b.cluster._membership, b.cluster._session
        session_ready, close, asked = membership.session_ready, session.transport.aclose, 0

        async def counted(seconds: float):
            nonlocal asked
            asked += 1
            if asked > 1_000:
                raise AssertionError("it asks without an end")
            return await session_ready(seconds)

        async def slow() -> None:
            await anyio.sleep(10)
            await close()

        class Late(Brief):
            async def on_stop(self) -> None:
                await b.cluster.singleton("sole", lambda _: Brief())

        b.spawn(Late)
        membership.session_ready, session.transport.aclose = counted, slow
        await b.aclose()
        assert asked < 10
