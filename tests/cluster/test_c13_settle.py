"""Promises 7, 11, 12 and 13: the registry shows what a node has, also after requests that got no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from _world import COUNTER, Counter, seeded, systems, until

from papyra import Actor
from papyra_contrib.cluster import ClusterUnavailable, Ended, Entry, NodeId
from papyra_contrib.cluster._registry import replica
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
async def test_c09_a_join_over_ones_own_former_lease_does_not_end_the_new_one():
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


@seeded(1)
async def test_c12_a_singleton_that_cannot_be_spawned_is_logged_and_tried_again(caplog):
    async with systems(MemoryNetwork(1), "a") as (a,):
        await a.cluster.singleton("sole", lambda _: Counter(), mailbox_capacity=0)
        await anyio.sleep(3)
        text = "starting the singleton 'sole' failed; it is tried again"
        assert 2 <= caplog.messages.count(text) <= 4
        with pytest.raises(ValueError, match="a candidate for 'sole' already; resign first"):
            await a.cluster.singleton("sole", lambda _: Counter())
        await a.cluster.resign("sole")
        assert a.cluster.lookup("sole") is None


@seeded(1)
async def test_c13_invalid_values_in_the_registry_are_ignored():
    """Any member may write there."""
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        for key, value in {
            "n.x": b"{",
            "n.y": b'{"inc": "1", "since": 1, "wire": 1}',
            "s.counter.b.one": b'{"inc": "1"}',
            "a.boss": b"[" * 100_000,
            "a.other": b'{"node": "b"}',
            "z.z": b"1",
        }.items():
            network._hub.put("b", key, value, 0, None)
        await until(lambda: a.cluster._session.replica.revision("a.other"))
        assert [member.node for member in a.cluster.members()] == ["a", "b"]
        assert a.cluster.find(COUNTER) == ()
        assert [a.cluster.lookup(name) for name in ("boss", "other")] == [None, None]
        await anyio.sleep(15)  # it looks for keys of nodes that are gone
        await a.cluster.claim("boss", a.spawn(Counter))
        await until(lambda: b.cluster.lookup("boss") is not None)


class Doubts:
    """Puts the answers of the registry to one node under the control of a test."""

    def __init__(self, system) -> None:
        self.session = system.cluster._session
        self.asked = 0
        self.before: Callable[[], Any] = lambda: None
        self._get = self.session.transport.get
        self.session.transport.get = self.get

    async def get(self, key: str) -> Any:
        self.asked += 1
        found = await self._get(key)
        self.before()
        return found


@seeded(1)
async def test_c13_a_key_in_doubt_that_changes_or_ends_meanwhile_is_asked_for_once():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        await b.cluster.claim("boss", b.spawn(Counter))
        await until(lambda: a.cluster.lookup("boss") is not None)
        doubts = Doubts(a)
        entry = doubts.session.replica.entries["a.boss"]
        newer = Entry("a.boss", entry.value, entry.revision + 1000)
        doubts.before = lambda: doubts.session.on_change(newer)
        doubts.session.doubt("a.boss")
        await anyio.sleep(1)
        assert (doubts.asked, doubts.session.replica.revision("a.boss")) == (1, newer.revision)
        doubts.session.doubt("a.boss")
        doubts.session.on_change(Ended("a.boss", "left", newer.revision))
        await anyio.sleep(1)
        assert doubts.asked == 1


@seeded(1)
async def test_c13_a_node_that_is_overdue_is_asked_for_until_its_lease_is_renewed_or_gone():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, _):
        await until(lambda: len(a.cluster.members()) == 2)
        doubts = Doubts(a)
        doubts.session.replica.seen["b"] -= 10
        network.kill("b")
        doubts.session.doubt("n.b")
        await until(lambda: len(a.cluster.members()) == 1)
        assert doubts.asked > 10
        (down,) = [e.payload for e in a.events() if type(e).__name__ == "NodeDown"]
        assert (down["node"], down["reason"]) == ("b", "expired")


def test_c16_the_last_ends_of_incarnations_are_remembered(monkeypatch):
    monkeypatch.setattr(replica, "MAX_ENDED_INCARNATIONS", 2)
    ended = replica.EndedIncarnations()
    peers = [NodeId("a", str(number)) for number in range(3)]
    for peer in peers:
        ended.add(peer, "left")
    assert [peer in ended for peer in peers] == [False, True, True]
    assert [ended.reason(peer) for peer in peers] == ["expired", "left", "left"]
