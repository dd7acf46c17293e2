"""Guarantee 15: restarts."""

from __future__ import annotations

import logging
import random
from functools import partial
from typing import Any

import anyio
import pytest

from papyra import Actor, ActorRef, ActorStopped, Backoff, Strategy, SupervisionPolicy, SupervisorDecision
from papyra import events as ev
from papyra.testing import ManualClock

from .families import Boss, Kid, Plan, kinds, read_kid, slow_to_fail, until
from .support import RESTART, Boom, running


async def test_g15_a_restart_keeps_ref_address_name_and_mailbox() -> None:
    async with running() as system:
        plan = Plan()
        kid = system.spawn(partial(Kid, plan), name="kid")
        for message in ("one", "boom", "two", "three"):
            await kid.tell(message)
        assert await kid.ask("four") == 2
        assert plan.log == [
            *("init 1", "start 1", "one 1", "stop 1"),
            *("init 2", "start 2", "two 2", "three 2", "four 2"),
        ]
        assert system.ref_for_name("kid") == kid == system.ref_for(kid.address)
        assert system.dead_letters.count == 0


async def test_g15_asks_queued_over_a_restart_are_answered_by_the_new_instance() -> None:
    plan = Plan()
    entered, gate = anyio.Event(), anyio.Event()

    answers: dict[str, object] = {}
    async with running() as system, anyio.create_task_group() as tasks:
        kid = system.spawn(partial(slow_to_fail(entered, gate), plan), policy=RESTART)

        async def ask(message: str) -> None:
            try:
                answers[message] = await kid.ask(message)
            except Boom as error:
                answers[message] = error

        tasks.start_soon(ask, "boom")
        await entered.wait()
        for number in range(5):
            tasks.start_soon(ask, f"ping{number}")
        await anyio.wait_all_tasks_blocked()
        info = system.actor_info(kid)
        assert info is not None
        assert info.mailbox_depth == 5
        gate.set()
        await kid.ask("last")
    assert answers.pop("boom") is plan.raised[0]
    assert answers == dict.fromkeys((f"ping{number}" for number in range(5)), 2)


async def test_g15_a_restart_stops_the_children_first_and_builds_after_them() -> None:
    log: list[str] = []

    class Leaf(Actor):
        def __init__(self, name: str) -> None:
            self.name = name

        async def on_stop(self) -> None:
            await anyio.lowlevel.checkpoint()
            log.append(f"stop {self.name}")

    class Top(Actor):
        def __init__(self) -> None:
            log.append("build")

        async def on_start(self) -> None:
            log.append("start")
            for name in "abc":
                self.context.spawn_child(partial(Leaf, name))

        async def receive(self, message: object) -> int:
            if message == "boom":
                raise Boom
            return len(self.context.children)

        async def on_stop(self) -> None:
            log.append("stop top")

    async with running() as system:
        top = system.spawn(Top, policy=RESTART)
        await top.ask(0)
        await top.tell("boom")
        assert await top.ask(0) == 3
        assert log == ["build", "start", "stop top", "stop c", "stop b", "stop a", "build", "start"]
        assert len(system.refs()) == 4


async def test_g15_the_window_slides_with_the_replaced_clock() -> None:
    now = 1_000.0
    policy = SupervisionPolicy(Strategy.RESTART, max_restarts=2, within_seconds=10.0)
    async with running(time_fn=lambda: now) as system:
        plan = Plan()
        kid = system.spawn(partial(Kid, plan), policy=policy)
        for step in (0.0, 6.0, 4.1, 6.0):  # never three within ten seconds
            now += step
            await kid.tell("boom")
            assert await kid.ask("ping") == len(plan.built)
        assert len(plan.built) == 5
        now += 3.9
        await kid.tell("boom")  # the third in 9.9 s
        assert (await until(system, ev.ActorStopped, kid)).reason == "restart_limit"
        assert len(plan.built) == 5


async def test_g15_max_restarts_0_allows_none() -> None:
    async with running() as system:
        plan = Plan()
        kid = system.spawn(partial(Kid, plan), policy=SupervisionPolicy(Strategy.RESTART, max_restarts=0))
        await kid.tell("boom")
        assert (await until(system, ev.ActorStopped, kid)).reason == "restart_limit"
        assert plan.built == [1] == plan.stops


async def test_g15_the_limit_holds_for_a_parents_decisions_too() -> None:
    async with running() as system:
        plan = Plan()
        boss = system.spawn(partial(Boss, plan, lambda *_: SupervisorDecision.RESTART))
        kid = await boss.ask(read_kid)
        for _ in range(4):
            await kid.tell("boom")
        assert (await until(system, ev.ActorStopped, kid)).reason == "restart_limit"
        assert plan.built == [1, 2, 3, 4]


@pytest.mark.parametrize("place", ["init", "start"])
async def test_g15_restarts_that_fail_count_as_failures_up_to_the_limit(place: str) -> None:
    async with running() as system:
        plan = Plan()
        kid = system.spawn(partial(Kid, plan), policy=RESTART)
        await kid.ask("ping")
        plan.failures[place] = 100
        await kid.tell("boom")
        assert (await until(system, ev.ActorStopped, kid)).reason == "restart_limit"
        assert plan.failures[place] == 97  # three restarts were tried
        assert plan.stops == plan.built
        assert kinds(system, kid) == ["ActorStarted", *["ActorCrashed"] * 4, "ActorStopped"]


async def test_g15_a_failing_on_start_is_the_cause_of_what_the_askers_get() -> None:
    async with running() as system:
        plan = Plan(start=1)
        kid = system.spawn(partial(Kid, plan))
        with pytest.raises(ActorStopped) as caught:
            await kid.ask("ping")
        assert caught.value.__cause__ is plan.raised[0]
        assert kinds(system, kid) == ["ActorCrashed", "ActorStopped"]
        assert plan.stops == [1]


async def test_g15_asks_that_wait_when_the_actor_fails_for_good_carry_the_failure() -> None:
    entered, gate = anyio.Event(), anyio.Event()

    plan = Plan()
    causes: list[BaseException | None] = []
    async with running() as system, anyio.create_task_group() as tasks:
        kid = system.spawn(partial(slow_to_fail(entered, gate), plan))

        async def ask() -> None:
            with pytest.raises(ActorStopped) as caught:
                await kid.ask("ping")
            causes.append(caught.value.__cause__)

        await kid.tell("boom")
        await entered.wait()
        for _ in range(3):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert causes == plan.raised * 3
    assert [letter.message for letter in system.dead_letters.messages] == ["ping"] * 3


async def test_g15_a_raising_on_stop_does_not_prevent_the_restart(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as system:
        plan = Plan(stop=1)
        kid = system.spawn(partial(Kid, plan), policy=RESTART)
        await kid.tell("boom")
        assert await kid.ask("ping") == 2
        assert plan.stops == [1]
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert [record.exc_info[1] for record in errors if record.exc_info] == plan.raised
    assert plan.stops == [1, 2]


async def test_g15_a_raising_on_stop_does_not_prevent_the_stop() -> None:
    async with running() as system:
        plan = Plan(stop=1)
        kid = system.spawn(partial(Kid, plan), name="kid")
        await kid.ask("ping")
        await system.stop(kid)
        assert plan.stops == [1]
        assert system.ref_for_name("kid") is None
        assert kinds(system, kid)[-1] == "ActorStopped"


@pytest.mark.parametrize("jitter", [0.0, 0.1, 1.0])
async def test_g15_backoff_grows_to_its_maximum(jitter: float) -> None:
    backoff = Backoff(0.5, 10.0, factor=3.0, jitter=jitter)
    rng = random.Random(7)
    for restart, wait in enumerate([0.5, 1.5, 4.5, 10.0, 10.0], start=1):
        drawn = [backoff.delay(restart, rng) for _ in range(200)]
        assert all(
            wait * (1 - jitter) - 1e-9 <= delay <= min(10.0, wait * (1 + jitter)) + 1e-9 for delay in drawn
        )
        if not jitter:
            assert set(drawn) == {wait}
        elif restart == 1:
            assert len(set(drawn)) > 100


@pytest.mark.parametrize("restart", [1, 2, 53, 64, 65, 1000, 10**9])
@pytest.mark.parametrize("factor", [1.0, 2.0, 1e6, 10**9, 1e300])
def test_g15_backoff_never_overflows(restart: int, factor: float) -> None:
    delay = Backoff(0.001, 5.0, factor=factor, jitter=0.1).delay(restart)
    assert 0 <= delay <= 5.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"initial": -1, "maximum": 1},
        {"initial": 2, "maximum": 1},
        {"initial": 1, "maximum": float("inf")},
        {"initial": float("nan"), "maximum": 1},
        {"initial": 1, "maximum": float("nan")},
        {"initial": 1, "maximum": 2, "factor": 0.5},
        {"initial": 1, "maximum": 2, "factor": float("nan")},
        {"initial": 1, "maximum": 2, "jitter": -0.1},
        {"initial": 1, "maximum": 2, "jitter": 1.1},
    ],
)
def test_g15_backoff_refuses_what_makes_no_sense(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Backoff needs"):
        Backoff(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"strategy": "restart"},
        {"max_restarts": -1},
        {"max_restarts": 1.5},
        {"within_seconds": 0},
        {"within_seconds": float("nan")},
        {"backoff": 1.0},
    ],
)
def test_g15_a_policy_refuses_what_makes_no_sense(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SupervisionPolicy(**arguments)


async def test_g14_a_policy_of_the_wrong_type_is_refused_at_the_spawn() -> None:
    """It must not come up at the first failure, where it would end the whole system."""
    async with running() as system:
        with pytest.raises(TypeError, match="policy"):
            system.spawn(partial(Kid, Plan()), policy=Strategy.RESTART)  # type: ignore[arg-type]  # on purpose
        assert system.refs() == []


async def test_g15_backoff_is_waited_for() -> None:
    policy = SupervisionPolicy(Strategy.RESTART, backoff=Backoff(0.05, 1.0, factor=2.0, jitter=0.0))
    async with running() as system:
        plan = Plan()
        kid = system.spawn(partial(Kid, plan), policy=policy)
        waited: list[float] = []
        for _ in range(2):
            began = anyio.current_time()
            await kid.tell("boom")
            await kid.ask("ping")
            waited.append(anyio.current_time() - began)
        assert waited[0] >= 0.045  # and no more, as far as a busy machine lets one say: see the next test
        assert waited[1] >= 0.095


async def test_g15_a_backoff_is_as_long_as_the_policy_says() -> None:
    clock = ManualClock()
    policy = SupervisionPolicy(Strategy.RESTART, backoff=Backoff(2.0, 60.0, factor=2.0, jitter=0.0))
    async with running(time_fn=clock) as system:
        plan = Plan()
        kid = system.spawn(partial(Kid, plan), policy=policy)
        await kid.ask("ping")
        for number, seconds in enumerate((2.0, 4.0, 8.0), 1):
            await kid.tell("boom")
            await anyio.wait_all_tasks_blocked()
            clock.advance(seconds - 0.5)
            await anyio.wait_all_tasks_blocked()
            assert plan.built == list(range(1, number + 1))
            clock.advance(0.5)
            assert await kid.ask("ping") == number + 1


async def test_g15_a_stop_does_not_wait_for_the_backoff() -> None:
    policy = SupervisionPolicy(Strategy.RESTART, backoff=Backoff(60.0, 60.0))
    async with running() as system:
        plan = Plan()
        kid = system.spawn(partial(Kid, plan), policy=policy)
        await kid.tell("boom")
        await system.wait_for_event(lambda _: bool(plan.stops))
        info = system.actor_info(kid)
        assert info is not None
        assert info.restarting
        await system.stop(kid)
        assert plan.built == [1] == plan.stops
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("moment", ["restarting", "backing off", "judged"])
async def test_g15_a_parent_that_stops_takes_its_child_along_whatever_it_is_at(moment: str) -> None:
    entered, gate = anyio.Event(), anyio.Event()

    class Slow(Kid):
        async def on_stop(self) -> None:
            await super().on_stop()
            if moment == "restarting":
                entered.set()
                await gate.wait()

    class Top(Actor):
        async def on_start(self) -> None:
            self.kid = self.context.spawn_child(partial(Slow, plan), policy=policy)

        async def receive(self, message: object) -> Any:
            if message == "wait":
                entered.set()
                await gate.wait()
            return self.kid

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> None:
            return None

    backoff = Backoff(60.0, 60.0) if moment == "backing off" else None
    policy = SupervisionPolicy(Strategy.RESTART, backoff=backoff)
    plan = Plan()
    async with running() as system, anyio.create_task_group() as tasks:
        top = system.spawn(Top)
        kid = await top.ask(0)
        if moment == "judged":
            await top.tell("wait")
            await entered.wait()
        await kid.tell("boom")
        await until(system, ev.ActorCrashed, kid)
        if moment == "restarting":
            await entered.wait()
        elif moment == "backing off":
            await anyio.wait_all_tasks_blocked()
            info = system.actor_info(kid)
            assert info is not None
            assert info.state == "restarting"
        tasks.start_soon(system.stop, top)
        await anyio.wait_all_tasks_blocked()
        gate.set()
        await until(system, ev.ActorStopped, top)
        assert kinds(system, kid)[-1] == "ActorStopped"
        assert system.refs(alive_only=False) == []
    assert plan.stops == plan.built


async def test_g15_an_actor_that_fails_while_it_stops_does_not_start_again() -> None:
    async with running() as system:
        plan = Plan()
        entered, gate = anyio.Event(), anyio.Event()

        class Slow(Kid):
            async def receive(self, message: str) -> int:
                entered.set()
                await gate.wait()
                return await super().receive(message)

        kid = system.spawn(partial(Slow, plan), policy=RESTART)
        await kid.tell("boom")
        await entered.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(system.stop, kid)
            await anyio.wait_all_tasks_blocked()
            gate.set()
        assert plan.built == [1] == plan.stops


async def test_g15_a_halted_actor_that_fails_does_not_start_again() -> None:
    class Halts(Actor):
        async def receive(self, _message: object) -> None:
            built.append(self)
            self.context.stop_self()
            raise Boom

    built: list[Actor] = []
    async with running() as system:
        ref = system.spawn(Halts, policy=RESTART)
        await ref.tell(1)
        await ref.tell(2)
        await until(system, ev.ActorStopped, ref)
        assert len(built) == 1
        assert "ActorRestarted" not in kinds(system, ref)
