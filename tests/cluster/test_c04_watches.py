"""Promises 4, 6 and 7 on the memory network: watchers are notified once, with the true reason."""

from __future__ import annotations

import anyio
import pytest
from _world import Counter, Watcher, remote, seeded, systems, until

from papyra import Actor
from papyra.testing import run_seeded
from papyra_contrib.cluster import NodeId, NodeUnreachable
from papyra_contrib.cluster._remote import exports as exports_module
from papyra_contrib.cluster._transport import no_answer
from papyra_contrib.cluster.testing import MemoryNetwork


class Fails(Actor):
    async def receive(self, message: str) -> None:
        raise ValueError(message)


@pytest.mark.parametrize("loss", [0.0, 0.5])
@seeded(1)
async def test_c04_a_watcher_is_notified_once_with_the_true_reason(loss):
    network = MemoryNetwork(3)
    async with systems(network, "a", "b") as (a, b):
        watcher = Watcher()
        watching = b.spawn(watcher.actor)
        stopped, failing = a.spawn(Counter), a.spawn(Fails)
        refs = [await remote(b, ref, a) for ref in (stopped, failing)]
        for ref in refs:
            await watching.ask(ref)
        await anyio.sleep(1)
        network.faults.loss = loss
        await a.stop(stopped)
        await failing.tell("x")
        await until(lambda: len(watcher.told) >= 2)
        await anyio.sleep(30)
        told = {message.ref: message.reason for message in watcher.told}
        assert len(watcher.told) == 2
        assert told == {refs[0]: "stopped", refs[1]: "failed"}
        await watching.ask(refs[0])  # known to be gone: told again
        await until(lambda: len(watcher.told) == 3)


@pytest.mark.parametrize("fault", ["kill", "pause", "partition", "leave"])
@seeded(1)
async def test_c04_a_node_that_goes(fault):
    network = MemoryNetwork(4)
    async with systems(network, "a", "c") as (_, c):
        async with systems(network, "b") as (b,):
            watcher = Watcher()
            watching = c.spawn(watcher.actor)
            ref = await remote(c, b.spawn(Counter), b)
            await watching.ask(ref)
            await anyio.sleep(0.5)
            began = anyio.current_time()
            if fault == "kill":
                network.kill("b")
            elif fault == "pause":
                network.pause("b")
            elif fault == "partition":
                network.partition({"b"}, {"a", "c"})
            if fault != "leave":
                await until(lambda: watcher.told)
                assert anyio.current_time() - began < 5.0
                assert watcher.reasons == ["node_down"]
            network.resume("b")
            network.heal()
        await until(lambda: watcher.told)
        assert watcher.reasons == (["shutdown"] if fault == "leave" else ["node_down"])
        await anyio.sleep(20)
        assert len(watcher.told) == 1


@seeded(1)
async def test_c04_an_actor_that_is_not_known():
    async with systems(MemoryNetwork(4), "a", "b") as (a, b):
        watcher = Watcher()
        watching = b.spawn(watcher.actor)
        counter = a.spawn(Counter)
        address = a.cluster.address(counter)
        await a.stop(counter)
        never = b.ref_for(f"{address.system}:{99}")
        gone = b.ref_for(f"nobody@0123456789ab:{1}")
        await until(lambda: len(b.cluster.members()) == 2)
        for ref in (never, gone):
            await watching.ask(ref)
        await until(lambda: len(watcher.told) == 2)
        assert {message.ref: message.reason for message in watcher.told} == {
            never: "unknown",
            gone: "node_down",
        }


@seeded(1)
async def test_c04_unwatch():
    async with systems(MemoryNetwork(4), "a", "b") as (a, b):
        watcher = Watcher()
        inner = watcher.actor()
        watching = b.spawn(lambda: inner)
        counter = a.spawn(Counter)
        ref = await remote(b, counter, a)
        await watching.ask(ref)
        inner.context.unwatch(ref)
        await a.stop(counter)
        await anyio.sleep(30)
        assert watcher.told == []


@seeded(1)
async def test_c06_a_paused_node_handles_no_frame_and_joins_anew():
    network = MemoryNetwork(5)
    async with systems(network, "a", "b") as (a, b):
        counter = a.spawn(Counter, name="counter")
        ref = await remote(b, counter, a)
        before = a.cluster.me.incarnation
        network.pause("a")
        for _ in range(20):
            await ref.tell({"x": 1})
        await until(lambda: not ref.is_alive())
        network.resume("a")
        handled = a.actor_info(counter).processed
        assert handled == 0
        await until(lambda: len(b.cluster.members()) == 2)
        assert a.cluster.me.incarnation != before
        assert a.actor_info(counter).processed == 0
        ups = [e.payload["incarnation"] for e in b.events() if type(e).__name__ == "NodeUp"]
        assert len(ups) == len(set(ups))


def test_c07_a_cut_off_node_lets_go_first_and_a_singleton_never_runs_twice(backend):
    async def main(seed: int) -> None:
        network = MemoryNetwork(seed)
        running: list[str] = []
        overlaps: list[list[str]] = []
        terms: list[tuple[str, str]] = []

        def sole(node: str):
            class Sole(Actor):
                def __init__(self, fence) -> None:
                    self.fence = fence

                async def on_start(self) -> None:
                    running.append(node)
                    terms.append((node, str(self.fence)))
                    if len(running) > 1:
                        overlaps.append(list(running))

                async def on_stop(self) -> None:
                    running.remove(node)

                async def receive(self, message):
                    return node

            return Sole

        async with systems(network, "a", "b", "c") as nodes:
            for system in nodes:
                await system.cluster.singleton("sole", sole(system.system_id))
            for _ in range(4):
                await until(lambda: running)
                holder = running[0]
                others = {"a", "b", "c"} - {holder}
                network.partition({holder}, others)
                await until(lambda holder=holder: running and running[0] != holder)
                network.heal()
                await until(lambda: all(len(system.cluster.members()) == 3 for system in nodes))
            fences = [fence for _, fence in terms]
            assert (len(fences) >= 5, overlaps) == (True, [])
            assert fences == sorted(set(fences))

    for seed in range(2):
        run_seeded(seed, main, seed, backend=backend)


@pytest.mark.parametrize("answers", [True, False])
@seeded(1)
async def test_c04_an_actor_of_a_node_that_is_not_known_yet_is_watched(answers):
    """If the registry does not answer, the watch begins once the node is known."""
    network = MemoryNetwork(4)
    async with systems(network, "b") as (b,):
        watcher = Watcher()
        watching = b.spawn(watcher.actor)
        transport, late = b.cluster._session.transport, []
        transport.follow = lambda change, delay: late.append(change)
        async with systems(network, "a") as (a,):
            counter = a.spawn(Counter)
            ref = b.ref_for(a.cluster.address(counter))
            assert len(b.cluster.members()) == 1

            async def no_get(key: str) -> None:
                raise no_answer("reading", key)

            if not answers:
                transport.get = no_get
                with pytest.raises(NodeUnreachable, match="the registry does not answer"):
                    await ref.tell("get")
            await watching.ask(ref)
            await anyio.sleep(0.1)
            assert len(b.cluster.members()) == (2 if answers else 1)
            del transport.follow
            for change in late:
                transport.follow(change, 0)
            await anyio.sleep(0 if answers else 20)
            assert watcher.told == []
            await a.stop(counter)
            await until(lambda: watcher.told)
            assert watcher.reasons == ["stopped"]


@seeded(1)
async def test_c04_each_watcher_of_a_node_that_nobody_knows_is_notified():
    async with systems(MemoryNetwork(4), "a", "b") as (_, b):
        gone = b.ref_for("nobody@0123456789ab:1")
        watchers = [Watcher(), Watcher()]
        for watcher in watchers:
            await b.spawn(watcher.actor).tell(gone)
        await anyio.sleep(30)
        assert [watcher.reasons for watcher in watchers] == [["node_down"]] * 2


@seeded(1)
async def test_c04_an_actor_that_has_stopped_watches_nothing():
    async with systems(MemoryNetwork(4), "a", "b") as (a, b):
        inner = Watcher().actor()
        watching = b.spawn(lambda: inner)
        ref = await remote(b, a.spawn(Counter), a)
        await b.stop(watching)
        inner.context.watch(ref)
        assert b.cluster._watches.peers() == []


@seeded(1)
async def test_c04_a_watch_that_is_missing_in_the_whole_list_has_ended():
    async with systems(MemoryNetwork(4), "a") as (a,):
        exports, told = a.cluster._session.exports, []
        exports._terminated = lambda peer, number, reason: told.append((number, reason))
        counters = [a.spawn(Counter) for _ in range(2)]
        kept, dropped = map(exports.add, counters)
        b = NodeId("b", "0" * 12)
        exports.watch(b, [kept, dropped], complete=True)
        exports.watch(b, [kept], complete=True)
        for counter in counters:
            await a.stop(counter)
        assert told == [(kept, "stopped")]


@seeded(1)
async def test_c04_the_reasons_of_the_last_ends_are_remembered(monkeypatch):
    monkeypatch.setattr(exports_module, "MAX_REMEMBERED_ENDS", 2)
    async with systems(MemoryNetwork(4), "a") as (a,):
        exports = a.cluster._session.exports
        counters = [a.spawn(Counter) for _ in range(3)]
        numbers = [exports.add(counter) for counter in counters]
        for counter in counters:
            await a.stop(counter)
        assert [exports.reason(number) for number in numbers] == ["unknown", "stopped", "stopped"]
