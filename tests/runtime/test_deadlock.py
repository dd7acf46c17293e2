"""Guarantee 5: a wait that could never end is refused at once, and no other wait ever is."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, AskDeadlock, PapyraError, SupervisorDecision

from .support import Runs, go_round, nothing, running, wait_until


def asks(*path: ActorRef[Any, Any]) -> Callable[[Runs], Awaitable[Any]]:
    """Make a message that asks the first of ``path`` to ask the second to ask the third ..."""

    async def job(_actor: Runs) -> Any:
        if not path:
            return "answer"
        return await path[0].ask(asks(*path[1:]))

    return job


def steps(error: AskDeadlock) -> list[str]:
    """Return the addresses that the cycle names."""
    return [str(step).split(" ", 1)[0] for step in error.cycle]


# -- what is a deadlock


async def test_g05_an_actor_that_asks_itself() -> None:
    async with running() as system:
        ref = system.spawn(Runs, name="narcissus")
        with pytest.raises(AskDeadlock, match="narcissus") as caught:
            await ref.ask(asks(ref))
        assert isinstance(caught.value, PapyraError)
        assert steps(caught.value) == ["local:1", "local:1"]


async def test_g05_it_is_refused_at_once_and_the_actor_may_go_on() -> None:
    async def careful(actor: Runs) -> str:
        with pytest.raises(AskDeadlock):
            await actor.context.self_ref.ask(nothing)
        return "fine"

    async with running() as system:
        ref = system.spawn(Runs)
        assert await ref.ask(careful) == "fine"
        assert await ref.ask(nothing) == "answer"
        assert len(system.dead_letters) == 0


async def test_g05_a_ring_of_two() -> None:
    async with running() as system:
        a, b = system.spawn(Runs, name="a"), system.spawn(Runs, name="b")
        with pytest.raises(AskDeadlock) as caught:
            await a.ask(asks(b, a))
        assert steps(caught.value) == ["local:2", "local:1", "local:2"]


async def test_g05_a_ring_of_three_and_a_tail() -> None:
    async with running() as system:
        tail, a, b, c = (system.spawn(Runs) for _ in range(4))
        with pytest.raises(AskDeadlock) as caught:
            await tail.ask(asks(a, b, c, a))
        assert steps(caught.value) == ["local:4", "local:2", "local:3", "local:4"]


async def test_g05_with_a_timeout_it_is_refused_at_once_too() -> None:
    async def job(actor: Runs) -> None:
        await actor.context.self_ref.ask(nothing, timeout=60)

    async with running() as system:
        with pytest.raises(AskDeadlock):
            await system.spawn(Runs).ask(job)


async def test_g05_through_a_proxy() -> None:
    async def job(actor: Runs) -> None:
        await actor.context.self_ref.proxy().receive(nothing)

    async def read(actor: Runs) -> None:
        await actor.context.self_ref.proxy().number

    async with running() as system:
        ref = system.spawn(Runs, name="a")
        for message in (job, read):
            with pytest.raises(AskDeadlock):
                await ref.ask(message)


async def test_g05_in_on_start_and_on_stop() -> None:
    caught: list[str] = []

    class Asks(Actor):
        async def on_start(self) -> None:
            await self.try_it("on_start")

        async def on_stop(self) -> None:
            await self.try_it("on_stop")

        async def try_it(self, where: str) -> None:
            try:
                await self.context.self_ref.ask(1)
            except (AskDeadlock, ActorStopped) as error:
                caught.append(f"{where} {type(error).__name__}")

    async with running(shutdown_timeout=1) as system:
        system.spawn(Asks)
        await system.wait_for_event(lambda event: type(event).__name__ == "ActorStarted")
    assert caught == ["on_start AskDeadlock", "on_stop ActorStopped"]


async def test_g05_a_full_mailbox_of_its_own() -> None:
    """An actor that tells itself more than its mailbox takes would wait for itself."""

    async def flood(actor: Runs) -> None:
        for _ in range(10):
            await actor.context.self_ref.tell(nothing)

    async with running(shutdown_timeout=1) as system:
        with pytest.raises(AskDeadlock):
            await system.spawn(Runs, mailbox_capacity=3).ask(flood)


async def test_g05_the_stop_of_an_actor_that_waits_for_me() -> None:
    async def stop_b(actor: Runs) -> None:
        await actor.context.stop(b)

    async with running(shutdown_timeout=1) as system:
        a, b = system.spawn(Runs), system.spawn(Runs)

        async def ask_a(_actor: Runs) -> None:
            await a.ask(stop_b)

        with pytest.raises(AskDeadlock):
            await b.ask(ask_a)


async def test_g05_an_ask_to_one_that_waits_for_my_stop() -> None:
    inside = anyio.Event()
    stopping = anyio.Event()

    async def slow(_actor: Runs) -> Any:
        inside.set()
        await stopping.wait()
        return await a.ask(nothing)

    async def stop_b(actor: Runs) -> None:
        await inside.wait()
        stopping.set()
        await actor.context.stop(b)

    async with running(shutdown_timeout=1) as system:
        a, b = system.spawn(Runs), system.spawn(Runs)
        async with anyio.create_task_group() as group:
            group.start_soon(a.ask, stop_b)

            async def ask_b() -> None:
                with pytest.raises(AskDeadlock):
                    await b.ask(slow)

            group.start_soon(ask_b)


async def test_g05_a_child_that_asks_the_parent_which_waits_for_its_stop() -> None:
    results: list[type] = []

    class Child(Runs):
        async def on_stop(self) -> None:
            parent = self.context.parent
            assert parent is not None
            try:
                await parent.ask(nothing)
            except PapyraError as error:
                results.append(type(error))

    async def job(actor: Runs) -> None:
        child = actor.context.spawn_child(Child)
        await child.ask(nothing)
        await actor.context.stop(child)

    async with running(shutdown_timeout=1) as system:
        await system.spawn(Runs).ask(job)
    assert results == [AskDeadlock]


async def test_g05_on_stop_of_a_child_that_asks_its_stopping_parent() -> None:
    results: list[type] = []

    class Child(Actor):
        async def on_stop(self) -> None:
            parent = self.context.parent
            assert parent is not None
            try:
                await parent.ask(1)
            except PapyraError as error:
                results.append(type(error))

    class Parent(Actor):
        async def on_start(self) -> None:
            self.context.spawn_child(Child)

    async with running(shutdown_timeout=1) as system:
        parent = system.spawn(Parent)
        await system.wait_for_event(lambda event: event.address["actor_id"] == 2)
        await system.stop(parent)
    assert results == [ActorStopped]


@pytest.mark.parametrize("first", ["stop", "ask"])
async def test_g05_waiting_for_a_stop_is_waiting_for_everything_below_too(first: str) -> None:
    """A waits for B's stop, B for the stop of its child C, and C for A: a ring, in any order."""
    asking = anyio.Event()
    stopping = anyio.Event()
    busy = anyio.Event()
    results: list[type] = []

    async def c_asks_a(_actor: Runs) -> None:
        if first == "stop":
            await stopping.wait()
            await go_round()
        else:
            await busy.wait()
        asking.set()
        try:
            await a.ask(nothing)
        except PapyraError as error:
            results.append(type(error))

    async def b_starts_c(actor: Runs) -> None:
        await actor.context.spawn_child(Runs).tell(c_asks_a)

    async def a_stops_b(actor: Runs) -> None:
        busy.set()
        if first == "ask":
            await asking.wait()
            await go_round()
        stopping.set()
        try:
            await actor.context.stop(b)
        except PapyraError as error:
            results.append(type(error))

    async with running(shutdown_timeout=1) as system:
        a, b = system.spawn(Runs), system.spawn(Runs)
        await b.ask(b_starts_c)
        await a.ask(a_stops_b)
        assert results == [AskDeadlock]


async def test_g05_asking_the_child_whose_failure_is_being_decided() -> None:
    """The failed child waits for the decision, so the decision can't wait for the child."""
    results: list[object] = []

    async def fail(_actor: Runs) -> None:
        raise ValueError

    class Parent(Runs):
        async def on_child_failure(self, child_ref: ActorRef[Any, Any], exc: Exception) -> SupervisorDecision:
            for wait in (child_ref.ask(nothing), self.context.stop(child_ref)):
                try:
                    results.append(await wait)
                except PapyraError as error:
                    results.append(type(error))
            return SupervisorDecision.RESUME

    async def start(actor: Runs) -> ActorRef[Any, Any]:
        return actor.context.spawn_child(Runs)

    async with running(shutdown_timeout=1) as system:
        child = await system.spawn(Parent).ask(start)
        await child.tell(fail)
        await child.ask(nothing)
    assert results == [AskDeadlock, AskDeadlock]


async def test_g05_two_actors_at_once_one_is_refused_and_both_go_on() -> None:
    """A asks B while B asks A: whichever comes second is refused, and nobody hangs."""
    both = [anyio.Event(), anyio.Event()]
    refused = 0

    def job(me: int) -> Callable[[Runs], Awaitable[Any]]:
        async def run(_actor: Runs) -> None:
            nonlocal refused
            both[me].set()
            await both[1 - me].wait()
            try:
                assert await refs[1 - me].ask(nothing) == "answer"
            except AskDeadlock:
                refused += 1

        return run

    async with running(shutdown_timeout=1) as system:
        refs = [system.spawn(Runs), system.spawn(Runs)]
        async with anyio.create_task_group() as group:
            group.start_soon(refs[0].ask, job(0))
            group.start_soon(refs[1].ask, job(1))
    assert refused == 1


# -- what is none


async def test_g05_a_chain_is_not_a_ring() -> None:
    async with running() as system:
        refs = [system.spawn(Runs) for _ in range(50)]
        assert await refs[0].ask(asks(*refs[1:])) == "answer"
        assert await refs[0].ask(asks(*refs[1:])) == "answer", "nothing of the first time is left"


async def test_g05_asks_one_after_the_other_are_not_a_ring() -> None:
    async def job(_actor: Runs) -> None:
        for _ in range(10):
            assert await b.ask(asks(c)) == "answer"
            assert await c.ask(asks(b)) == "answer"

    async with running() as system:
        a, b, c = (system.spawn(Runs) for _ in range(3))
        await a.ask(job)
        await b.ask(asks(a))


async def test_g05_an_ask_that_was_given_up_does_not_wait_any_more() -> None:
    release = anyio.Event()

    async def slow(_actor: Runs) -> None:
        await release.wait()

    async def job(_actor: Runs) -> str:
        with anyio.move_on_after(0.01):
            await b.ask(slow)
        with pytest.raises(TimeoutError):
            await b.ask(slow, timeout=0.01)
        # `b` is busy with what is not waited for any more, and asks back: no ring.
        await b.tell(asks(a))
        release.set()
        return "given up"

    async with running() as system:
        a, b = system.spawn(Runs), system.spawn(Runs)
        assert await a.ask(job) == "given up"
        assert await b.ask(asks(a)) == "answer"
        assert await a.ask(asks(b)) == "answer"


async def test_g05_tell_is_never_refused_while_there_is_room() -> None:
    async def job(actor: Runs) -> None:
        await actor.context.self_ref.tell(nothing)
        await b.ask(tell_a)

    async def tell_a(_actor: Runs) -> None:
        await a.tell(nothing)

    async with running() as system:
        a, b = system.spawn(Runs), system.spawn(Runs)
        await a.ask(job)
        assert await a.ask(nothing) == "answer"


async def test_g05_a_task_of_the_actors_own_may_ask_the_actor() -> None:
    """`receive` does not wait for the task, so its ask is answered after this message."""
    answers: list[str] = []

    async with ActorSystem() as system, anyio.create_task_group() as group:

        async def ask(ref: ActorRef[Any, Any]) -> None:
            answers.append(await ref.ask(nothing))

        async def job(actor: Runs) -> None:
            group.start_soon(ask, actor.context.self_ref)
            await go_round()

        with anyio.fail_after(5):
            await system.spawn(Runs).ask(job)
            await wait_until(lambda: answers == ["answer"])


async def test_g05_an_ask_from_a_task_that_receive_waits_for_is_not_refused() -> None:
    """The guarantee says "from any other task": it is not refused, even if it can't be answered."""
    outcome: list[str] = []

    async def ask(ref: ActorRef[Any, Any], seconds: float) -> None:
        with anyio.move_on_after(seconds) as scope:
            await ref.ask(nothing)
        outcome.append("timed out" if scope.cancelled_caught else "answered")

    async def job(actor: Runs) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, actor.context.self_ref, 0.05)
            group.start_soon(ask, other, 60)

    async with running() as system:
        other = system.spawn(Runs)
        await system.spawn(Runs).ask(job)
    assert sorted(outcome) == ["answered", "timed out"]


async def test_g05_many_asks_at_once_from_tasks_of_an_actor() -> None:
    """Tasks of A ask B and C while B asks C: A itself waits for none of them."""

    async def job(_actor: Runs) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(b.ask, asks(c))
                group.start_soon(c.ask, nothing)

    async with running() as system:
        a, b, c = (system.spawn(Runs) for _ in range(3))
        await a.ask(job)


async def test_g05_stopping_an_actor_that_waits_for_nobody() -> None:
    async def stop_b(actor: Runs) -> None:
        await actor.context.stop(b)

    async with running() as system:
        a, b = system.spawn(Runs), system.spawn(Runs)
        await a.ask(stop_b)
        assert not b.is_alive()
        assert await a.ask(nothing) == "answer"


async def test_g05_a_child_may_ask_its_parent_while_the_parent_is_idle() -> None:
    async def start(actor: Runs) -> ActorRef[Any, Any]:
        return actor.context.spawn_child(Runs)

    async with running() as system:
        parent = system.spawn(Runs)
        child = await parent.ask(start)
        assert await child.ask(asks(parent)) == "answer"
        with pytest.raises(AskDeadlock):
            await child.ask(asks(parent, child))


async def test_g05_a_restart_forgets_whom_the_old_instance_waited_for() -> None:
    async def fail_while_asking(_actor: Runs) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(b.ask, nothing)
            raise ValueError

    async with running() as system:
        a, b = system.spawn(Runs, name="a"), system.spawn(Runs, name="b")
        await a.tell(fail_while_asking)
        assert await b.ask(asks(a)) == "answer"


# -- random topologies


@pytest.mark.parametrize("seed", range(30))
async def test_g05_one_chain_of_asks_against_an_oracle(seed: int) -> None:
    """A chain of asks is refused exactly where it comes back to an actor that is in it already."""
    rng = random.Random(seed)
    size = rng.randrange(1, 8)
    async with running(shutdown_timeout=1) as system:
        refs = [system.spawn(Runs, name=f"n{number}") for number in range(size)]
        for _ in range(10):
            path = [rng.randrange(size) for _ in range(rng.randrange(1, 9))]
            repeated = next((i for i, step in enumerate(path) if step in path[:i]), None)

            async def walk(index: int, path: list[int] = path) -> Any:
                async def job(_actor: Runs) -> Any:
                    if rng.random() < 0.3:
                        await anyio.lowlevel.checkpoint()
                    return await walk(index + 1)

                if index == len(path):
                    return "answer"
                try:
                    return await refs[path[index]].ask(job)
                except AskDeadlock as error:
                    return f"refused {index} {','.join(steps(error))}"

            result = await walk(0)
            if repeated is None:
                assert result == "answer", path
            else:
                ring = path[path.index(path[repeated]) : repeated]
                names = [f"local:{ring[-1] + 1}", *(f"local:{step + 1}" for step in ring)]
                assert result == f"refused {repeated} {','.join(names)}", path


@pytest.mark.parametrize("seed", range(10))
async def test_g05_no_false_alarm_where_no_ring_is_possible(seed: int) -> None:
    """Every actor asks only those above it, many at once: there is no ring, and no refusal."""
    rng = random.Random(seed)
    size = 12

    def job(me: int, depth: int) -> Callable[[Runs], Awaitable[int]]:
        async def run(_actor: Runs) -> int:
            count = 1
            while depth and me < size - 1 and rng.random() < 0.7:
                other = rng.randrange(me + 1, size)
                try:
                    if rng.random() < 0.2:
                        await refs[other].tell(job(other, depth - 1))
                    elif rng.random() < 0.2:
                        with anyio.move_on_after(0.001):
                            await refs[other].ask(job(other, depth - 1))
                    else:
                        count += await refs[other].ask(job(other, depth - 1))
                except ActorStopped:
                    return count  # the newest stop first, in the end
            return count

        return run

    async with running(shutdown_timeout=1) as system:
        refs = [system.spawn(Runs, name=f"n{number}", mailbox_capacity=2) for number in range(size)]
        async with anyio.create_task_group() as group:
            for _ in range(30):
                start = rng.randrange(size)
                group.start_soon(refs[start].ask, job(start, 4))
        await system.stop_all()
        assert len(system.events()) == 2 * size
        crashes = [event for event in system.events() if type(event).__name__ == "ActorCrashed"]
        assert crashes == []


@pytest.mark.parametrize("seed", range(10))
async def test_g05_any_topology_ends_and_every_alarm_names_a_real_ring(seed: int) -> None:
    rng = random.Random(seed)
    size = 5
    alarms: list[list[str]] = []
    foreign: list[AskDeadlock] = []
    ended = 0

    def job(me: int, depth: int) -> Callable[[Runs], Awaitable[None]]:
        async def run(_actor: Runs) -> None:
            for _ in range(rng.randrange(3)):
                other = rng.randrange(size)
                try:
                    if depth:
                        await refs[other].ask(job(other, depth - 1))
                    else:
                        await anyio.lowlevel.checkpoint()
                except AskDeadlock as error:
                    alarms.append(steps(error))
                    foreign.extend([error] if steps(error)[0] != f"local:{me + 1}" else [])

        return run

    async def start(number: int) -> None:
        nonlocal ended
        await refs[number].ask(job(number, 4))
        ended += 1

    async with running(shutdown_timeout=1) as system:
        refs = [system.spawn(Runs) for _ in range(size)]
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(start, number % size)
    assert ended == 40
    assert alarms
    assert foreign == [], "each alarm is about the asker's own ring"
    for ring in alarms:
        assert ring[0] == ring[-1]
        assert len(set(ring)) == len(ring) - 1


@pytest.mark.parametrize("seed", range(10))
async def test_g05_stops_and_full_mailboxes_in_any_topology_end(seed: int) -> None:
    """Asks, tells to tiny mailboxes and stops of each other, at random: everything ends by itself."""
    rng = random.Random(seed)
    size = 6

    def job(depth: int) -> Callable[[Runs], Awaitable[None]]:
        async def run(actor: Runs) -> None:
            for _ in range(rng.randrange(1, 4)):
                other = rng.choice(refs)
                choice = rng.random()
                try:
                    if choice < 0.1 and depth:
                        refs[refs.index(other)] = system.spawn(Runs, mailbox_capacity=1)
                        await actor.context.stop(other)
                    elif choice < 0.2 and depth:
                        child = actor.context.spawn_child(Runs)
                        await child.tell(job(depth - 1))
                        await actor.context.stop(child)
                    elif choice < 0.6 and depth:
                        await other.ask(job(depth - 1))
                    elif depth:
                        await other.tell(job(depth - 1))
                    else:
                        await anyio.lowlevel.checkpoint()
                except PapyraError:
                    pass

        return run

    async with running(shutdown_timeout=60) as system:
        refs = [system.spawn(Runs, mailbox_capacity=1) for _ in range(size)]

        async def start() -> None:
            with contextlib.suppress(ActorStopped):
                await rng.choice(refs).ask(job(4))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(start)
        await system.stop_all()
