"""Guarantee 14: a parent that waits, stops, or is itself in trouble."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    AskDeadlock,
    SupervisionPolicy,
    SupervisorDecision,
    SystemHooks,
)
from papyra import events as ev

from .families import Boss, Kid, Plan, failed_meanwhile, kinds, read_asked, read_kid, until
from .support import RESTART, Boom, running


@pytest.mark.parametrize("decision", [None, *SupervisorDecision])
async def test_g14_a_parent_that_waits_for_the_child_decides_at_once(
    decision: SupervisorDecision | None,
) -> None:
    plan = Plan()

    async def ask_twice(boss: Boss) -> Any:
        await boss.kid.tell("boom")
        try:
            return await boss.kid.ask("ping")
        except ActorStopped:
            return "stopped"

    async with running() as system:
        boss = system.spawn(partial(Boss, plan, lambda *_: decision))
        answer = await boss.ask(ask_twice)
        expected = {SupervisorDecision.RESTART: 2, SupervisorDecision.RESUME: 1}
        assert answer == expected.get(decision, "stopped")  # type: ignore[arg-type]  # None is not in it
        if decision is SupervisorDecision.ESCALATE:
            await until(system, ev.ActorStopped, boss)
        else:
            assert await boss.ask(read_asked) == plan.raised


class Between(Actor):
    async def receive(self, kid: ActorRef) -> Any:
        return await kid.ask("ping")


async def test_g14_a_parent_that_waits_through_a_third_actor_decides_at_once() -> None:
    plan = Plan()

    async with running() as system:
        between = system.spawn(Between)
        boss = system.spawn(partial(Boss, plan, lambda *_: SupervisorDecision.RESTART))

        async def ask_through(self: Boss) -> Any:
            await self.kid.tell("boom")
            return await between.ask(self.kid)

        assert await boss.ask(ask_through) == 2


async def test_g14_a_parent_that_stops_the_failing_child_and_waits_does_not_hang() -> None:
    plan = Plan()

    async def stop_it(boss: Boss) -> str:
        await boss.kid.tell("boom")
        await boss.kid.tell("ping")
        await boss.context.stop(boss.kid)
        return "stopped"

    async with running() as system:
        boss = system.spawn(partial(Boss, plan, lambda *_: SupervisorDecision.RESTART))
        assert await boss.ask(stop_it) == "stopped"
        assert plan.stops == plan.built == [1, 2]
        assert "ping 2" in plan.log  # what was queued is processed, by the new instance


@pytest.mark.parametrize("how", ["ask", "stop", "through"])
async def test_g14_a_decision_that_waits_for_the_judged_child_is_a_deadlock_not_a_hang(how: str) -> None:
    """While it is judged, the child takes no message and does not stop: guarantee 5 says `AskDeadlock`."""
    plan = Plan()
    seen: list[Exception] = []

    async with running() as system:
        between = system.spawn(partial(Between), policy=RESTART)

        async def decide(boss: Boss, child: ActorRef, _exc: Exception) -> SupervisorDecision:
            try:
                with anyio.fail_after(4):
                    if how == "ask":
                        await child.ask("ping")
                    elif how == "stop":
                        await boss.context.stop(child)
                    else:
                        await between.ask(child)
            except Exception as error:
                seen.append(error)
            return SupervisorDecision.RESUME

        boss = system.spawn(partial(Boss, plan, decide))
        kid = await boss.ask(read_kid)
        await kid.tell("boom")
        await kid.ask("ping")
        assert [type(error) for error in seen] == [AskDeadlock]


@pytest.mark.parametrize("how", ["ask", "through"])
async def test_g14_the_same_where_the_parent_already_waits(how: str) -> None:
    plan = Plan()
    seen: list[Exception] = []

    async with running() as system:
        between = system.spawn(Between, policy=RESTART)

        async def decide(_boss: Boss, child: ActorRef, _exc: Exception) -> SupervisorDecision:
            try:
                with anyio.fail_after(4):
                    await (child.ask("ping") if how == "ask" else between.ask(child))
            except Exception as error:
                seen.append(error)
            return SupervisorDecision.RESTART

        async def ask_it(boss: Boss) -> Any:
            await boss.kid.tell("boom")
            return await boss.kid.ask("ping")

        boss = system.spawn(partial(Boss, plan, decide))
        assert await boss.ask(ask_it) == 2
        assert [type(error) for error in seen] == [AskDeadlock]


async def test_g14_a_busy_parent_decides_after_its_message() -> None:
    plan = Plan()
    entered, gate = anyio.Event(), anyio.Event()

    async def busy(boss: Boss) -> None:
        entered.set()
        await gate.wait()
        assert not boss.asked

    async with running() as system:
        boss = system.spawn(partial(Boss, plan, lambda *_: SupervisorDecision.RESUME))
        kid = await failed_meanwhile(system, boss, busy, entered)
        info = system.actor_info(kid)
        assert info is not None
        assert info.state == "failed"
        gate.set()
        assert await kid.ask("ping") == 1
        assert boss.is_alive()


async def test_g14_an_on_child_failure_that_cannot_be_read_fails_the_parent() -> None:
    class Unreadable:
        def __get__(self, *_: object) -> object:
            raise LookupError("a descriptor")

    plan = Plan()
    kind: type[Boss] = type("Odd", (Boss,), {"on_child_failure": Unreadable()})
    async with running() as system:
        boss = system.spawn(partial(kind, plan, lambda *_: None, RESTART))
        kid = await boss.ask(read_kid)
        await kid.tell("boom")
        crash = await until(system, ev.ActorCrashed, boss)
        assert crash.payload["error"] == "LookupError: a descriptor"
        await until(system, ev.ActorStopped, boss)
    assert plan.stops == plan.built


@pytest.mark.parametrize("policy", [None, RESTART])
async def test_g14_a_parent_that_stops_leaves_no_child_waiting_for_its_decision(
    policy: SupervisionPolicy | None,
) -> None:
    plan = Plan()
    entered, gate = anyio.Event(), anyio.Event()

    async def leave(boss: Boss) -> None:
        entered.set()
        await gate.wait()
        boss.context.stop_self()

    async with running() as system:
        boss = system.spawn(partial(Boss, plan, lambda *_: SupervisorDecision.RESTART, policy))
        kid = await failed_meanwhile(system, boss, leave, entered)
        gate.set()
        await until(system, ev.ActorStopped, boss)
        assert kinds(system, kid)[-1] == "ActorStopped"
    assert plan.stops == plan.built


async def test_g14_a_parent_that_restarts_leaves_no_child_waiting_for_its_decision() -> None:
    plan = Plan()
    entered, gate = anyio.Event(), anyio.Event()

    async def fail(_boss: Boss) -> None:
        entered.set()
        await gate.wait()
        raise Boom("boss")

    async with running() as system:
        boss = system.spawn(partial(Boss, plan, lambda *_: SupervisorDecision.RESTART), policy=RESTART)
        kid = await failed_meanwhile(system, boss, fail, entered)
        gate.set()
        await until(system, ev.ActorRestarted, boss)
        assert kinds(system, kid)[-1] == "ActorStopped"
        assert await (await boss.ask(read_kid)).ask("ping") == plan.built[-1]
    assert plan.stops == plan.built


async def test_g14_a_parent_cancelled_while_it_decides_leaves_no_child_waiting() -> None:
    plan = Plan()
    deciding = anyio.Event()

    async def decide(*_: object) -> SupervisorDecision:
        deciding.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with running() as system:
        boss = system.spawn(partial(Boss, plan, decide))
        kid = await boss.ask(read_kid)
        await kid.tell("boom")
        await deciding.wait()
        await system.stop(boss, timeout=0.05)
        assert kinds(system, kid)[-1] == "ActorStopped"
        assert kinds(system, boss)[-1] == "ActorStopped"
    assert plan.stops == plan.built


async def test_g14_siblings_that_fail_together_are_each_judged_once() -> None:
    plans = [Plan() for _ in range(20)]
    asked: list[ActorRef] = []

    class Many(Actor):
        async def on_start(self) -> None:
            self.kids = [self.context.spawn_child(partial(Kid, plan)) for plan in plans]

        async def receive(self, _message: object) -> list[ActorRef]:
            for kid in self.kids:
                await kid.tell("boom")
            return self.kids

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision:
            asked.append(child_ref)
            await anyio.lowlevel.checkpoint()
            return SupervisorDecision.RESTART

    async with running() as system:
        kids = await system.spawn(Many).ask(0)
        assert [await kid.ask("ping") for kid in kids] == [2] * 20
        assert sorted(asked, key=lambda ref: ref.address.actor_id) == kids


async def test_g14_decides_on_a_child_that_fails_before_the_parent_has_started() -> None:
    plan = Plan(start=1)
    failed = anyio.Event()

    class Early(Boss):
        async def on_start(self) -> None:
            await super().on_start()
            await failed.wait()

    hooks = SystemHooks(on_event=lambda event: failed.set() if isinstance(event, ev.ActorCrashed) else None)
    async with running(hooks=hooks) as system:
        boss = system.spawn(partial(Early, plan, lambda *_: SupervisorDecision.RESTART))
        kid = await boss.ask(read_kid)
        assert await kid.ask("ping") == 2
