"""Promises 24 to 27, with timers, slow handlers, restarts and cancellations in random orders and virtual
time.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papyra import Actor, ActorSystem, Strategy, SupervisionPolicy, SystemHooks
from papyra.testing import run_seeded

from .support import Loop, both_loops, seeded

EPSILON = 1e-6
KEYS = ("a", "b", "c")
SECONDS = (0.1, 0.5, 1.0, 3.0)
ALWAYS_RESTART = SupervisionPolicy(Strategy.RESTART, max_restarts=1_000)

Job = tuple[float, str, str, float, bool]
"""When, what, which key, seconds, and whether the timer sends a message (or else calls a function)."""


@dataclass
class Expected:
    """What the model knows of a timer that is active."""

    kind: str
    generation: int
    started: float
    seconds: float
    last: float = (
        -math.inf
    )  # fixed delay: the end of the last handling; fixed rate: the last place on the grid
    on_the_grid: bool = False


class Ticking(Actor):
    """Starts and cancels timers on demand, and checks each tick against a model of its own."""

    def __init__(self, world: dict[str, Any]) -> None:
        self.world = world
        world["instance"] = self
        self.model: dict[str, Expected] = {}
        self.slow = 0.0

    async def receive(self, message: Any) -> Any:
        what, key, seconds, sends = message
        timers = self.context.timers
        match what:
            case "tick":
                await self.tick(key, seconds)
            case "cancel":
                assert timers.cancel(key) == (self.model.pop(key, None) is not None)
            case "cancel all":
                timers.cancel_all()
                self.model.clear()
            case "slow":
                self.slow = seconds
                await anyio.sleep(seconds)
            case "boom":
                raise ValueError(key)
            case "look":
                assert set(timers.keys()) == set(self.model)
                return {key: each.kind for key, each in self.model.items()}
            case _:
                self.start(what, key, seconds, sends=sends)
        return None

    def start(self, kind: str, key: str, seconds: float, *, sends: bool) -> None:
        self.world["generation"] += 1
        generation = self.world["generation"]
        self.model[key] = Expected(kind, generation, self.context.system.monotonic(), seconds)
        what: dict[str, Any] = (
            {"send": ("tick", key, generation, False)}
            if sends
            else {"call": lambda: self.tick(key, generation)}
        )
        timers = self.context.timers
        match kind:
            case "single":
                timers.start_single(key, seconds, **what)
            case "delay":
                timers.start_fixed_delay(key, seconds, **what)
            case _:
                timers.start_fixed_rate(key, seconds, **what)

    async def tick(self, key: str, generation: float) -> None:
        assert self.world["instance"] is self, "a tick of the instance before"
        timer = self.model.get(key)
        assert timer is not None, "a tick of a timer that was cancelled"
        assert timer.generation == generation, "a tick of the timer that had this key before"
        self.world["ticks"] += 1
        now = self.context.system.monotonic()
        if timer.kind == "rate":
            place = math.floor((now - timer.started) / timer.seconds + EPSILON)
            # A late tick may be handled at the very moment when the next one is due.
            assert place > timer.last or (timer.on_the_grid and place == timer.last), "a burst"
            timer.on_the_grid = (
                place > timer.last and abs(place * timer.seconds + timer.started - now) < EPSILON
            )
            timer.last = place
        else:
            begin = timer.started if timer.last == -math.inf else timer.last
            assert now >= begin + timer.seconds - EPSILON, "too early"
        if timer.kind == "single":
            del self.model[key]
        if self.slow:
            await anyio.sleep(self.slow)
            self.slow /= 2
            if self.slow < EPSILON:
                self.slow = 0.0
        if timer.kind == "delay":
            timer.last = self.context.system.monotonic()


async def scenario(jobs: list[Job]) -> int:
    world: dict[str, Any] = {"generation": 0, "ticks": 0}
    failures: list[Any] = []
    hooks = SystemHooks(on_failure=lambda failure: failures.append(failure.error))
    with anyio.fail_after(10_000):
        async with ActorSystem(shutdown_timeout=20, hooks=hooks) as system:
            ref = system.spawn(Ticking, world, policy=ALWAYS_RESTART, mailbox_capacity=1)

            async def job(delay: float, *message: Any) -> None:
                await anyio.sleep(delay)
                await ref.tell(message)

            async with anyio.create_task_group() as tasks:
                for each in jobs:
                    tasks.start_soon(job, *each)
            await anyio.sleep(60)
            assert "single" not in (await ref.ask(("look", "", 0.0, False))).values(), "one was never due"
            await ref.ask(("cancel all", "", 0.0, False))
            ticks = world["ticks"]
            await anyio.sleep(60)
            assert world["ticks"] == ticks
    assert [error for error in failures if type(error) is not ValueError] == []
    assert system.dead_letters.count == 0
    return int(world["ticks"])


WORK = ["single", "single", "delay", "rate", "rate", "cancel", "cancel all", "slow", "boom"]
JOBS = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.3, 1.0, 2.0, 5.0)),
        st.sampled_from(WORK),
        st.sampled_from(KEYS),
        st.sampled_from(SECONDS),
        st.booleans(),
    ),
    max_size=25,
)


def _random_jobs(seed: int) -> list[Job]:
    rng = random.Random(seed)
    return [
        (rng.random() * 6, rng.choice(WORK), rng.choice(KEYS), rng.choice(SECONDS), rng.random() < 0.5)
        for _ in range(rng.randrange(1, 30))
    ]


@seeded(40)
def test_p24_p25_p26_p27_seeded_schedules(backend: Loop, seeds: range) -> None:
    ticks = [run_seeded(seed, scenario, _random_jobs(seed), backend=backend) for seed in seeds]
    assert sum(ticks) > 10 * len(seeds), "the timers did tick"


@both_loops
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(jobs=JOBS, seed=st.integers(0, 2**16))
def test_p24_p25_p26_p27_machine(backend: Loop, jobs: list[Job], seed: int) -> None:
    run_seeded(seed, scenario, jobs, backend=backend)
