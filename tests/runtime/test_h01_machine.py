"""H1, H2: values, errors, factories and hooks that misbehave at random hurt no actor but their own.

A bystander answers every ask, and the close returns.
"""

from __future__ import annotations

import random
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papyra import Actor, ActorStopped, ActorSystem, Reject, Strategy, SupervisionPolicy, SystemHooks
from papyra.testing import run_seeded

from .odd import errors, values
from .support import Echo, Loop, both_loops, seeded

if TYPE_CHECKING:
    from collections.abc import Callable

USER: ContextVar[Any] = ContextVar("user")


class Job(NamedTuple):
    """When, to which actor, what it does, and how it is sent."""

    delay: float
    number: int
    deed: str
    way: str


NAMES = range(4)
DEEDS = [
    "return",
    "raise",
    "child",
    "child fails",
    "next factory",
    "next start",
    "next stop",
    "children_policy",
    "watch",
    "unwatch",
    "timer",
    "tick",
    "pipe",
    "pipe fails",
    "later",
    "later fails",
    "forward",
    "stash",
    "unstash",
    "variable",
    "reject",
    "become",
    "stop_self",
]
WAYS = ["tell", "tell", "nowait", "ask", "ask", "impatient", "value", "stop", "broadcast"]


class World:
    """What all actors of one run share."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.refs: list[Any] = []
        self.ended: Counter[str] = Counter()

    def value(self) -> Any:
        return self.rng.choice(values())

    def error(self) -> Exception:
        return self.rng.choice(errors())

    def anything(self) -> BaseException:
        return self.rng.choice([*errors(), SystemExit("odd"), GeneratorExit("odd")])


class Wild(Actor):
    """Does what its messages say; any other message it keeps."""

    def __init__(self, world: World, trouble: set[str]) -> None:
        self.world = world
        self.trouble = trouble
        self.kept: Any = None
        if "factory" in trouble:
            trouble.discard("factory")
            raise world.anything()

    def fail_if(self, when: str) -> None:
        if when in self.trouble:
            self.trouble.discard(when)
            raise self.world.error()

    async def on_start(self) -> None:
        self.fail_if("start")

    async def on_stop(self) -> None:
        self.fail_if("stop")

    async def on_child_failure(self, child_ref: Any, exc: Exception) -> Any:
        rng = self.world.rng
        if rng.random() < 0.3:
            raise self.world.error()
        return rng.choice([Strategy.RESTART, Strategy.STOP, Strategy.ESCALATE, None, self.world.value()])

    async def receive(self, message: Any) -> Any:
        if type(message) is not Job:
            self.kept = message
            return message
        deed, _, word = message.deed.partition(" ")
        return await getattr(self, f"do_{deed}")(word)

    async def do_return(self, _: str) -> Any:
        return self.world.value()

    async def do_raise(self, _: str) -> None:
        raise self.world.error()

    async def do_child(self, word: str) -> Any:
        trouble = {"factory"} if self.world.rng.random() < 0.3 else set[str]()
        try:
            child = self.context.spawn_child(Wild, self.world, trouble)
        except BaseException:
            return None
        await child.tell(Job(0, 0, "raise" if word else "stash", "tell"))
        return child

    async def do_next(self, word: str) -> None:
        self.trouble.add(word)
        if word != "stop":
            raise self.world.error()

    async def do_children_policy(self, _: str) -> None:
        self.children_policy = self.world.value()

    async def do_watch(self, _: str) -> None:
        self.context.watch(self.world.rng.choice(self.world.refs))

    async def do_unwatch(self, _: str) -> None:
        self.context.unwatch(self.world.rng.choice(self.world.refs))

    async def do_timer(self, _: str) -> None:
        self.context.timers.start_single("send", 0.1, send=self.world.value())

    async def do_tick(self, _: str) -> None:
        self.context.timers.start_single("call", 0.1, call=self.world.value)

    async def do_pipe(self, word: str) -> None:
        async def work() -> Any:
            await anyio.sleep(0.1)
            if word:
                raise self.world.error()
            return self.world.value()

        self.context.pipe_to_self(work, lambda _: self.world.value(), catch=lambda _: self.world.value())

    async def do_later(self, word: str) -> Any:
        handle = self.context.reply_later()

        async def reply() -> None:
            await anyio.sleep(0.1)
            if word:
                handle.fail(self.world.error())
            else:
                handle.send(self.world.value())

        self.context.start_soon(reply)
        return handle.later

    async def do_forward(self, _: str) -> Any:
        return await self.context.forward(self.world.rng.choice(self.world.refs), self.world.value())

    async def do_stash(self, _: str) -> Any:
        return self.context.stash(self.world.value()) if self.world.rng.random() < 0.5 else None

    async def do_unstash(self, _: str) -> None:
        self.context.unstash_all()

    async def do_variable(self, _: str) -> None:
        USER.set(self.world.value())

    async def do_reject(self, _: str) -> None:
        raise Reject(self.world.error())

    async def do_become(self, _: str) -> None:
        async def other(message: Any) -> Any:
            self.unbecome()
            return self.world.value()

        self.become(other)

    async def do_stop_self(self, _: str) -> None:
        self.context.stop_self()


def hooks_of(world: World) -> SystemHooks:
    def plain(_about: object) -> Any:
        if world.rng.random() < 0.3:
            raise world.anything()
        return world.value()

    async def later(_about: object) -> Any:
        await anyio.lowlevel.checkpoint()
        return plain(_about)

    def hook() -> Callable[[Any], Any] | None:
        return world.rng.choice([None, plain, later])

    return SystemHooks(on_event=hook(), on_dead_letter=hook(), on_failure=hook())


async def send(system: ActorSystem, world: World, job: Job) -> None:
    ref = world.refs[job.number]
    await anyio.sleep(job.delay)
    try:
        match job.way:
            case "tell":
                await ref.tell(job)
            case "nowait":
                ref.tell_nowait(job)
            case "value":
                await ref.ask(world.value(), timeout=50)
            case "broadcast":
                await system.broadcast(world.value(), "Wild")
            case "stop":
                await ref.stop()
            case _:
                await ref.ask(job, timeout=0.05 if job.way == "impatient" else 50)
    except Exception as error:
        world.ended[type(error).__name__] += 1
    else:
        world.ended["no error"] += 1


async def scenario(jobs: list[Job], seed: int) -> Counter[str]:
    world = World(seed)
    policies = [
        SupervisionPolicy(Strategy.RESTART, max_restarts=1_000),
        SupervisionPolicy(Strategy.STOP),
        SupervisionPolicy(Strategy.ESCALATE),
        None,
    ]
    with anyio.fail_after(5_000):
        async with ActorSystem(shutdown_timeout=100, hooks=hooks_of(world)) as system:
            bystander = system.spawn(Echo)
            world.refs = [system.spawn(Wild, world, set[str](), policy=policies[one]) for one in NAMES]

            async def job(each: Job) -> None:
                await send(system, world, each)
                assert await bystander.ask(each.delay, timeout=50) == each.delay

            async with anyio.create_task_group() as tasks:
                for each in jobs:
                    tasks.start_soon(job, each)
            info = system.actor_info(bystander)
            assert info is not None
            assert (info.processed, info.restarts) == (len(jobs), 0)
            assert await system.spawn(Echo).ask("new") == "new"
    assert system.state == "closed"
    assert system.refs(alive_only=False) == []
    with pytest.raises(ActorStopped):
        await bystander.ask(1)
    return world.ended


JOBS = st.lists(
    st.builds(
        Job,
        st.sampled_from((0.0, 0.1, 0.5, 1.0)),
        st.sampled_from(NAMES),
        st.sampled_from(DEEDS),
        st.sampled_from(WAYS),
    ),
    min_size=1,
    max_size=25,
)


def _random_jobs(seed: int) -> list[Job]:
    rng = random.Random(seed)
    return [
        Job(rng.random() * 2, rng.choice(NAMES), rng.choice(DEEDS), rng.choice(WAYS))
        for _ in range(rng.randrange(1, 40))
    ]


@seeded(30)
def test_h01_h02_seeded_schedules(backend: Loop, seeds: range) -> None:
    ended: Counter[str] = Counter()
    for seed in seeds:
        ended += run_seeded(seed, scenario, _random_jobs(seed), seed, backend=backend)
    every = {"no error", "ActorStopped", "AskTimeout", *(type(error).__name__ for error in errors())}
    assert set(ended) >= every, "each way to end was there"


@both_loops
@settings(max_examples=25)
@given(jobs=JOBS, seed=st.integers(0, 2**16))
def test_h01_h02_machine(backend: Loop, jobs: list[Job], seed: int) -> None:
    run_seeded(seed, scenario, jobs, seed, backend=backend)
