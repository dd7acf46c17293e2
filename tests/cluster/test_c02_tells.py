"""Promises 2 and 3: nothing twice or out of order, every loss counted, and a full mailbox holds up nobody
else.
"""

from __future__ import annotations

import anyio
import pytest
from _world import COUNTER, Counter, Recorder, loop_of, remote, seeded, systems, until

from papyra import Actor, ActorStopped
from papyra.testing import run_seeded
from papyra_contrib.cluster import NodeGone, NodeUnreachable
from papyra_contrib.cluster.testing import MemoryNetwork

TELLS = 300
SEEDS = 200


async def _tells_under_loss(seed: int) -> int:
    network = MemoryNetwork(seed, loss=0.1, duplicate=0.1, delay=(0.0, 0.02))
    async with systems(network, "a", "b", "c") as (a, b, c):
        seen: list[list[int]] = []
        recorder = a.spawn(lambda: Recorder(seen), mailbox_capacity=20)
        refs = [await remote(system, recorder, a) for system in (b, c)]

        async def send(ref, who: int) -> None:
            for number in range(TELLS):
                await ref.tell([who, number])

        async with anyio.create_task_group() as group:
            for who, ref in enumerate(refs):
                group.start_soon(send, ref, who)
            if seed % 3 == 0:
                await anyio.sleep(0.5)
                network.restart(1.0)
        network.faults.loss = network.faults.duplicate = 0.0
        for system in (b, c):
            peers = system.control_panel()["cluster"]["peers"]
            await until(lambda peers=peers, system=system: _outstanding(system) == 0)
        await recorder.ask("flush")
        numbers = {who: [n for w, n in (one for one in seen if one != "flush") if w == who] for who in (0, 1)}
        for found in numbers.values():
            assert found == sorted(set(found)), seed
        lost = sum(peer["lost"] for peer in a.control_panel()["cluster"]["peers"].values())
        handled = sum(map(len, numbers.values()))
        assert handled + lost + a.dead_letters.count == 2 * TELLS, seed
        return lost


def _outstanding(system) -> int:
    return sum(peer["outstanding"] for peer in system.control_panel()["cluster"]["peers"].values())


def test_c02_nothing_twice_or_out_of_order_and_losses_are_counted(backend):
    lost = [run_seeded(seed, _tells_under_loss, seed, backend=backend) for seed in range(2, 6)]
    assert any(lost)


@pytest.mark.sweep
def test_c02_in_200_seeds():
    for seed in range(SEEDS):
        run_seeded(seed, _tells_under_loss, seed, backend=loop_of(seed))


@seeded(1)
async def test_c02_without_faults_nothing_is_lost():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        seen: list[int] = []
        ref = await remote(b, a.spawn(lambda: Recorder(seen), mailbox_capacity=10), a)
        for number in range(5_000):
            await ref.tell(number)
        await ref.ask("flush")
        assert seen == [*range(5_000), "flush"]


@seeded(1)
async def test_c02_what_was_under_way_to_a_node_that_goes_is_unknown():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        link = b.cluster._session.link(ref._target.peer)
        network.kill("a")
        for _ in range(10):
            await ref.tell("get")
        await until(lambda: not ref.is_alive())
        assert link.counters.unknown == 10
        with pytest.raises(NodeGone):
            await ref.tell("get")


@seeded(1)
async def test_c03_a_full_mailbox_holds_up_its_senders_and_nobody_else():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        seen: list[int] = []
        slow = await remote(b, a.spawn(lambda: Recorder(seen, 1.0), mailbox_capacity=16), a)
        quick = await remote(b, a.spawn(Counter), a)
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for number in range(2_000):
                await slow.tell(number)
                sent += 1

        async with anyio.create_task_group() as group:
            group.start_soon(flood)
            for _ in range(20):
                await anyio.sleep(0.5)
                began = anyio.current_time()
                await quick.ask("get", timeout=1)
                assert anyio.current_time() - began < 0.5
                assert sent <= len(seen) + 16 + 256 + 256
            group.cancel_scope.cancel()
        panel = a.control_panel()["cluster"]["peers"]
        assert [peer["parked"] <= 256 for peer in panel.values()] == [True]
        assert a.dead_letters.count == 0
        await a.stop(a.refs()[0], timeout=0)


@seeded(1)
async def test_c03_a_sender_that_is_cancelled_while_it_waits_has_sent_nothing():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        seen: list[int] = []
        recorder = a.spawn(lambda: Recorder(seen, 0.1), mailbox_capacity=1)
        ref = await remote(b, recorder, a)
        done = 0
        with anyio.move_on_after(2.0):
            for number in range(1_000):
                await ref.tell(number)
                done = number + 1
        await until(lambda: len(seen) == done)
        await anyio.sleep(5)
        assert seen == list(range(done))


@seeded(1)
async def test_c03_a_broadcast_reaches_each_actor_once_and_the_own_node_too():
    network = MemoryNetwork(1, duplicate=1.0)
    async with systems(network, "a", "b", "c") as nodes:
        lists: list[list[str]] = [[] for _ in nodes]
        for system, seen in zip(nodes, lists, strict=True):
            await system.cluster.register(COUNTER, system.spawn(lambda seen=seen: Recorder(seen)))
        await until(lambda: all(len(system.cluster.find(COUNTER)) == 3 for system in nodes))
        assert await nodes[0].cluster.broadcast(COUNTER, "news") == 3
        await until(lambda: all(lists))
        await anyio.sleep(2)
        assert lists == [["news"]] * 3


@seeded(1)
async def test_c02_a_node_without_a_membership_says_so():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        network.restart(6.0)
        await until(lambda: not b.cluster._session.joined)
        with pytest.raises((NodeUnreachable, NodeGone)):
            await ref.ask("get")
        await until(lambda: len(b.cluster.members()) == 2)


class _Leaving(Actor):
    """Takes a second to stop."""

    async def receive(self, message: object) -> None:
        pass

    async def on_stop(self) -> None:
        await anyio.sleep(1)


@seeded(1)
async def test_c02_an_actor_that_is_stopping_leaves_one_dead_letter_for_each_message_and_broadcast():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        leaving = a.spawn(_Leaving)
        ref = await remote(b, leaving, a)
        await a.cluster.register(COUNTER, leaving)
        async with anyio.create_task_group() as group:
            group.start_soon(a.stop, leaving)
            await anyio.sleep(0.1)
            with pytest.raises(ActorStopped):
                await ref.ask("late")
            assert a.dead_letters.count == 1
            await b.cluster.broadcast(COUNTER, "news")
            await anyio.sleep(0.1)
            assert [letter.message for letter in a.dead_letters.messages] == ["late", "news"]


@seeded(1)
async def test_c03_a_broadcast_to_a_full_mailbox_is_a_dead_letter():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        seen: list[object] = []
        await a.cluster.register(COUNTER, a.spawn(lambda: Recorder(seen, 0.5), mailbox_capacity=1))
        await until(lambda: b.cluster.find(COUNTER))
        for number in range(3):
            await b.cluster.broadcast(COUNTER, number)
            await anyio.sleep(0.1)
        assert [letter.message for letter in a.dead_letters.messages] == [2]
        await until(lambda: seen == [0, 1])


@seeded(1)
async def test_c02_messages_that_wait_for_a_mailbox_are_dead_letters_once_the_lease_is_lost():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", "c") as (a, b, _):
        seen: list[object] = []
        recorder = a.spawn(lambda: Recorder(seen, 20), mailbox_capacity=1)
        ref = await remote(b, recorder, a)
        for number in range(10):
            await ref.tell(number)
        await anyio.sleep(0.1)
        network.partition({"a"}, {"b", "c"})
        await until(lambda: a.dead_letters.count)
        # One is handled, one is in the mailbox, and one is being put there.
        assert sorted(letter.message for letter in a.dead_letters.messages) == list(range(3, 10))
        await until(lambda: seen == [0, 1, 2])
