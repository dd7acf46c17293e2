"""Promises 2 and 3: a window goes out in halves, and the senders that wait for one keep their order."""

from __future__ import annotations

import random

import anyio
import pytest
from _world import COUNTER, Add, Counter, Recorder, Watcher, remote, seeded, systems, until

from papyra import Actor, ActorStopped, AskTimeout
from papyra.testing import run_seeded
from papyra_contrib.cluster import NodeGone, NodeUnreachable
from papyra_contrib.cluster._links.outbound import CREDIT_EVERY, WINDOW_MESSAGES
from papyra_contrib.cluster._memory import MemoryTransport
from papyra_contrib.cluster._wire import frames as wire
from papyra_contrib.cluster.testing import MemoryNetwork


@seeded(1)
async def test_c02_half_a_window_goes_out_before_the_other_half_is_sent():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        await ref.ask("get")
        out = b.cluster._session.link(ref._target.peer).out
        posted: list[int] = []
        post = out._post
        out._post = lambda message, ask: (posted.append(len(list(wire.parse(message)))), post(message, ask))
        for _ in range(CREDIT_EVERY):
            await ref.tell(Add(1))
        assert posted == [CREDIT_EVERY]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ref.tell(Add(100))  # it waits for the first half to leave, and is cancelled there
        assert scope.cancelled_caught
        assert await ref.ask("get") == CREDIT_EVERY


@seeded(1)
async def test_c02_senders_that_wait_for_a_half_have_their_places():
    """The actor is slow, so a sender without a place would wait for it behind those that came later."""
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        seen: list[str] = []
        ref = await remote(b, a.spawn(lambda: Recorder(seen, 0.01), mailbox_capacity=1), a)
        for _ in range(CREDIT_EVERY):
            await ref.tell("half")
        began = anyio.current_time()
        seconds: dict[str, float] = {}

        async def send(who: str, times: int) -> None:
            for _ in range(times):
                await ref.tell(who)
            seconds[who] = anyio.current_time() - began

        async with anyio.create_task_group() as group:
            for who in "abcde":
                group.start_soon(send, who, 1)
            await anyio.lowlevel.checkpoint()
            group.start_soon(send, "flood", 600)
        assert seconds.pop("flood") > 1
        assert list(seconds.values()) == [pytest.approx(0, abs=0.01)] * 5
        await ref.ask("end", timeout=60)
        assert sorted(seen) == sorted(["half"] * CREDIT_EVERY + [*"abcde", "end"] + ["flood"] * 600)


@seeded(1)
async def test_c02_halves_to_other_actors_hold_up_nobody():
    """Senders that fill half windows in step, and a tell to an actor that nobody else sends to."""
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        halves = 0
        ends = False

        class Sink(Actor):
            async def receive(self, message: object) -> None:
                pass

        refs = [await remote(b, a.spawn(Sink, mailbox_capacity=None), a) for _ in range(32)]
        quiet = await remote(b, a.spawn(Counter), a)

        async def burst(first: int) -> None:
            nonlocal halves
            while not ends:
                for number in range(CREDIT_EVERY):
                    await refs[(first + halves) % len(refs)].tell(number)
                halves += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            for first in range(2):
                group.start_soon(burst, first)
            for _ in range(20):
                before = halves
                while halves < before + 3:
                    await anyio.lowlevel.checkpoint()
                before = halves
                await quiet.tell("get")
                assert halves - before <= 4
            ends = True


@seeded(1)
async def test_c02_a_link_that_others_made_still_looks_at_the_wire_versions():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        session = b.cluster._session
        await a.cluster.broadcast(COUNTER, "news")
        await until(lambda: session.links)
        session.replica.wire["a"] = (2, 2)
        for send in (ref.tell, ref.ask):
            with pytest.raises(NodeUnreachable, match="2 to 2"):
                await send("get")


class _LimitKnownLate(MemoryTransport):
    """As an engine that learns its limit at the end of `open`, and drops what is larger."""

    async def open(self, node, host) -> None:
        await super().open(node, host)
        await anyio.sleep(0.3)
        self.max_frame = 16 * 1024

    def send(self, peer, frame, *, ask=0) -> None:
        assert len(frame) <= self.max_frame
        super().send(peer, frame, ask=ask)


@seeded(1)
async def test_c02_a_link_that_is_made_during_a_rejoin_keeps_to_the_engines_limit():
    network = MemoryNetwork(1)
    network.transport = lambda: _LimitKnownLate(network._hub)
    async with systems(network, "a", "b") as (a, b):
        seen: list[str] = []
        recorder = a.spawn(lambda: Recorder(seen), mailbox_capacity=None)
        peer = (await remote(b, recorder, a))._target.peer
        watching = b.spawn(Watcher().actor)
        former = b.cluster._session
        network.pause("b")
        await anyio.sleep(3.2)
        network.resume("b")
        await until(lambda: b.cluster._session is not former and b.cluster._session.replica.is_member(peer))
        session = b.cluster._session
        ref = b.ref_for(a.cluster.address(recorder))
        await watching.tell(ref)
        await until(lambda: peer in session.links)
        assert not session.joined
        await until(lambda: session.joined)
        for _ in range(100):
            await ref.tell("x" * 400)
        await until(lambda: len(seen) == 100)


@seeded(1)
async def test_c14_many_requests_for_credit_in_a_message_are_answered_with_one():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter, mailbox_capacity=None), a)
        await ref.ask("get")
        session, posted = a.cluster._session, []
        send = session.transport.send
        session.transport.send = lambda peer, frame, *, ask=0: (
            posted.append(frame),
            send(peer, frame, ask=ask),
        )
        frames = (
            wire.encode(wire.TELL, ref._target.id, b"1", seq=10 + n, wants_credit=True) for n in range(1000)
        )
        session.on_frame(b.cluster._session.me, b"".join(frames))
        assert len(posted) == 1


async def _cancelled_senders(seed: int) -> None:
    rng = random.Random(seed)
    network = MemoryNetwork(seed, delay=(0, 0.003) if seed % 2 else (0, 0))
    async with systems(network, "a", "b") as (a, b):
        seen: list[tuple[int, int]] = []
        capacity = rng.choice([3, 50, None])
        recorder = a.spawn(lambda: Recorder(seen, rng.choice([0, 0.0002])), mailbox_capacity=capacity)
        ref = await remote(b, recorder, a)
        sent: dict[int, list[int]] = {who: [] for who in range(6)}

        async def send(who: int) -> None:
            number = 0
            for _ in range(30):
                with anyio.move_on_after(rng.choice([0, 0.0005, 0.002, 0.01, 1])):
                    for _ in range(rng.choice([1, 20, 128, 129, 300])):
                        number += 1
                        await ref.tell([who, number])
                        sent[who].append(number)

        async with anyio.create_task_group() as group:
            for who in sent:
                group.start_soon(send, who)
        await ref.ask("flush", timeout=20)
        for who, numbers in sent.items():
            assert [message[1] for message in seen if message[0] == who] == numbers
        out = b.cluster._session.link(ref._target.peer).out
        await until(lambda: out.idle)


@pytest.mark.parametrize("seed", range(4))
def test_c03_senders_that_are_cancelled_at_any_time_have_sent_what_returned(backend, seed):
    run_seeded(seed, _cancelled_senders, seed, backend=backend)


@seeded(1)
async def test_c03_all_senders_that_wait_for_an_actor_hear_of_its_end():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):

        class Ends(Actor):
            async def receive(self, message: object) -> None:
                await anyio.sleep(5)
                self.context.stop_self()

        ref = await remote(b, a.spawn(Ends, mailbox_capacity=1), a)
        await b.spawn(Watcher().actor).tell(ref)
        outcomes: list[str] = []

        async def send(number: int) -> None:
            try:
                await ref.tell(number)
            except ActorStopped:
                outcomes.append("stopped")
            else:
                outcomes.append("sent")

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(900):
                    group.start_soon(send, number)
        assert outcomes.count("stopped") >= 900 - 2 * 256
        assert len(outcomes) == 900


@seeded(1)
async def test_c03_senders_that_wait_for_a_window_hear_that_its_node_is_gone():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        await ref.ask("get")
        network.kill("a")
        sent: list[int] = []

        async def send(number: int) -> None:
            try:
                await ref.tell(number)
            except NodeGone:
                return
            sent.append(number)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(WINDOW_MESSAGES + 10):
                    group.start_soon(send, number)
        assert len(sent) == WINDOW_MESSAGES


@seeded(1)
async def test_c01_an_ask_that_waits_for_a_window_ends_with_its_time_out():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        seen: list[object] = []
        slow = a.spawn(lambda: Recorder(seen, 100), mailbox_capacity=1)
        ref = await remote(b, slow, a)
        for number in range(WINDOW_MESSAGES):
            await ref.tell(number)
        began = anyio.current_time()
        with pytest.raises(AskTimeout, match=r"within 0\.5 s"):
            await ref.ask("late", timeout=0.5)
        assert anyio.current_time() - began == pytest.approx(0.5)
        await a.stop(slow, timeout=0)


@seeded(1)
async def test_c02_hundreds_of_asks_one_by_one_are_all_answered():
    """From time to time a sender yields, also if nothing is under way."""
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        assert [await ref.ask(Add()) for _ in range(250)] == list(range(1, 251))


@seeded(1)
async def test_c03_tells_and_broadcasts_wait_for_room_in_the_outbox():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        seen: list[object] = []
        recorder = a.spawn(lambda: Recorder(seen))
        ref = await remote(b, recorder, a)
        await a.cluster.register(COUNTER, recorder)
        await until(lambda: b.cluster.find(COUNTER))
        transport, room = b.cluster._session.transport, anyio.Event()
        transport.has_room = room.is_set
        transport.room = room.wait
        async with anyio.create_task_group() as group:
            group.start_soon(ref.tell, "tell")
            group.start_soon(b.cluster.broadcast, COUNTER, "news")
            await anyio.sleep(60)
            assert seen == []
            room.set()
        await until(lambda: sorted(seen) == ["news", "tell"])
