"""Guarantee 14: who decides on a failure."""

from __future__ import annotations

import logging
from functools import partial

import anyio
import pytest

from papyra import Actor, ActorRef, ActorStopped, Strategy, SupervisorDecision
from papyra import events as ev

from .families import Boss, Kid, Plan, kinds, read_asked, read_kid, until
from .support import RESTART, Boom, running


@pytest.mark.parametrize("place", ["tell", "ask", "start", "start again", "init again"])
@pytest.mark.parametrize("decision", [None, *SupervisorDecision])
async def test_g14_each_decision_wherever_the_child_fails(
    place: str, decision: SupervisorDecision | None
) -> None:
    """Second failures (``again``) are those of the instance that a first decision to restart built."""
    plan = Plan(start=1) if place == "start" else Plan()
    first = place.endswith("again")
    bosses: list[Boss] = []

    class Noted(Boss):
        async def on_start(self) -> None:
            await super().on_start()
            bosses.append(self)

    def decide(boss: Boss, child: ActorRef, exc: Exception) -> SupervisorDecision | None:
        assert child == boss.kid
        if first and len(boss.asked) == 1:
            plan.failures[place.split()[0]] = 1
            return SupervisorDecision.RESTART
        return decision

    async with running() as system:
        boss = system.spawn(partial(Noted, plan, decide))
        await system.wait_for_event(ev.ActorStarted)
        kid, asked = bosses[0].kid, bosses[0].asked
        if place == "ask":
            with pytest.raises(Boom) as caught:
                await kid.ask("boom")
            assert caught.value is plan.raised[0]
        elif place != "start":
            await kid.tell("boom")

        instances = 2 if first and place != "init again" else 1  # that came to be before the decision
        failed_instance = plan.raised[-1] if place in ("start", "ask") and plan.raised else None
        if decision is SupervisorDecision.RESTART:
            assert await kid.ask("ping") == instances + 1
            assert boss.is_alive()
        elif decision is SupervisorDecision.RESUME and place != "init again":
            assert await kid.ask("ping") == instances
            assert boss.is_alive()
        else:
            stopped = await until(system, ev.ActorStopped, kid)
            assert stopped.reason == "failed"
            assert not kid.is_alive()
            if decision is SupervisorDecision.ESCALATE:
                assert (await until(system, ev.ActorStopped, boss)).reason == "failed"
                crash = await until(system, ev.ActorCrashed, boss)
                assert str(plan.raised[-1]) in str(crash.payload["error"])
            else:
                assert await boss.ask(read_asked) is asked
                assert kinds(system, boss) == ["ActorStarted"]
        assert asked == plan.raised
        assert all(one is other for one, other in zip(asked, plan.raised, strict=True))
        assert failed_instance is None or failed_instance in asked
    assert plan.stops == plan.built, "on_stop runs exactly once for each instance"


async def test_g14_an_unnamed_actor_stops_and_a_named_one_restarts_three_times() -> None:
    async with running() as system:
        plan, named_plan = Plan(), Plan()
        unnamed = system.spawn(partial(Kid, plan))
        await unnamed.tell("boom")
        assert (await until(system, ev.ActorStopped, unnamed)).reason == "failed"
        assert plan.built == [1]

        named = system.spawn(partial(Kid, named_plan), name="named")
        for restarts in range(1, 4):
            await named.tell("boom")
            assert await named.ask("ping") == restarts + 1
        await named.tell("boom")
        assert (await until(system, ev.ActorStopped, named)).reason == "restart_limit"
        assert named_plan.built == [1, 2, 3, 4] == named_plan.stops
        assert kinds(system, named) == [
            "ActorStarted",
            *["ActorCrashed", "ActorRestarted"] * 3,
            "ActorCrashed",
            "ActorStopped",
        ]


async def test_g14_without_a_decision_the_childs_own_policy_counts() -> None:
    async with running() as system:
        plan = Plan()
        boss = system.spawn(partial(Boss, plan, lambda *_: None, RESTART))
        kid = await boss.ask(read_kid)
        await kid.tell("boom")
        assert await kid.ask("ping") == 2
        assert len(await boss.ask(read_asked)) == 1


@pytest.mark.parametrize("wrong", [True, "restart", Strategy.RESTART, 0])
async def test_g14_a_decision_of_the_wrong_type_fails_the_parent(
    wrong: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as system:
        plan = Plan()
        boss = system.spawn(partial(Boss, plan, lambda *_: wrong))
        kid = await boss.ask(read_kid)
        await kid.tell("boom")
        await until(system, ev.ActorStopped, kid)
        crash = await until(system, ev.ActorCrashed, boss)
        assert "SupervisorDecision" in str(crash.payload["error"])
        await until(system, ev.ActorStopped, boss)
    assert plan.stops == [1]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2


async def test_g14_a_parent_whose_decision_raises_is_judged_for_itself() -> None:
    class Grand(Actor):
        seen: Exception | None = None

        async def on_start(self) -> None:
            self.boss = self.context.spawn_child(partial(Boss, plan, decide))

        async def receive(self, _message: object) -> ActorRef:
            return self.boss

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision:
            judged.append((child_ref, exc))
            return SupervisorDecision.RESUME

    def decide(*_: object) -> SupervisorDecision:
        raise own

    own = LookupError("in on_child_failure")
    judged: list[tuple[ActorRef, Exception]] = []
    plan = Plan()
    async with running() as system:
        grand = system.spawn(Grand)
        boss = await grand.ask(0)
        kid = await boss.ask(read_kid)
        await kid.tell("boom")
        await until(system, ev.ActorStopped, kid)
        await until(system, ev.ActorCrashed, boss)
        assert len(await boss.ask(read_asked)) == 1  # resumed: the same boss
        assert judged == [(boss, own)]


async def test_g14_a_plain_on_child_failure_decides_too() -> None:
    class Plain(Boss):
        def on_child_failure(  # type: ignore[override]  # a plain function on purpose
            self, child_ref: ActorRef, exc: Exception
        ) -> SupervisorDecision:
            return SupervisorDecision.RESUME

    async with running() as system:
        boss = system.spawn(partial(Plain, Plan(), lambda *_: None))
        kid = await boss.ask(read_kid)
        await kid.tell("boom")
        assert await kid.ask("ping") == 1


async def test_g14_resume_goes_on_with_the_next_message() -> None:
    async with running() as system:
        plan = Plan()
        boss = system.spawn(partial(Boss, plan, lambda *_: SupervisorDecision.RESUME))
        kid = await boss.ask(read_kid)
        for message in ("one", "boom", "two", "boom", "three"):
            await kid.tell(message)
        await kid.ask("four")
        assert plan.log == ["init 1", "start 1", "one 1", "two 1", "three 1", "four 1"]
        assert kinds(system, kid) == ["ActorStarted", "ActorCrashed", "ActorCrashed"]


async def test_g14_a_resumed_actor_forgets_its_failure() -> None:
    entered, gate = anyio.Event(), anyio.Event()

    class Slow(Kid):
        async def receive(self, message: str) -> int:
            if message == "wait":
                entered.set()
                await gate.wait()
                self.context.stop_self()
            return await super().receive(message)

    class Top(Actor):
        async def receive(self, _message: object) -> ActorRef:
            return self.context.spawn_child(partial(Slow, Plan()))

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision:
            return SupervisorDecision.RESUME

    async with running() as system, anyio.create_task_group() as tasks:
        kid = await system.spawn(Top).ask(0)
        await kid.tell("boom")
        await kid.tell("wait")
        await entered.wait()

        async def ask() -> None:
            with pytest.raises(ActorStopped) as caught:
                await kid.ask("never")
            assert caught.value.__cause__ is None  # it stopped, it did not fail

        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        gate.set()
