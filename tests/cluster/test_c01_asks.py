"""Promise 1: an ask returns or raises what the actor does, and it always ends."""

from __future__ import annotations

import anyio
import pytest
from _world import Add, Counter, Refused, Unregistered, loop_of, remote, seeded, systems, until

from papyra import ActorStopped, ActorSystem, AskTimeout
from papyra.testing import run_seeded
from papyra_contrib.cluster import MessageRejected, NodeGone, NodeUnreachable, RemoteFailure
from papyra_contrib.cluster.testing import MemoryNetwork

SEEDS = 200


@seeded(1)
async def test_c01_an_ask_returns_or_raises_what_the_actor_does():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        counter = a.spawn(Counter, name="counter")
        ref = await remote(b, counter, a)
        assert await ref.ask(Add(3)) == 3
        assert await ref.ask("get", timeout=1) == 3
        with pytest.raises(ValueError, match="no good"):
            await ref.ask("value error")
        with pytest.raises(KeyError) as key_error:
            await ref.ask("key error")
        assert key_error.value.args == ("k",)
        with pytest.raises(Refused, match="not today"):
            await ref.ask("refused")


@seeded(1)
async def test_c01_other_exceptions_are_a_remote_failure():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter, name="counter"), a)
        with pytest.raises(RemoteFailure, match="very") as failure:
            await ref.ask("strange")
        assert failure.value.type_name == "Strange"
        with pytest.raises(MessageRejected) as rejected:
            await ref.ask("unregistered")  # a reply that can't travel; the actor does not fail
        assert rejected.value.code == "unregistered"
        assert ref.is_alive()
        assert await ref.ask("get") == 0


@seeded(1)
async def test_c01_what_cannot_travel_is_rejected_at_the_sender():
    async with systems(MemoryNetwork(1), "a", "b", max_message=1000) as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        for message, code in [
            (Unregistered(), "unregistered"),
            ({1: 2}, "invalid"),
            ((1, 2), "unregistered"),
            (float("nan"), "invalid"),
            (1 << 64, "invalid"),
            ("\ud800", "invalid"),
            ("x" * 2000, "too_large"),
        ]:
            with pytest.raises(MessageRejected) as rejected:
                await ref.tell(message)
            assert rejected.value.code == code
        assert await ref.ask("get") == 0


@seeded(1)
async def test_c01_a_stopped_actor_leaves_one_dead_letter_and_later_tells_raise():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        counter = a.spawn(Counter)
        ref = await remote(b, counter, a)
        await a.stop(counter)
        with pytest.raises(ActorStopped):
            await ref.ask("get")
        assert a.dead_letters.count == 1
        await until(lambda: not ref.is_alive())
        with pytest.raises(ActorStopped):
            await ref.tell("late")
        assert a.dead_letters.count == 1


@seeded(1)
async def test_c01_the_cluster_has_a_time_out_of_its_own():
    async with systems(MemoryNetwork(1), "a", "b", ask_timeout=2.0) as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        began = anyio.current_time()
        with pytest.raises(AskTimeout):
            await ref.ask("sleep")
        assert 1.9 < anyio.current_time() - began < 2.5
        with pytest.raises(AskTimeout):
            await ref.ask("get", timeout=0.5)
        await a.stop(a.refs()[0], timeout=0)


@seeded(1)
async def test_c01_stop_and_proxy_are_type_errors():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        with pytest.raises(TypeError, match="send it a message"):
            ref.proxy()
        for call in (ref.pending, lambda: ref.tell_nowait("x")):
            with pytest.raises(TypeError, match="send it a message"):
                call()
        for stop in (lambda: b.stop(ref), ref.stop):
            with pytest.raises(TypeError, match="send it a message"):
                await stop()
        assert await ref.request("get") == 0


@seeded(1)
async def test_h16_what_only_an_actors_own_node_can_do_is_a_clear_error():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b), ActorSystem(system_id="alone") as alone:
        ref = await remote(b, a.spawn(Counter), a)
        for call in (lambda: b.spawn(Counter, parent=ref), lambda: b.actor_info(ref)):
            with pytest.raises(TypeError, match="only its own node can stop or inspect it"):
                call()
        with pytest.raises(ValueError, match="belongs to a different actor system, not to 'alone'"):
            await alone.stop(ref)


async def _asks_under_faults(seed: int) -> dict[str, int]:
    network = MemoryNetwork(seed, loss=0.1, duplicate=0.1, delay=(0.0, 0.05))
    ends: dict[str, int] = {}
    async with systems(network, "a", "b", "c", ask_timeout=3.0) as (a, b, c):
        counter = a.spawn(Counter, name="counter")
        refs = [await remote(system, counter, a) for system in (b, c)]

        async def ask(ref, number: int) -> None:
            await anyio.sleep(number * 0.2)
            try:
                await ref.ask(Add(), timeout=None if number % 2 else 2.0)
                end = "reply"
            except (ActorStopped, AskTimeout, NodeGone, NodeUnreachable) as error:
                end = type(error).__name__
            ends[end] = ends.get(end, 0) + 1

        async with anyio.create_task_group() as group:
            for number in range(30):
                for ref in refs:
                    group.start_soon(ask, ref, number)
            fault = seed % 4
            await anyio.sleep(2.0)
            if fault == 0:
                network.pause("a")
                await anyio.sleep(5.0)
                network.resume("a")
            elif fault == 1:
                network.kill("a")
            elif fault == 2:
                network.restart(1.0)
            else:
                network.partition({"a"}, {"b", "c"})
                await anyio.sleep(5.0)
                network.heal()
    return ends


@pytest.mark.parametrize("block", range(1))
def test_c01_asks_always_end_under_faults(backend, block):
    for seed in range(block * 6, block * 6 + 6):
        ends = run_seeded(seed, _asks_under_faults, seed, backend=backend)
        assert sum(ends.values()) == 60, (seed, ends)
        assert ends.get("reply", 0) > 5, (seed, ends)


@pytest.mark.sweep
def test_c01_asks_always_end_in_200_seeds():
    for seed in range(SEEDS):
        ends = run_seeded(seed, _asks_under_faults, seed, backend=loop_of(seed))
        assert sum(ends.values()) == 60, (seed, ends)
