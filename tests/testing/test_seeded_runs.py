"""The seeded scheduler, and the runtime's own guarantees under thousands of its schedules."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
from collections import Counter, defaultdict
from functools import partial
from typing import Literal

import anyio
import anyio.lowlevel
import pytest

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    ActorTerminated,
    AskDeadlock,
    AskTimeout,
    Backoff,
    Strategy,
    SupervisionPolicy,
    SupervisorDecision,
)
from papyra.events import ActorRestarted
from papyra.persistence import InMemoryPersistence, RetentionPolicy
from papyra.testing import SimulationDeadlock, explore, run_seeded

Loop = Literal["asyncio", "trio"]


class Teller(Actor):
    """Tells each of its peers a few times."""

    log: list[str]
    done: anyio.Event

    async def receive(self, message: tuple[str, list[ActorRef], int]) -> None:
        name, peers, hops = message
        self.log.append(f"{name}{hops}")
        if len(self.log) == 39:  # three names, each told 1 + 3 + 9 times
            self.done.set()
        if hops:
            for peer in peers:
                await peer.tell((name, peers, hops - 1))


def trace(seed: int, loop: Loop) -> list[str]:
    """Run one scenario and return the order in which messages were handled."""
    log: list[str] = []

    async def main() -> None:
        class Logged(Teller):
            pass

        Logged.log, Logged.done = log, anyio.Event()
        async with ActorSystem() as system:
            refs = [system.spawn(Logged, mailbox_capacity=None) for _ in range(3)]
            for name, ref in zip("abc", refs, strict=True):
                await ref.tell((name, refs, 2))
            await Logged.done.wait()

    run_seeded(seed, main, backend=loop)
    return log


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_the_same_seed_is_the_same_interleaving(loop: Loop) -> None:
    for seed in range(20):
        assert trace(seed, loop) == trace(seed, loop)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_different_seeds_are_different_interleavings(loop: Loop) -> None:
    assert len({tuple(trace(seed, loop)) for seed in range(20)}) > 10


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_what_is_cancelled_together_ends_in_an_order_of_the_seed(loop: Loop) -> None:
    """Sets of tasks and of cancel scopes have an order that depends on addresses, unless it is seen to."""

    def run() -> list[str]:
        order: list[str] = []

        async def sleeps(name: str, *, in_a_scope: bool) -> None:
            try:
                if in_a_scope:
                    with anyio.CancelScope():
                        await anyio.sleep(100)
                await anyio.sleep(100)
            finally:
                order.append(name)

        class Pipes(Actor):
            async def receive(self, message: str) -> None:
                for number in range(6):
                    self.context.pipe_to_self(
                        partial(sleeps, f"pipe {number}", in_a_scope=False), order.append
                    )
                async with anyio.create_task_group() as group:
                    for number in range(6):
                        group.start_soon(partial(sleeps, f"child {number}", in_a_scope=number % 2 == 0))
                    await anyio.sleep(1)
                    group.cancel_scope.cancel()

        async def main() -> None:
            async with ActorSystem() as system:
                ref = system.spawn(Pipes)
                await ref.ask("go")
                await system.stop(ref)
                async with anyio.create_task_group() as group:
                    for number in range(12):
                        group.start_soon(partial(sleeps, f"task {number}", in_a_scope=number % 2 == 0))
                    await anyio.sleep(1)
                    group.cancel_scope.cancel()

        run_seeded(1, main, backend=loop)
        return order

    holes, orders = random.Random(1), []
    for _ in range(20):
        # Objects are made in the holes that others left, and so at addresses of another order in each run.
        blocks: list[bytes | None] = [bytes(16 * (number % 32)) for number in range(5_000)]
        for number in holes.sample(range(5_000), 2_500):
            blocks[number] = None
        orders.append(run())
    assert len(orders[0]) == 24
    assert orders == [orders[0]] * 20


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_time_is_virtual(loop: Loop) -> None:
    async def main() -> float:
        began = anyio.current_time()
        async with ActorSystem() as system:
            ref = system.spawn(Sleeper)
            with pytest.raises(AskTimeout):
                await ref.ask(7200.0, timeout=3600.0)
        return anyio.current_time() - began

    # One hour of waiting for the reply, ten seconds of shutdown_timeout for the actor that still sleeps.
    assert run_seeded(1, main, backend=loop) == pytest.approx(3610.0)


class Sleeper(Actor):
    async def receive(self, seconds: float) -> None:
        await anyio.sleep(seconds)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_test_that_cannot_go_on_gets_an_error_that_says_so(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("papyra.testing.seeded._IO_PATIENCE_SECONDS", 0.05)

    async def main() -> None:
        await anyio.Event().wait()

    with pytest.raises(SimulationDeadlock, match="nothing can happen"):
        run_seeded(1, main, backend=loop)


def test_a_thread_that_ends_while_nothing_else_happens_is_waited_for() -> None:
    main_thread = threading.get_ident()

    def work() -> str:
        while sys._current_frames()[main_thread].f_code.co_name != "select":
            pass
        return "done"

    async def main() -> str:
        return await anyio.to_thread.run_sync(work)

    assert run_seeded(1, main) == "done"


class Odd(Actor):
    """Starts, and handles messages, in ways that the runtime has to contain."""

    def __init__(self, start: str = "") -> None:
        self.start = start

    async def on_start(self) -> None:
        if self.start == "exit":
            raise SystemExit(3)
        with contextlib.suppress(anyio.get_cancelled_exc_class() if self.start == "ignore" else ValueError):
            if self.start:
                await anyio.sleep_forever()

    async def receive(self, message: str) -> str:
        if message == "leave":
            anyio.CancelScope().__enter__()
        elif message == "cancel":
            with contextlib.suppress(RuntimeError):  # on trio
                asyncio.current_task().cancel()  # type: ignore[union-attr]  # the next message would notice
        elif message == "fail":
            raise ValueError(message)
        elif message == "exit":
            raise SystemExit(3)
        elif message == "hello":
            await anyio.lowlevel.checkpoint()  # where what an earlier actor has cancelled would be noticed
        return message


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_open_scopes_and_cancellations_of_actors_are_contained(loop: Loop) -> None:
    """The seeded loop is one of its own, with the same containment."""

    async def hello(ref: ActorRef) -> None:
        assert await ref.ask("hello") == "hello"

    async def main() -> None:
        async with ActorSystem() as system:
            ref = system.spawn(Odd, policy=SupervisionPolicy(Strategy.RESTART))
            others = [system.spawn(Odd) for _ in range(3)]
            with pytest.raises(RuntimeError, match="own_task"):
                await ref.ask("leave")
            await ref.tell("leave")
            for other in others:
                await other.tell("hello")
            with pytest.raises(ValueError, match="fail"):
                await ref.ask("fail")
            for start in ("wait", "ignore"):
                stuck = system.spawn(Odd, start)
                await anyio.sleep(1)
                await ref.tell("cancel")
                for other in others:  # in the same batch of the same worker
                    await other.tell("hello")
                async with anyio.create_task_group() as group:
                    group.start_soon(partial(stuck.stop, timeout=0))
                    for other in others:
                        group.start_soon(hello, other)
                await hello(ref)  # a turn of its own: in the one of "cancel" it would be cancelled
            *_, last = (one for one in system.events() if isinstance(one, ActorRestarted))
            assert last.payload["restarts"] == 3

    explore(main, seeds=range(20), backend=loop)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("start", ["exit", ""])
def test_an_actor_that_exits_ends_a_seeded_run(loop: Loop, start: str) -> None:
    async def main() -> None:
        async with ActorSystem() as system:
            await system.spawn(Odd, start).tell("exit")
            await anyio.sleep_forever()

    with pytest.raises(SystemExit):
        run_seeded(1, main, backend=loop)


def test_explore_names_the_seed_that_failed() -> None:
    async def main() -> None:
        async with ActorSystem() as system:
            order: list[int] = []

            class Notes(Actor):
                async def receive(self, message: int) -> None:
                    order.append(message)

            refs = [system.spawn(Notes) for _ in range(2)]
            for number, ref in enumerate(refs):
                await ref.tell(number)
            for ref in refs:
                await system.stop(ref)
            assert order == [0, 1]

    with pytest.raises(AssertionError) as caught:
        explore(main, seeds=range(50))
    assert "run_seeded(" in caught.value.__notes__[0]


# -- the runtime under many schedules


class World:
    """What a random scenario does, and what it saw."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.starts: Counter[int] = Counter()
        self.stops: Counter[int] = Counter()
        self.inside: set[int] = set()
        self.terminated: Counter[tuple[int, int]] = Counter()
        self.instances = 0


class Citizen(Actor):
    """Follows its messages: spawn, fail, ask, watch, stop, sleep."""

    world: World

    def __init__(self) -> None:
        self.world.instances += 1
        self.number = self.world.instances

    @property
    def rid(self) -> int:
        return self.context.self_ref.address.actor_id

    async def on_start(self) -> None:
        self.world.starts[self.number] += 1
        if self.world.rng.random() < 0.1:
            await anyio.sleep(0.1)
        if self.world.rng.random() < 0.05:
            raise RuntimeError("start")

    async def on_stop(self) -> None:
        assert not self.context.children or not self.world.stops[self.number]
        self.world.stops[self.number] += 1
        if self.world.rng.random() < 0.1:
            await anyio.sleep(0.1)
        if self.world.rng.random() < 0.05:
            raise RuntimeError("stop")

    async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision | None:
        if self.world.rng.random() < 0.1:
            await anyio.sleep(0.1)
        return self.world.rng.choice([None, *SupervisorDecision])

    async def receive(self, message: object) -> object:
        assert self.rid not in self.world.inside, "two messages at a time"
        self.world.inside.add(self.rid)
        try:
            return await self.act(message)
        finally:
            self.world.inside.discard(self.rid)

    async def act(self, message: object) -> object:
        rng, system = self.world.rng, self.context.system
        if isinstance(message, ActorTerminated):
            self.world.terminated[(self.rid, message.ref.address.actor_id)] += 1
            return None
        others = [ref for ref in system.refs() if ref != self.context.self_ref]
        other = rng.choice(others) if others else self.context.self_ref
        match message:
            case "spawn":
                policy = rng.choice(
                    [
                        None,
                        SupervisionPolicy(Strategy.RESTART, 2, 60.0, Backoff(0.1, 1.0)),
                        SupervisionPolicy(Strategy.ESCALATE),
                    ]
                )
                self.context.spawn_child(type(self), policy=policy, mailbox_capacity=rng.choice([1, 3, None]))
            case "fail":
                raise ValueError("told to")
            case "ask":
                with contextlib.suppress(ActorStopped, AskDeadlock, AskTimeout):
                    await other.ask(rng.choice(["echo", "sleep", "ask"]), timeout=rng.choice([None, 5.0]))
            case "tell":
                with contextlib.suppress(ActorStopped, AskDeadlock):
                    await other.tell(rng.choice(["echo", "fail", "sleep", "spawn"]))
            case "watch":
                await self.context.watch(other)
            case "stop":
                with contextlib.suppress(AskDeadlock):
                    await system.stop(other, timeout=rng.choice([None, 0.5]))
            case "stop_self":
                await self.context.stop_self()
            case "sleep":
                await anyio.sleep(rng.random())
        return message


STEPS = [
    "spawn",
    "spawn",
    "fail",
    "ask",
    "ask",
    "tell",
    "tell",
    "watch",
    "stop",
    "stop_self",
    "sleep",
    "echo",
]


class Kept(InMemoryPersistence):
    """Can be read after it was closed."""

    async def aclose(self) -> None:
        self._closed = True


async def scenario(seed: int, cancel: bool) -> None:
    world = World(seed)

    class Member(Citizen):
        pass

    Member.world = world
    store = Kept(RetentionPolicy())
    rng = random.Random(-seed - 1)
    system = ActorSystem(persistence=store, shutdown_timeout=3.0)
    with anyio.move_on_after(rng.random() * 3 if cancel else None):
        async with system, anyio.create_task_group() as group:
            for name in ("a", "b", None):
                system.spawn(Member, name=name)

            async def client() -> None:
                for _ in range(6):
                    refs = system.refs()
                    if not refs:
                        return
                    with contextlib.suppress(ActorStopped, AskTimeout, ValueError, AskDeadlock):
                        await rng.choice(refs).ask(rng.choice(STEPS), timeout=30.0)

            for _ in range(3):
                group.start_soon(client)
    check(system, store, world)


def check(system: ActorSystem, store: Kept, world: World) -> None:
    assert system.list_actors() == []
    assert system.list_names() == {}
    assert world.inside == set()
    # Guarantee 8: on_stop exactly once for each instance, started or not.
    assert set(world.stops.values()) <= {1}
    assert sum(world.stops.values()) == world.instances
    assert set(world.starts.values()) <= {1}
    # Guarantee 18: never twice.
    assert not [pair for pair, times in world.terminated.items() if times > 1]
    # Guarantee 20: every fact once, and one order in the record and in events(), of a crash that was decided
    # late too.
    events = [
        (e.event_type, e.actor_address)
        for e in store._records
        if hasattr(e, "event_type") and e.event_type not in ("SystemStarted", "SystemStopped")
    ]
    assert events == [(type(e).__name__, f"local:{e.address['actor_id']}") for e in system.events()]
    by_actor: dict[str, list[str]] = defaultdict(list)
    for kind, address in events:
        by_actor[address].append(kind)
    for kinds in by_actor.values():
        assert kinds[-1] == "ActorStopped"
        assert kinds.count("ActorStopped") == 1
        assert kinds.count("ActorStarted") <= 1
    assert store.metrics.records_dropped == 0


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("block", [0, *(pytest.param(n, marks=pytest.mark.sweep) for n in range(1, 5))])
def test_the_guarantees_hold_in_a_thousand_schedules(block: int, loop: Loop) -> None:
    for seed in range(block * 100, block * 100 + 100):
        explore(scenario, seed, False, seeds=[seed], backend=loop)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("block", [0, *(pytest.param(n, marks=pytest.mark.sweep) for n in range(1, 3))])
def test_the_guarantees_hold_where_the_host_is_cancelled(block: int, loop: Loop) -> None:
    for seed in range(block * 100, block * 100 + 100):
        explore(scenario, seed, True, seeds=[seed], backend=loop)


def test_asking_into_a_ring_that_is_being_cut_ends() -> None:
    """A parent asks the child that waits for its decision, while others ask them both.

    It froze the process.
    """

    class Child(Actor):
        async def receive(self, message: str) -> str:
            if message == "fail":
                raise ValueError
            return message

    class Parent(Actor):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Child)

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision:
            await anyio.sleep(1)
            return SupervisorDecision.RESUME

        async def receive(self, message: str) -> object:
            if message == "child":
                return self.child
            await self.child.tell("fail")
            await anyio.sleep(0.1)
            return await self.child.ask("answer")

    class Bystander(Actor):
        async def receive(self, message: ActorRef) -> object:
            await anyio.sleep(0.5)
            return await message.ask("child" if message == parent else "hello")

    parent: ActorRef

    async def main() -> None:
        nonlocal parent
        async with ActorSystem() as system:
            parent = system.spawn(Parent)
            child = await parent.ask("child")
            bystanders = [system.spawn(Bystander) for _ in range(4)]
            async with anyio.create_task_group() as group:
                group.start_soon(parent.ask, "go")
                for number, bystander in enumerate(bystanders):
                    group.start_soon(bystander.ask, child if number % 2 else parent)

    explore(main, seeds=range(50))


class Session(Actor):
    """Holds a lock from one message to the next, and with a task of its own a task group."""

    def __init__(self, own_task: bool) -> None:
        self.own_task = own_task
        self.lock = anyio.Lock()

    async def on_start(self) -> None:
        if self.own_task:
            self.group = await anyio.create_task_group().__aenter__()
            self.group.start_soon(anyio.sleep_forever)

    async def receive(self, message: str) -> None:
        if message == "take":
            await self.lock.acquire()
        else:
            self.lock.release()

    async def on_stop(self) -> None:
        if self.own_task:
            self.group.cancel_scope.cancel()
            await self.group.__aexit__(None, None, None)
            STOPPED.append(self)


STOPPED: list[Session] = []


@pytest.mark.parametrize("own_task", [True, False])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_task_group_and_a_lock_may_span_messages(loop: Loop, own_task: bool) -> None:
    async def main() -> None:
        STOPPED.clear()
        async with ActorSystem() as system:
            refs = [system.spawn(Session, own_task) for _ in range(3)]
            for message in ("take", "give", "take"):
                for ref in refs:
                    await ref.ask(message)
        assert len(STOPPED) == own_task * 3

    explore(main, seeds=range(20), backend=loop)
