"""Guarantee 8: `on_start` before the first message, `on_stop` exactly once."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorRef, Strategy, SupervisionPolicy

from .lives import Logged, logged, stops
from .support import Runs, SlowStart, boom, go_round, nothing, running, stuck, wait_until


async def test_g08_on_start_comes_before_the_first_message_and_on_stop_after_the_last() -> None:
    log: list[str] = []

    async def job(actor: Logged) -> None:
        actor.steps.append("message")
        await go_round(3)

    async with running() as system:
        ref = system.spawn(logged(log, "a"))
        for _ in range(3):
            await ref.tell(job)
    assert log == ["a on_start", "message", "message", "message", "a on_stop"]


async def test_g08_many_messages_sent_at_once_after_the_spawn_come_after_on_start() -> None:
    order: list[str] = []
    for capacity in (1, 2, 1024, None):
        order.clear()
        async with running() as system:
            ref = system.spawn(SlowStart, order, mailbox_capacity=capacity)
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(ref.tell, "tell")
                group.start_soon(ref.ask, "ask")
        assert order[0] == "on_start"
        assert sorted(order[1:]) == ["ask"] + ["tell"] * 5


async def test_g08_context_works_everywhere() -> None:
    seen: list[tuple[str, object]] = []

    class Looks(Actor):
        def look(self, where: str) -> None:
            context = self.context
            seen.append((where, context.self_ref))
            assert context.system is system
            assert context.parent is None
            assert context.children == ()
            assert repr(context) == f"<ActorContext of {context.self_ref._cell}>"

        async def on_start(self) -> None:
            self.look("on_start")

        async def receive(self, message: Any) -> None:
            self.look("receive")

        async def on_stop(self) -> None:
            self.look("on_stop")

    async with running() as system:
        ref = system.spawn(Looks)
        await ref.ask(1)
    assert seen == [("on_start", ref), ("receive", ref), ("on_stop", ref)]


async def test_g08_context_of_parents_and_children() -> None:
    async def spawn(actor: Runs) -> ActorRef[Any, Any]:
        return actor.context.spawn_child(Runs, mailbox_capacity=5)

    async def family(actor: Runs) -> tuple[Any, ...]:
        return (actor.context.parent, actor.context.children, actor.context.mailbox_capacity)

    async with running() as system:
        parent = system.spawn(Runs)
        first, second = await parent.ask(spawn), await parent.ask(spawn)
        assert await parent.ask(family) == (None, (first, second), 1024)
        assert await first.ask(family) == (parent, (), 5)
        await system.stop(first)
        assert (await parent.ask(family))[1] == (second,)


async def test_g08_started_follows_on_start_and_stopped_follows_on_stop() -> None:
    seen: list[str] = []

    class Looks(Actor):
        async def on_start(self) -> None:
            await go_round(3)
            seen.extend(type(event).__name__ for event in system.events())
            seen.append("on_start")

        async def on_stop(self) -> None:
            await go_round(3)
            seen.extend(type(event).__name__ for event in system.events())
            seen.append("on_stop")

    async with running() as system:
        await system.stop(system.spawn(Looks))
        seen.extend(type(event).__name__ for event in system.events())
    assert seen == ["on_start", "ActorStarted", "on_stop", "ActorStarted", "ActorStopped"]


ENDS: dict[str, str] = {
    "stop": "stopped",
    "stop with a timeout": "stopped",
    "forced": "stopped",
    "stop_self": "stopped",
    "failure": "failed",
    "restart limit": "restart_limit",
    "aclose": "shutdown",
    "stop_all": "stopped",
    "failing on_start": "failed",
    "stop before on_start": "stopped",
    "stuck on_start": "stopped",
}


@pytest.mark.parametrize("end", ENDS)
async def test_g08_on_stop_runs_exactly_once_for_each_instance_whatever_happened(end: str) -> None:
    instances: list[Counts] = []

    class Counts(Runs):
        def __init__(self) -> None:
            self.stops = 0
            self.number = len(instances)
            instances.append(self)

        async def on_start(self) -> None:
            if end == "failing on_start":
                raise OSError
            if end == "stuck on_start":
                await anyio.sleep_forever()

        async def on_stop(self) -> None:
            self.stops += 1
            await go_round(3)

    async def stop_self(actor: Runs) -> None:
        actor.context.stop_self()

    async with running() as system:
        policy = SupervisionPolicy(Strategy.RESTART, max_restarts=2) if end == "restart limit" else None
        ref = system.spawn(Counts, policy=policy)
        if end != "stop before on_start":
            await go_round()
        if end == "forced":
            await ref.tell(stuck)
            await go_round()
        if end in ("stop", "stop before on_start"):
            await system.stop(ref)
        elif end in ("stop with a timeout", "forced", "stuck on_start"):
            await system.stop(ref, timeout=4.0 if end == "stop with a timeout" else 0.0)
        elif end == "stop_self":
            await ref.tell(stop_self)
        elif end == "failure":
            await ref.tell(boom)
        elif end == "restart limit":
            for _ in range(3):
                await ref.tell(boom)
        elif end == "stop_all":
            await system.stop_all()
        if end != "aclose":
            await wait_until(lambda: bool(stops(system)))
    assert stops(system) == [(1, ENDS[end])]
    assert [one.stops for one in instances] == [1] * (3 if end == "restart limit" else 1)
    assert not ref.is_alive()


async def test_g08_a_failing_on_stop_does_not_keep_the_actor_from_stopping(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Fails(Actor):
        async def on_stop(self) -> None:
            raise OSError("can't")

    async with running() as system:
        await system.stop(system.spawn(Fails))
        assert stops(system) == [(1, "stopped")]
    assert caplog.text.count("OSError: can't") == 1


async def test_g08_every_instance_of_a_restarting_actor_gets_its_own_on_start_and_on_stop() -> None:
    log: list[str] = []
    count = 0

    class Numbered(Logged):
        def __init__(self) -> None:
            nonlocal count
            count += 1
            self.label = str(count)

    async with running() as system:
        ref = system.spawn(logged(log, "", Numbered), name="phoenix")
        for _ in range(2):
            await ref.tell(boom)
        assert await ref.ask(nothing) == "answer"
    assert log == ["1 on_start", "1 on_stop", "2 on_start", "2 on_stop", "3 on_start", "3 on_stop"]


async def test_g08_hooks_that_are_patched_into_the_base_class_run(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    async def on_start(_actor: Actor) -> None:
        log.append("on_start")

    async def on_stop(_actor: Actor) -> None:
        log.append("on_stop")

    monkeypatch.setattr(Actor, "on_start", on_start)
    monkeypatch.setattr(Actor, "on_stop", on_stop)
    async with running() as system:
        assert await system.spawn(Runs).ask(nothing) == "answer"
    assert log == ["on_start", "on_stop"]
