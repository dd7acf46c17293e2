"""Parents that decide, and children that fail as planned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio

from papyra import Actor, ActorRef, ActorSystem, SupervisionPolicy, SupervisorDecision
from papyra import events as ev

from .support import Boom


class Plan:
    """What the instances of one actor do and did."""

    def __init__(self, **failures: int) -> None:
        self.failures = failures  # place -> how many times it still fails
        self.built: list[int] = []
        self.log: list[str] = []
        self.raised: list[Boom] = []

    def trip(self, place: str, number: int) -> None:
        self.log.append(f"{place} {number}")
        if self.failures.get(place, 0) > 0:
            self.failures[place] -= 1
            raise self.boom(place)

    def boom(self, place: str) -> Boom:
        error = Boom(place)
        self.raised.append(error)
        return error

    @property
    def stops(self) -> list[int]:
        return sorted(int(line.split()[1]) for line in self.log if line.startswith("stop"))


class Kid(Actor):
    """Fail where the plan says; reply with the number of the instance."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.number = len(plan.built) + 1
        plan.trip("init", self.number)
        plan.built.append(self.number)

    async def on_start(self) -> None:
        self.plan.trip("start", self.number)

    async def receive(self, message: str) -> int:
        if message.startswith("boom"):
            raise self.plan.boom(message)
        self.plan.log.append(f"{message} {self.number}")
        return self.number

    async def on_stop(self) -> None:
        self.plan.trip("stop", self.number)


def slow_to_fail(entered: anyio.Event, gate: anyio.Event) -> type[Kid]:
    """Make a kid that waits at the gate before it fails."""

    class Slow(Kid):
        async def receive(self, message: str) -> int:
            if message == "boom":
                entered.set()
                await gate.wait()
            return await super().receive(message)

    return Slow


class Boss(Actor):
    """Spawn one kid and decide with a function; a message is a function of the boss."""

    def __init__(
        self,
        plan: Plan,
        decide: Callable[[Boss, ActorRef, Exception], Any],
        policy: SupervisionPolicy | None = None,
    ) -> None:
        self.plan = plan
        self.decide = decide
        self.policy = policy
        self.asked: list[Exception] = []

    async def on_start(self) -> None:
        self.kid = self.context.spawn_child(partial(Kid, self.plan), policy=self.policy)

    async def receive(self, message: Callable[[Boss], Awaitable[Any]]) -> Any:
        return await message(self)

    async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision | None:
        self.asked.append(exc)
        decision: Any = self.decide(self, child_ref, exc)
        decided: SupervisorDecision | None = await decision if hasattr(decision, "__await__") else decision
        return decided


async def read_kid(boss: Boss) -> ActorRef:
    return boss.kid


async def read_asked(boss: Boss) -> list[Exception]:
    return boss.asked


def kinds(system: ActorSystem, ref: ActorRef) -> list[str]:
    return [
        type(event).__name__ for event in system.events() if event.address["actor_id"] == ref.address.actor_id
    ]


async def until(system: ActorSystem, kind: type[ev.ActorEvent], ref: ActorRef) -> ev.ActorEvent:
    return await system.wait_for_event(
        lambda event: type(event) is kind and event.address["actor_id"] == ref.address.actor_id, timeout=4
    )


async def failed_meanwhile(system: ActorSystem, boss: ActorRef, deed: Any, entered: anyio.Event) -> ActorRef:
    """Return the kid, which has failed while its boss is at a deed."""
    kid: ActorRef = await boss.ask(read_kid)
    await boss.tell(deed)
    await entered.wait()
    await kid.tell("boom")
    await until(system, ev.ActorCrashed, kid)
    return kid
