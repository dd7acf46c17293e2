"""Guarantee 16: escalation."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from papyra import (
    Actor,
    ActorRef,
    Backoff,
    FailureInfo,
    Strategy,
    SupervisionPolicy,
    SupervisorDecision,
    SystemHooks,
)
from papyra import events as ev

from .families import Boss, Kid, Plan, read_kid, until
from .support import ESCALATE, RESTART, Boom, running


async def test_g16_escalation_goes_up_to_the_root_with_the_same_exception() -> None:
    infos: list[FailureInfo] = []

    class Link(Actor):
        def __init__(self, depth: int) -> None:
            self.depth = depth

        async def on_start(self) -> None:
            if self.depth:
                self.below = self.context.spawn_child(partial(Link, self.depth - 1), policy=ESCALATE)

        async def receive(self, message: list[ActorRef]) -> list[ActorRef]:
            message.append(self.context.self_ref)
            if self.depth:
                return list(await self.below.ask(message))
            if len(message) == 5:
                return message
            raise error

    error = Boom("deep")
    hooks = SystemHooks(on_failure=infos.append)
    async with running(hooks=hooks) as system:
        top = system.spawn(partial(Link, 4), policy=ESCALATE)
        chain = await top.ask([])
        other = system.spawn(partial(Link, 0))
        await chain[-1].tell([])
        stopped = [await until(system, ev.ActorStopped, ref) for ref in chain]
        assert [event.reason for event in stopped] == ["failed"] * 5
        assert other.is_alive()
        assert [(info.address, info.strategy) for info in infos] == [
            (ref.address, Strategy.ESCALATE) for ref in reversed(chain)
        ]
        assert all(info.error is error for info in infos)


async def test_g16_the_parent_that_an_escalation_fails_restarts_by_its_own_policy() -> None:
    async with running() as system:
        plan = Plan()
        boss = system.spawn(partial(Boss, plan, lambda *_: SupervisorDecision.ESCALATE), policy=RESTART)
        kid = await boss.ask(read_kid)
        await kid.tell("boom")
        await until(system, ev.ActorRestarted, boss)
        again = await boss.ask(read_kid)
        assert again != kid
        assert await again.ask("ping") == 2
        assert plan.stops == [1]


async def test_g16_escalation_waits_for_a_busy_parent() -> None:
    entered, gate = anyio.Event(), anyio.Event()

    async def busy(_boss: Boss) -> str:
        entered.set()
        await gate.wait()
        return "done"

    answers: list[str] = []
    async with running() as system, anyio.create_task_group() as tasks:
        plan = Plan()

        class Quiet(Boss):
            on_child_failure = Actor.on_child_failure

        boss = system.spawn(partial(Quiet, plan, lambda *_: None, ESCALATE))
        kid = await boss.ask(read_kid)

        async def ask() -> None:
            answers.append(await boss.ask(busy))

        tasks.start_soon(ask)
        await entered.wait()
        await kid.tell("boom")
        await until(system, ev.ActorStopped, kid)
        assert boss.is_alive()
        gate.set()
        await until(system, ev.ActorStopped, boss)
    assert answers == ["done"]


@pytest.mark.parametrize("at", ["on_stop of a restart", "on_stop of a stop", "backoff", "start"])
async def test_g16_escalation_to_a_parent_that_restarts_starts_or_stops(at: str) -> None:
    entered, gate = anyio.Event(), anyio.Event()
    plan = Plan()

    class Quiet(Actor):
        starts = 0

        async def on_start(self) -> None:
            Quiet.starts += 1
            self.kid = self.context.spawn_child(partial(Kid, plan), policy=ESCALATE)
            kids.append(self.kid)
            if at == "start" and Quiet.starts == 1:
                entered.set()
                await gate.wait()

        async def receive(self, message: object) -> ActorRef:
            if message == "boom":
                raise Boom("parent")
            return self.kid

        async def on_stop(self) -> None:
            if at.startswith("on_stop") and Quiet.starts == 1:
                entered.set()
                await gate.wait()

    kids: list[ActorRef] = []
    backoff = Backoff(0.05, 0.05) if at == "backoff" else None
    async with running() as system, anyio.create_task_group() as tasks:
        ref = system.spawn(Quiet, policy=SupervisionPolicy(Strategy.RESTART, backoff=backoff))
        if at != "start":
            await ref.ask(0)
        if at == "on_stop of a restart":
            await ref.tell("boom")
        elif at == "on_stop of a stop":
            tasks.start_soon(system.stop, ref)
        if at == "backoff":
            await kids[0].tell("boom")
            await ref.tell("boom")
        elif at == "on_stop of a stop":
            await entered.wait()  # the child is gone before its parent's on_stop
            assert not kids[0].is_alive()
        else:
            await entered.wait()
            await kids[0].tell("boom")
            await until(system, ev.ActorStopped, kids[0])
        gate.set()
        if at == "on_stop of a stop":
            await until(system, ev.ActorStopped, ref)
        else:
            kid = await ref.ask(0)
            while kid == kids[0]:
                await until(system, ev.ActorRestarted, ref)
                kid = await ref.ask(0)
            assert await kid.ask("ping") == len(plan.built)
            assert Quiet.starts <= 3
    assert plan.stops == plan.built


async def test_g16_an_escalated_failure_is_judged_by_the_grandparent() -> None:
    judged: list[tuple[ActorRef, Exception]] = []
    plan = Plan()

    class Grand(Actor):
        async def on_start(self) -> None:
            self.boss = self.context.spawn_child(partial(Boss, plan, lambda *_: SupervisorDecision.ESCALATE))

        async def receive(self, _message: object) -> ActorRef:
            return self.boss

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision:
            judged.append((child_ref, exc))
            return SupervisorDecision.RESTART

    async with running() as system:
        boss = await system.spawn(Grand).ask(0)
        kid = await boss.ask(read_kid)
        await kid.tell("boom")
        await until(system, ev.ActorRestarted, boss)
        assert judged == [(boss, plan.raised[0])]
