"""Guarantee 18: a watcher hears once, after `on_stop`, whatever its mailbox holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from papyra import Actor, ActorRef, ActorTerminated, Strategy, SupervisionPolicy
from papyra import events as ev

from .support import Echo, running


class Watcher(Actor):
    """Run the function that a message is; keep what else arrives."""

    def __init__(self, heard: list[ActorTerminated] | None = None) -> None:
        self.heard: list[ActorTerminated] = [] if heard is None else heard

    async def receive(self, message: Callable[[Watcher], Awaitable[Any]] | ActorTerminated) -> Any:
        if isinstance(message, ActorTerminated):
            self.heard.append(message)
            return None
        return await message(self)


def watch(ref: ActorRef) -> Callable[[Watcher], Awaitable[None]]:
    async def act(actor: Watcher) -> None:
        await actor.context.watch(ref)

    return act


def unwatch(ref: ActorRef) -> Callable[[Watcher], Awaitable[None]]:
    async def act(actor: Watcher) -> None:
        actor.context.unwatch(ref)

    return act


async def heard(actor: Watcher) -> list[tuple[ActorRef, str]]:
    return [(message.ref, message.reason) for message in actor.heard]


@pytest.mark.parametrize("how", ["stopped", "failed", "restart_limit"])
async def test_g18_arrives_once_with_the_reason(how: str) -> None:
    policy = SupervisionPolicy(Strategy.RESTART, max_restarts=0) if how == "restart_limit" else None
    async with running() as system:
        watcher, target = system.spawn(Watcher), system.spawn(Echo, policy=policy)
        await watcher.ask(watch(target))
        await watcher.ask(watch(target))  # twice is once
        assert await watcher.ask(heard) == []
        if how == "stopped":
            await system.stop(target)
        else:
            await target.tell("boom")
            await system.wait_for_event(ev.ActorStopped)
        assert await watcher.ask(heard) == [(target, how)]
        await system.stop(target)
        assert await watcher.ask(heard) == [(target, how)]


async def test_g18_arrives_after_on_stop() -> None:
    log: list[str] = []
    gate, stopping = anyio.Event(), anyio.Event()

    class Slow(Echo):
        async def on_stop(self) -> None:
            stopping.set()
            await gate.wait()
            log.append("on_stop")

    class Logs(Watcher):
        async def receive(self, message: Any) -> Any:
            if isinstance(message, ActorTerminated):
                log.append("terminated")
            return await super().receive(message)

    async with running() as system, anyio.create_task_group() as tasks:
        watcher, target = system.spawn(Logs), system.spawn(Slow)
        await watcher.ask(watch(target))
        tasks.start_soon(system.stop, target)
        await stopping.wait()
        assert await watcher.ask(heard) == []
        gate.set()
        await system.wait_for_event(ev.ActorStopped)
        await watcher.ask(heard)
        assert log == ["on_stop", "terminated"]


async def test_g18_watchers_are_not_notified_of_a_restart() -> None:
    async with running() as system:
        watcher = system.spawn(Watcher)
        target = system.spawn(Echo, policy=SupervisionPolicy(Strategy.RESTART))
        await watcher.ask(watch(target))
        await target.tell("boom")
        await target.ask("ping")
        assert await watcher.ask(heard) == []
        await system.stop(target)  # the watch outlives the restart
        assert await watcher.ask(heard) == [(target, "stopped")]


async def test_g18_a_watcher_that_restarts_still_hears() -> None:
    kept: list[ActorTerminated] = []

    async def fail(_actor: Watcher) -> None:
        raise RuntimeError("watcher")

    async with running() as system:
        watcher = system.spawn(partial(Watcher, kept), policy=SupervisionPolicy(Strategy.RESTART))
        target = system.spawn(Echo)
        await watcher.ask(watch(target))
        await watcher.tell(fail)
        await system.stop(target)
        await watcher.ask(heard)
        assert kept == [ActorTerminated(target, "stopped")]


async def test_g18_is_never_refused_by_a_full_mailbox() -> None:
    entered, gate = anyio.Event(), anyio.Event()

    async def block(_actor: Watcher) -> None:
        entered.set()
        await gate.wait()

    async def nothing(_actor: Watcher) -> None:
        pass

    async with running() as system:
        watcher = system.spawn(Watcher, mailbox_capacity=2)
        targets = [system.spawn(Echo) for _ in range(5)]
        for target in targets:
            await watcher.ask(watch(target))
        await watcher.tell(block)
        await entered.wait()
        await watcher.tell(nothing)
        await watcher.tell(nothing)
        with anyio.move_on_after(0.01) as scope:
            await watcher.tell(nothing)
        assert scope.cancelled_caught, "the mailbox is full"
        for target in targets:
            await system.stop(target)
        gate.set()
        assert await watcher.ask(heard) == [(target, "stopped") for target in targets]
        assert system.dead_letters.count == 0


async def test_g18_watching_a_dead_actor_delivers_at_once() -> None:
    async with running() as system:
        watcher, target = system.spawn(Watcher), system.spawn(Echo)
        await target.tell("boom")
        await system.wait_for_event(ev.ActorStopped)
        await watcher.ask(watch(target))
        assert await watcher.ask(heard) == [(target, "failed")]


async def test_g18_watching_an_actor_that_is_stopping_waits_for_its_stop() -> None:
    gate, stopping = anyio.Event(), anyio.Event()

    class Slow(Echo):
        async def on_stop(self) -> None:
            stopping.set()
            await gate.wait()

    async with running() as system, anyio.create_task_group() as tasks:
        watcher, target = system.spawn(Watcher), system.spawn(Slow)
        await target.ask(1)
        tasks.start_soon(system.stop, target)
        await stopping.wait()
        await watcher.ask(watch(target))
        assert await watcher.ask(heard) == []
        gate.set()
        await system.wait_for_event(ev.ActorStopped)
        assert await watcher.ask(heard) == [(target, "stopped")]


async def test_g18_unwatch_undoes_watch() -> None:
    async with running() as system:
        watcher, target = system.spawn(Watcher), system.spawn(Echo)
        await watcher.ask(unwatch(target))  # nothing to undo
        await watcher.ask(watch(target))
        await watcher.ask(unwatch(target))
        await system.stop(target)
        assert await watcher.ask(heard) == []


async def test_g18_a_stopped_watcher_costs_nothing() -> None:
    """It gets no message, and leaves no dead letter."""
    async with running() as system:
        watcher, target = system.spawn(Watcher), system.spawn(Echo)
        await watcher.ask(watch(target))
        await system.stop(watcher)
        await system.stop(target)
        assert system.dead_letters.count == 0


async def test_g18_actors_that_watch_each_other_stop_together() -> None:
    kept: list[ActorTerminated] = []
    async with running() as system:
        one, other = system.spawn(partial(Watcher, kept)), system.spawn(partial(Watcher, kept))
        await one.ask(watch(other))
        await other.ask(watch(one))
        await system.stop(one)
        await other.ask(heard)
        assert kept == [ActorTerminated(one, "stopped")]


async def test_g18_a_parent_hears_of_its_child() -> None:
    async def make(actor: Watcher) -> ActorRef:
        child = actor.context.spawn_child(Echo)
        actor.context.watch(child)
        return child

    async with running() as system:
        watcher = system.spawn(Watcher)
        child = await watcher.ask(make)
        await child.tell("boom")
        await system.wait_for_event(ev.ActorStopped)
        assert await watcher.ask(heard) == [(child, "failed")]


async def test_g18_may_be_asked_for_in_on_start() -> None:
    class Early(Watcher):
        async def on_start(self) -> None:
            self.context.watch(target)
            self.context.watch(dead)

    async with running() as system:
        target, dead = system.spawn(Echo), system.spawn(Echo)
        await system.stop(dead)
        watcher = system.spawn(Early)
        await watcher.ask(heard)  # is in the mailbox before on_start has run
        assert await watcher.ask(heard) == [(dead, "stopped")]
        await system.stop(target)
        assert await watcher.ask(heard) == [(dead, "stopped"), (target, "stopped")]


async def test_g18_an_actor_cannot_watch_itself() -> None:
    async def watch_me(actor: Watcher) -> None:
        with pytest.raises(ValueError, match="itself"):
            actor.context.watch(actor.context.self_ref)

    async with running() as system:
        await system.spawn(Watcher).ask(watch_me)


async def test_g18_an_actor_of_another_system_cannot_be_watched() -> None:
    async def watch_it(actor: Watcher) -> None:
        for ref in (alive, dead):
            with pytest.raises(ValueError, match="a different actor system"):
                actor.context.watch(ref)

    async with running() as system, running() as other:
        alive, dead = other.spawn(Echo), other.spawn(Echo)
        await other.stop(dead)
        await system.spawn(Watcher).ask(watch_it)


async def test_g18_watchers_are_notified_once_of_a_forced_stop_too() -> None:
    class Stuck(Echo):
        async def receive(self, _message: object) -> None:
            entered.set()
            await anyio.sleep_forever()

    entered = anyio.Event()
    async with running() as system:
        watcher, target = system.spawn(Watcher), system.spawn(Stuck)
        await watcher.ask(watch(target))
        await target.tell(1)
        await entered.wait()
        await system.stop(target, timeout=0.01)
        assert await watcher.ask(heard) == [(target, "stopped")]


async def test_g18_many_watchers_hear_once_each() -> None:
    async with running() as system:
        target = system.spawn(Echo)
        watchers = [system.spawn(Watcher) for _ in range(200)]
        for watcher in watchers:
            await watcher.ask(watch(target))
        await system.stop(target)
        for watcher in watchers:
            assert await watcher.ask(heard) == [(target, "stopped")]


async def test_g18_unwatch_takes_back_what_is_on_its_way() -> None:
    got: list[object] = []

    class Watcher(Actor):
        async def receive(self, message: object) -> None:
            if isinstance(message, ActorTerminated):
                got.append(message)
                return
            self.context.watch(watched)
            await self.context.stop(watched)
            self.context.unwatch(watched)

    async with running() as system:
        watched = system.spawn(Actor)
        watcher = system.spawn(Watcher)
        await watcher.ask("go")
        await watcher.ask("again")
    assert got == []
