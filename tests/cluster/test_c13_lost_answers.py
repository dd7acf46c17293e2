"""Promises 11, 12 and 13 when an answer of the registry is lost: was it done, or not, or will it be later?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from _world import COUNTER, Counter, seeded, systems, until

from papyra import ActorSystem
from papyra.exceptions import ActorNameTaken
from papyra_contrib.cluster import ClusterUnavailable, Conflict, Entry, NodeId, NodeUnreachable
from papyra_contrib.cluster._registry.joining import IncarnationSpentError, claim_membership
from papyra_contrib.cluster._registry.members import member_value
from papyra_contrib.cluster._transport import no_answer
from papyra_contrib.cluster.testing import MemoryNetwork


class Registry:
    """Lets a test decide what becomes of the writes to one key."""

    def __init__(self, network: MemoryNetwork, key: str) -> None:
        self.key = key
        self.fate: Callable[[Callable[[], Any]], Any] = lambda request: request()
        self.kept: list[Callable[[], Any]] = []
        self._write = network._hub.write
        network._hub.write = self.write  # type: ignore[method-assign]  # the test is the network

    def write(self, node: str, key: str, request: Callable[[], Any]) -> Any:
        return self.fate(request) if key == self.key else self._write(node, key, request)

    def lose_one_answer(self, request: Callable[[], Any]) -> Any:
        request()
        self.fate = lambda request: request()
        raise no_answer("writing", self.key)

    def lose_one_request(self, _request: Callable[[], Any]) -> Any:
        self.fate = lambda request: request()
        raise no_answer("writing", self.key)

    def keep(self, request: Callable[[], Any]) -> Any:
        self.kept.append(request)
        raise no_answer("writing", self.key)

    def deliver(self) -> None:
        self.fate = lambda request: request()
        for request in self.kept:
            with pytest.raises(Conflict):  # nobody waits for it any more
                request()


@seeded(1)
async def test_c13_the_network_loses_requests_and_answers_and_brings_some_late():
    hub = MemoryNetwork(3, loss=1.0)._hub
    outcomes = set()
    for number in range(60):
        with pytest.raises(ConnectionError, match="may have been done or not"):
            hub.write("a", key := f"s.x.a.{number}", lambda key=key: hub.put("a", key, b"1", 0, None))
        before = hub.read(key) is not None
        await anyio.sleep(3.1)
        outcomes.add((before, hub.read(key) is not None))
    assert outcomes == {(False, False), (True, True), (False, True)}
    hub.background.close()


@seeded(1)
async def test_c13_a_join_whose_first_answer_is_lost_is_not_taken_for_another_node():
    network = MemoryNetwork(1)
    registry = Registry(network, "n.a")
    async with systems(network, "b") as (b,):
        crashed = ActorSystem(system_id="a", cluster=network.cluster())
        await crashed.start()
        network.kill("a")
        registry.fate = registry.lose_one_answer  # that of the first put that is done
        async with ActorSystem(system_id="a", cluster=network.cluster()) as a:
            await a.cluster.register(COUNTER, a.spawn(Counter))
            await until(lambda: len(b.cluster.find(COUNTER)) == 1)
            await anyio.sleep(10)
            assert len(b.cluster.find(COUNTER)) == 1
        ups = [e for e in b.events() if type(e).__name__ == "NodeUp" and e.payload["node"] == "a"]
        assert len(ups) == 2
        await crashed.aclose()


@seeded(1)
async def test_c13_a_renewal_whose_answer_is_lost_does_not_end_the_lease():
    network = MemoryNetwork(1)
    registry = Registry(network, "n.a")
    async with systems(network, "a", "b") as (a, b):
        for _ in range(5):
            registry.fate = registry.lose_one_answer
            await anyio.sleep(1.5)
        for system in (a, b):
            assert [e for e in system.events() if type(e).__name__ == "NodeDown"] == []


@seeded(1)
async def test_c11_a_late_release_does_not_end_the_next_claim_of_the_same_actor():
    network = MemoryNetwork(1)
    registry = Registry(network, "a.boss")
    async with systems(network, "a", "b", lease=60, join_timeout=2.0) as (a, b):
        counter = a.spawn(Counter)
        first = await a.cluster.claim("boss", counter)
        registry.fate = registry.keep
        with pytest.raises(ClusterUnavailable):
            await a.cluster.release("boss")
        registry.fate = lambda request: request()
        assert await a.cluster.claim("boss", counter) > first
        registry.deliver()
        await anyio.sleep(1)
        assert b.cluster.lookup("boss") is not None


@seeded(1)
async def test_c11_a_release_that_tries_again_does_not_end_the_next_claim_of_the_same_actor():
    network = MemoryNetwork(1)
    registry = Registry(network, "a.boss")
    async with systems(network, "a", "b") as (a, b):
        await a.cluster.claim("boss", counter := a.spawn(Counter))
        registry.fate = registry.lose_one_request
        async with anyio.create_task_group() as group:
            group.start_soon(a.cluster.release, "boss")
            await anyio.sleep(0.03)
            await a.cluster.claim("boss", counter)
        assert network._hub.read("a.boss") is not None
        with pytest.raises(ActorNameTaken):
            await b.cluster.claim("boss", b.spawn(Counter))


@seeded(1)
async def test_c11_a_name_that_is_claimed_anew_is_not_free_for_another_actor_of_the_node():
    network = MemoryNetwork(1)
    registry = Registry(network, "a.boss")
    async with systems(network, "a", "b", "c") as (a, b, _):
        await a.cluster.claim("boss", counter := a.spawn(Counter))
        registry.fate = registry.keep
        network.partition({"a"}, {"b", "c"})
        await until(lambda: not a.cluster._session.joined)
        network.heal()
        await until(lambda: a.cluster._session.joined)
        registry.fate = lambda request: request()
        with pytest.raises(ActorNameTaken):
            await a.cluster.claim("boss", a.spawn(Counter))
        await until(lambda: b.cluster.lookup("boss") is not None)
        assert b.cluster.lookup("boss").address.actor_id == counter.address.actor_id


@seeded(1)
async def test_c11_a_name_that_the_registry_has_lost_is_claimed_anew():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        counter = a.spawn(Counter)
        fence = await a.cluster.claim("boss", counter)
        network._hub.end("a", "a.boss", fence.revision)
        await until(lambda: b.cluster.lookup("boss") is None)
        await until(lambda: b.cluster.lookup("boss") is not None)
        assert await b.cluster.lookup("boss").ask("get") == 0


@seeded(1)
async def test_c12_a_claim_that_was_completed_without_an_answer_is_given_up():
    network = MemoryNetwork(1)
    async with systems(network, "a") as (a,):
        registrar = a.cluster._singletons.registrar
        first = await registrar.claim("sole", 0)
        await registrar.complete_claim("sole", first, 7)
        await registrar.end_key("a.sole", first.matches)  # all that the node knows, if the answer was lost
        assert network._hub.read("a.sole") is None


@seeded(1)
async def test_c13_an_old_answer_does_not_remove_what_was_put_meanwhile():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        counter = a.spawn(Counter)
        await a.cluster.claim("boss", counter)
        transport = a.cluster._session.transport
        get = transport.get
        gone = anyio.Event()

        async def slow(key: str) -> Any:
            found = await get(key)
            if key == "a.boss" and found is None:
                gone.set()
                await anyio.sleep(1)
            return found

        transport.get = slow  # type: ignore[method-assign]  # the test is the network
        network._hub.end("a", "a.boss", network._hub.read("a.boss").revision)
        async with anyio.create_task_group() as group:
            group.start_soon(a.cluster.release, "boss")
            await gone.wait()
            await b.cluster.claim("boss", b.spawn(Counter))
        assert a.cluster.lookup("boss") is not None


@seeded(1)
async def test_c13_a_join_without_an_answer_for_a_lease_is_under_another_incarnation():
    network = MemoryNetwork(1)
    registry = Registry(network, "n.a")
    async with systems(network, "b") as (b,):

        def done(request: Callable[[], Any]) -> Any:
            request()
            registry.fate = registry.keep
            network._hub._later(3.5, lambda: setattr(registry, "fate", lambda request: request()))
            raise no_answer("writing", registry.key)

        registry.fate = done  # others see it come, and go after a lease
        async with ActorSystem(system_id="a", cluster=network.cluster()) as a:
            await until(lambda: a.cluster.me in b.cluster.members())
        ups = [e.payload["incarnation"] for e in b.events() if type(e).__name__ == "NodeUp"]
        assert len(set(ups)) == 3  # b, and two of a


@seeded(1)
async def test_c13_a_service_whose_answer_is_lost_is_offered_although_no_follower_shows_it_yet():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        counter = a.spawn(Counter)
        registry = Registry(network, f"s.counter.a.{counter.address.actor_id}")
        registry.fate = registry.lose_one_answer
        a.cluster._session.transport.follow = lambda change, delay: None
        await a.cluster.register(COUNTER, counter)
        assert a.cluster.find(COUNTER) == (counter,)
        await until(lambda: len(b.cluster.find(COUNTER)) == 1)


@pytest.mark.parametrize("act", ["register", "settle"])
@seeded(1)
async def test_c13_a_service_that_is_withdrawn_before_its_put_is_done_is_not_offered(act):
    network = MemoryNetwork(1)
    async with systems(network, "a") as (a,):
        counter = a.spawn(Counter)
        registry = Registry(network, key := f"s.counter.a.{counter.address.actor_id}")
        if act == "settle":
            await a.cluster.register(COUNTER, counter)
            network._hub.end("a", key, network._hub.read(key).revision)
            await until(lambda: a.cluster.find(COUNTER) == ())
        registry.fate = registry.lose_one_request
        async with anyio.create_task_group() as group:
            if act == "register":
                group.start_soon(a.cluster.register, COUNTER, counter)
            else:
                group.start_soon(a.cluster.settle)
            await anyio.sleep(0.03)
            await a.cluster.withdraw(COUNTER, counter)
        assert network._hub.read(key) is None
        assert a.cluster.find(COUNTER) == ()


@seeded(1)
async def test_c11_a_name_that_is_released_while_it_is_claimed_anew_is_free():
    network = MemoryNetwork(1)
    registry = Registry(network, "a.boss")
    async with systems(network, "a", "b") as (a, b):
        await a.cluster.claim("boss", a.spawn(Counter))
        network._hub.end("a", "a.boss", network._hub.read("a.boss").revision)
        await until(lambda: a.cluster.lookup("boss") is None)
        registry.fate = registry.lose_one_request
        async with anyio.create_task_group() as group:
            group.start_soon(a.cluster.settle)
            await anyio.sleep(0.03)
            await a.cluster.release("boss")
        assert network._hub.read("a.boss") is None
        await b.cluster.claim("boss", b.spawn(Counter))


@seeded(1)
async def test_c12_a_claim_is_completed_after_a_lost_request_and_not_if_it_is_gone():
    network = MemoryNetwork(1)
    registry = Registry(network, "a.sole")
    async with systems(network, "a", "b") as (a, b):
        registrar = a.cluster._singletons.registrar
        first = await registrar.claim("sole", 0)
        registry.fate = registry.lose_one_request
        completed = await registrar.complete_claim("sole", first, number := a.spawn(Counter).address.actor_id)
        assert completed.fence == first.fence
        await until(lambda: b.cluster.lookup("sole") is not None)
        assert b.cluster.lookup("sole").address.actor_id == number
        await registrar.end_key("a.sole", completed.matches)
        await b.cluster.claim("sole", b.spawn(Counter))
        with pytest.raises(ActorNameTaken, match="another node"):
            await registrar.complete_claim("sole", first, number)


@pytest.mark.parametrize(("follows", "reason"), [(True, "left"), (False, "another node has the key")])
@seeded(1)
async def test_c07_a_node_whose_lease_somebody_else_ended_lets_go_and_joins_anew(follows, reason, caplog):
    network = MemoryNetwork(1)
    async with systems(network, "a", "b") as (a, b):
        former = a.cluster._session
        if not follows:
            former.transport.follow = lambda change, delay: None
        network._hub.end("b", "n.a", network._hub.read("n.a").revision)
        await until(lambda: former.closed)
        assert f"node {former.me} has lost its membership ({reason}" in caplog.text
        await until(lambda: a.cluster._session.joined and a.cluster.me in b.cluster.members())
        assert a.cluster.me.incarnation != former.me.incarnation
        downs = [e.payload for e in a.events() if type(e).__name__ == "NodeDown"]
        assert downs == [{"node": "a", "incarnation": former.me.incarnation, "reason": "lost"}]
        assert {record.levelname for record in caplog.records} == {"WARNING"}


@seeded(1)
async def test_c13_a_message_to_a_node_that_is_not_known_ends_if_this_node_lets_go_meanwhile():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", "c") as (a, *_):
        session = a.cluster._session

        async def slow(key: str) -> Any:
            await until(lambda: session.closed)

        session.transport.get = slow
        network.partition({"a"}, {"b", "c"})
        with pytest.raises(NodeUnreachable, match="it rejoins automatically"):
            await a.ref_for("nobody@0123456789ab:1").tell("news")


ME = NodeId("a", "0" * 12)


def lease_of(incarnation: str, revision: int) -> Entry:
    return Entry("n.a", member_value(NodeId("a", incarnation), 1.0, "host", 1, "1"), revision)


class Script:
    """A registry that answers the requests of a join with what a test lists, each after some seconds."""

    lease_seconds = 3

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def unix_time(self) -> float:
        return 1.0

    async def answer(self, *_: Any) -> Any:
        seconds, answer = self.answers.pop(0)
        await anyio.sleep(seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer

    hold = get = answer


@pytest.mark.parametrize(
    "between",
    [
        [(0, None)],  # the lease of a predecessor has just expired
        [(0, lease_of(ME.incarnation, 5))],  # an earlier attempt of this join has just succeeded
        [(0, no_answer("reading", "n.a"))],
        [(0, lease_of("1" * 12, 5)), (0, Conflict("n.a")), (0, lease_of("1" * 12, 5))],  # it expires soon
    ],
)
@seeded(1)
async def test_c13_a_join_that_meets_a_lease_tries_again(between):
    registry = Script((0, Conflict("n.a")), *between, (0, "the lease"))
    assert await claim_membership(registry, ME, 1.0, None) == "the lease"
    assert registry.answers == []


@seeded(1)
async def test_c13_a_join_does_not_use_an_incarnation_that_may_have_expired():
    registry = Script((0, no_answer("writing", "n.a")), (4, "a lease that came late"))
    with pytest.raises(IncarnationSpentError, match="did not answer whether a@000000000000 is a member"):
        await claim_membership(registry, ME, 10.0, None)


@seeded(1)
async def test_c13_a_join_over_a_lease_that_nobody_renews_and_that_does_not_end_gives_up():
    """As an administrator may write it, without a time to live."""
    network = MemoryNetwork(1)
    async with systems(network, "b"):
        network._hub.put("b", "n.a", b"{}", 0, None)
        began = anyio.current_time()
        a = ActorSystem(system_id="a", cluster=network.cluster(join_timeout=2.0))
        with pytest.raises(ClusterUnavailable, match="did not answer within 2 s"):
            await a.start()
        assert anyio.current_time() - began == pytest.approx(2 + 3, abs=0.2)
        await a.aclose()


@seeded(1)
async def test_c16_a_request_without_an_answer_ends_with_the_membership():
    network = MemoryNetwork(1)
    async with systems(network, "b"):
        a = ActorSystem(system_id="a", cluster=network.cluster())
        await a.start()
        counter = a.spawn(Counter)
        registry = Registry(network, f"s.counter.a.{counter.address.actor_id}")
        registry.fate = registry.keep

        async def register() -> None:
            with pytest.raises(ClusterUnavailable, match="not a member of the cluster now"):
                await a.cluster.register(COUNTER, counter)

        async with anyio.create_task_group() as group:
            group.start_soon(register)
            await anyio.sleep(1)
            began = anyio.current_time()
            await a.aclose()
        assert anyio.current_time() - began < 1


@seeded(1)
async def test_c16_a_network_in_memory_forgets_old_changes_of_its_registry():
    hub = MemoryNetwork(1)._hub
    revision = 0
    for _ in range(2_500):
        revision = hub.put("a", "a.boss", b"1", revision, None)
    assert len(hub._log) <= 2_000
    assert hub._log[-1].change.revision == revision
    hub.background.close()
