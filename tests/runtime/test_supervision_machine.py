"""Drive a tree of actors with random commands in a random order of turns, and hold what happened against a
model.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    ActorTerminated,
    AskDeadlock,
    Backoff,
    Strategy,
    SupervisionPolicy,
    SupervisorDecision,
)
from papyra._runtime.worker_loop import WORKER_LOOP
from papyra.persistence import InMemoryPersistence, RetentionPolicy
from papyra.persistence.models import PersistedDeadLetter, PersistedEvent, PersistedRecord
from papyra.testing.seeded import SeededWorkers

from .support import running

POLICIES: list[SupervisionPolicy | None] = [
    None,
    SupervisionPolicy(Strategy.RESTART, max_restarts=2),
    SupervisionPolicy(Strategy.RESTART, max_restarts=2, backoff=Backoff(0.001, 0.002)),
    SupervisionPolicy(Strategy.ESCALATE),
]
DECISIONS: list[SupervisorDecision | str | None] = [
    None,
    "raise",
    "wrong",
    "ask",
    "stop",
    *SupervisorDecision,
]
WORK = [
    *("ping", "boom", "halt", "slow", "ask child", "boom child", "stop child", "stop parent"),
    *("boom child and halt", "boom child and fail"),
]
PLACES = ["init", "start", "stop"]

INDEX = st.integers(0, 9)
SPAWN = st.tuples(
    st.just("spawn"), INDEX, st.sampled_from(POLICIES), st.sampled_from(DECISIONS), st.booleans()
)
COMMANDS = st.one_of(
    SPAWN,
    SPAWN,
    st.tuples(st.sampled_from(["tell", "ask"]), INDEX, st.sampled_from(WORK)),
    st.tuples(st.just("fail"), INDEX, st.sampled_from(PLACES), st.integers(1, 3)),
    st.tuples(st.just("watch"), INDEX, INDEX),
    st.tuples(st.just("stop"), INDEX),
    st.tuples(st.just("yield_to_loop"), st.integers(1, 20)),
)


class Boom(Exception):
    """What fails here."""


class Store(InMemoryPersistence):
    """Remember every record, also after the close."""

    def __init__(self) -> None:
        super().__init__(RetentionPolicy())
        self.records: list[PersistedRecord] = []

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        await super().record_batch(records)
        self.records.extend(records)


class Node(Actor):
    """Does what a message says, and fails where the world says."""

    def __init__(self, world: World, key: int) -> None:
        self.world, self.key = world, key
        self.busy = False
        world.trip("init", key)
        self.number = len(world.stops)
        world.stops.append(0)  # from here on this instance exists

    async def on_start(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.world.trip("start", self.key)

    async def receive(self, message: tuple[int, str] | ActorTerminated) -> int:
        assert not self.busy, "one message at a time"
        assert not self.world.stops[self.number], "no message after on_stop"
        self.busy = True
        try:
            await anyio.lowlevel.checkpoint()
            if isinstance(message, ActorTerminated):
                self.world.terminated[self.key, message.ref.address.actor_id] += 1
                return 0
            token, work = message
            self.world.handled[token] += 1
            await self.work(work)
            return token
        finally:
            self.busy = False

    async def work(self, work: str) -> None:
        children = self.context.children
        if work == "boom":
            raise Boom(work)
        if work == "halt":
            self.context.stop_self()
        elif work == "slow":
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
        elif work == "stop child" and children:
            await self.context.stop(children[0])
        elif work == "stop parent" and self.context.parent is not None:
            await self.context.stop(self.context.parent)
        elif work == "ask child" and children:
            await self.world.ask(children[-1], "ping")
        elif work.startswith("boom child") and children:
            await self.world.tell(children[-1], "boom")
            if work == "boom child":
                await self.world.ask(children[-1], "ping")
                return
            for _ in range(10):  # the child fails meanwhile, and waits for this one's decision
                await anyio.lowlevel.checkpoint()
            if work.endswith("fail"):
                raise Boom(work)
            self.context.stop_self()

    async def on_stop(self) -> None:
        self.world.stops[self.number] += 1
        await anyio.lowlevel.checkpoint()
        self.world.trip("stop", self.key)

    async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> Any:
        decision = self.world.decisions[self.key]
        await anyio.lowlevel.checkpoint()
        if decision == "raise":
            raise Boom(decision)
        if decision == "ask":
            try:
                await self.world.ask(child_ref, "ping")
            except (AskDeadlock, ActorStopped):
                return SupervisorDecision.RESTART
        if decision == "stop":
            try:
                await self.context.stop(child_ref)
            except AskDeadlock:
                return SupervisorDecision.STOP
        return decision if decision != "stop" else None


class World:
    """The system, and what is known of it."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.refs: list[ActorRef] = []
        self.parents: list[int | None] = []
        self.names: dict[str, ActorRef] = {}
        self.decisions: list[Any] = []
        self.failures: Counter[tuple[str, int]] = Counter()
        self.stops: list[int] = []  # for each instance, how often on_stop ran
        self.terminated: Counter[tuple[int, int]] = Counter()
        self.watches: list[tuple[int, int]] = []
        self.sent: dict[int, str] = {}
        self.deadlocked: set[int] = set()
        self.handled: Counter[int] = Counter()
        self.asked = self.answered = 0

    def trip(self, place: str, key: int) -> None:
        if self.failures[place, key] > 0:
            self.failures[place, key] -= 1
            raise Boom(place)

    def token(self, work: str) -> int:
        token = len(self.sent)
        self.sent[token] = work
        return token

    async def tell(self, ref: ActorRef, work: str) -> None:
        await ref.tell((self.token(work), work))

    async def ask(self, ref: ActorRef, work: str) -> None:
        token = self.token(work)
        self.asked += 1
        try:
            assert await ref.ask((token, work)) == token
        except AskDeadlock:
            self.deadlocked.add(token)  # this one was never sent, if it was refused itself
            raise
        finally:
            self.answered += 1

    async def run(self, commands: list[tuple[Any, ...]]) -> None:
        async with anyio.create_task_group() as tasks:
            for command in commands:
                await self.do(tasks, *command)

    async def do(self, tasks: Any, verb: str, *arguments: Any) -> None:
        if verb == "spawn":
            self.spawn(*arguments)
        elif verb == "yield_to_loop":
            for _ in range(arguments[0]):
                await anyio.lowlevel.checkpoint()
        elif self.refs:
            key = arguments[0] % len(self.refs)
            ref = self.refs[key]
            if verb == "tell":
                with suppress(ActorStopped):
                    await self.tell(ref, arguments[1])
            elif verb == "ask":
                tasks.start_soon(self.ask_outside, ref, arguments[1])
            elif verb == "fail":
                self.failures[arguments[1], key] = arguments[2]
            elif verb == "stop":
                tasks.start_soon(self.system.stop, ref)
            elif verb == "watch":
                await self.watch(key, arguments[1] % len(self.refs))

    async def ask_outside(self, ref: ActorRef, work: str) -> None:
        with suppress(ActorStopped, AskDeadlock, Boom):
            await self.ask(ref, work)

    def spawn(self, above: int, policy: SupervisionPolicy | None, decision: Any, named: bool) -> None:
        key = len(self.refs)
        parent = above % (key + 1) - 1  # the root among them
        name = f"node {key}" if named else None
        self.decisions.append(decision)
        try:
            ref = self.system.spawn(
                partial(Node, self, key),
                name=name,
                policy=policy,
                parent=self.refs[parent] if parent >= 0 else None,
            )
        except ActorStopped:
            self.decisions.pop()
            return
        self.refs.append(ref)
        self.parents.append(parent if parent >= 0 else None)
        if name is not None:
            self.names[name] = ref

    async def watch(self, watcher: int, watched: int) -> None:
        if watcher == watched or (watcher, watched) in self.watches:
            return
        actor = self.refs[watcher]._cell.actor
        if actor is None or not self.refs[watcher].is_alive():
            return
        actor.context.watch(self.refs[watched])
        self.watches.append((watcher, watched))

    # -- what must be true

    async def check_while_it_runs(self) -> None:
        """Once all is quiet: a living actor is registered, and has heard of the dead ones."""
        alive = [ref for ref in self.refs if ref.is_alive()]
        assert sorted(self.system.list_names()) == sorted(
            name for name, ref in self.names.items() if ref.is_alive()
        )
        assert {ref.address for ref in self.system.refs(alive_only=False)} == {ref.address for ref in alive}
        for watcher, watched in self.watches:
            if self.refs[watcher].is_alive():
                times = self.terminated[watcher, self.refs[watched].address.actor_id]
                assert times == (0 if self.refs[watched].is_alive() else 1), (watcher, watched)

    def check_the_end(self, store: Store) -> None:
        system = self.system
        assert self.stops == [1] * len(self.stops), "on_stop exactly once for each instance"
        assert system.list_names() == {}
        assert system.refs(alive_only=False) == []
        assert self.asked == self.answered
        assert all(times <= 1 for times in self.terminated.values())
        self.check_events()
        self.check_messages()
        events = [
            (type(event).__name__, str(event.address["actor_id"]), event.timestamp)
            for event in system.events()
        ]
        # A crash is stored when its parent has decided, which may be after later events.
        assert sorted(events) == sorted(
            (record.event_type, record.actor_address.partition(":")[2], record.timestamp)
            for record in store.records
            if isinstance(record, PersistedEvent)
        )
        letters = [record for record in store.records if isinstance(record, PersistedDeadLetter)]
        assert [letter.payload if letter.message_type == "tuple" else None for letter in letters] == [
            list(message) if isinstance(message, tuple) else None for message in self.dead()
        ]
        assert store.metrics.records_dropped == 0

    def dead(self) -> list[object]:
        """Return the dead messages; an `ActorTerminated` that waited when its watcher stopped may be among
        them.
        """
        return [letter.message for letter in self.system.dead_letters.messages]

    def check_events(self) -> None:
        stories: dict[int, list[str]] = {ref.address.actor_id: [] for ref in self.refs}
        when: dict[int, int] = {}
        for position, event in enumerate(self.system.events()):
            kind = type(event).__name__
            stories[int(event.address["actor_id"])].append(kind)
            if kind == "ActorStopped":
                when[int(event.address["actor_id"])] = position
        for story in stories.values():
            assert story.count("ActorStopped") == 1
            assert story[-1] == "ActorStopped"
            assert story.count("ActorStarted") <= 1
            assert all(
                story[index - 1] == "ActorCrashed"
                for index, kind in enumerate(story)
                if kind == "ActorRestarted" and index
            )
            assert story[0] != "ActorRestarted"
        for key, parent in enumerate(self.parents):
            if parent is not None:
                child_id, parent_id = (self.refs[each].address.actor_id for each in (key, parent))
                assert when[child_id] < when[parent_id], "children stop before their parents"

    def check_messages(self) -> None:
        letters = Counter(message[0] for message in self.dead() if isinstance(message, tuple))
        for token in self.sent:
            ends = self.handled[token] + letters[token]
            if token in self.deadlocked:
                assert ends <= 1, (token, self.sent[token])
            else:
                assert ends == 1, (token, self.sent[token], self.handled[token], letters[token])


async def scenario(commands: list[tuple[Any, ...]], seed: int, close: bool) -> None:
    store = Store()
    WORKER_LOOP.set(partial(SeededWorkers, random.Random(seed)))  # real time, unlike `run_seeded`
    async with running(persistence=store) as system:
        core = system._core
        assert core is not None
        world = World(system)
        await world.run(commands)
        if not close:
            await quiet(system)
            await world.check_while_it_runs()
            await system.stop_all()
    world.check_the_end(store)
    assert not core.rt.cells
    assert not core.rt.workers


async def quiet(system: ActorSystem) -> None:
    """Return when no actor has anything to do."""
    while True:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        if all(info.state == "idle" for info in system.list_actors()):
            return
        await anyio.sleep(0.0005)  # backoffs take real time


LIVES = given(
    commands=st.lists(COMMANDS, min_size=15, max_size=60), seed=st.integers(0, 2**16), close=st.booleans()
)


@pytest.mark.usefixtures("actors_facts_only")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@LIVES
def test_g14_to_20_any_life_of_a_tree_keeps_its_promises(
    backend: str, commands: list[tuple[Any, ...]], seed: int, close: bool
) -> None:
    any_life(backend, commands, seed, close)


def any_life(backend: str, commands: list[tuple[Any, ...]], seed: int, close: bool) -> None:
    logger = logging.getLogger("papyra")
    before, logger.disabled = logger.disabled, True
    try:
        anyio.run(scenario, commands, seed, close, backend=backend)
    finally:
        logger.disabled = before


@pytest.mark.sweep
@pytest.mark.usefixtures("actors_facts_only")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@LIVES
def test_g14_to_20_many_lives_of_a_tree_keep_its_promises(
    backend: str, commands: list[tuple[Any, ...]], seed: int, close: bool
) -> None:
    any_life(backend, commands, seed, close)
