"""Guarantee 10: `aclose`."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorSystem, PapyraError
from papyra import events as ev

from .lives import Logged, Recording, Stubborn, logged, stops
from .support import Runs, boom, go_round, nothing, running, stuck_after


async def test_g10_aclose_works_off_what_is_queued_and_stops_the_newest_first() -> None:
    log: list[str] = []

    async def job(actor: Logged) -> None:
        await go_round(3)
        actor.steps.append(f"{actor.label} message")

    async with running() as system:
        for label in "abc":
            ref = system.spawn(logged(log, label))
            await ref.tell(job)
    for label in "abc":
        assert [line for line in log if line.startswith(label)] == [
            f"{label} on_start",
            f"{label} message",
            f"{label} on_stop",
        ]
    assert [line for line in log if line.endswith("on_stop")] == ["c on_stop", "b on_stop", "a on_stop"]
    assert stops(system) == [(3, "shutdown"), (2, "shutdown"), (1, "shutdown")]
    assert len(system.dead_letters) == 0


async def test_g10_an_actor_that_spawns_children_in_on_start_survives_the_shortest_program() -> None:
    """Spawn, tell, leave: the system closes before the actor had its first turn."""
    results: list[str] = []

    class Parent(Runs):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Runs)

    async def use(actor: Parent) -> None:
        results.append(await actor.child.ask(nothing))

    async with running() as system:
        await system.spawn(Parent).tell(use)
    assert results == ["answer"]
    assert not [event for event in system.events() if isinstance(event, ev.ActorCrashed)]


async def test_g10_what_is_queued_may_use_the_system_while_it_closes() -> None:
    results: list[object] = []

    async def use(actor: Runs) -> None:
        system = actor.context.system
        db = system.ref_for_name("db")
        assert db is not None
        results.append(await db.ask(nothing))
        assert system.ref_for(db.address) == db
        results.append(len(system.refs()))
        results.append(await actor.context.spawn_child(Runs).ask(nothing))

    async with running() as system:
        system.spawn(Runs, name="db")
        await system.spawn(Runs).tell(use)
    assert not [event for event in system.events() if isinstance(event, ev.ActorCrashed)]
    assert results[0] == results[2] == "answer"


async def test_g10_a_closing_system_takes_no_new_actors_at_the_top() -> None:
    caught: list[type] = []

    class Late(Actor):
        async def on_stop(self) -> None:
            try:
                self.context.system.spawn(Runs)
            except PapyraError as error:
                caught.append(type(error))

    async with running() as system:
        system.spawn(Late)
    assert len(caught) == 1
    assert stops(system) == [(1, "shutdown")]


async def test_g10_past_the_shutdown_timeout_what_runs_is_cancelled() -> None:
    log: list[str] = []
    inside = anyio.Event()

    store = Recording()
    async with running(shutdown_timeout=0.05, persistence=store) as system:
        ref = system.spawn(logged(log, "a"))
        await ref.tell(stuck_after(inside))
        await ref.tell(nothing)
        await inside.wait()
    assert log == ["a on_start", "a on_stop"]
    assert stops(system) == [(1, "shutdown")]
    assert store.said() == ["ActorStarted 1", "PersistedDeadLetter", "ActorStopped 1"]
    assert store.closed


@pytest.mark.parametrize("where", ["on_start", "receive", "on_stop"])
async def test_g10_nothing_that_is_stuck_keeps_the_system_from_closing(where: str) -> None:
    class Stuck(Actor):
        async def stay(self, here: str) -> None:
            if here == where:
                await anyio.sleep_forever()

        async def on_start(self) -> None:
            await self.stay("on_start")

        async def receive(self, message: Any) -> None:
            await self.stay("receive")

        async def on_stop(self) -> None:
            await self.stay("on_stop")

    store = Recording()
    async with running(shutdown_timeout=0.05, persistence=store) as system:
        for _ in range(3):
            await system.spawn(Stuck).tell(1)
        await go_round()
    assert sorted(stops(system)) == [(1, "shutdown"), (2, "shutdown"), (3, "shutdown")]
    assert store.closed


async def test_g10_an_actor_that_ignores_cancellation_does_not_keep_the_system_from_closing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = anyio.Event()
    store = Recording()
    log: list[str] = []
    with anyio.fail_after(10):
        try:
            async with ActorSystem(shutdown_timeout=0.05, persistence=store) as system:
                system.spawn(logged(log, "other"))
                actor = Stubborn(release)
                ref = system.spawn(lambda: actor)
                await ref.tell(1)
                await actor.inside.wait()
            assert log == ["other on_start", "other on_stop"]
            assert store.closed
            assert "ActorStopped 2" in store.said()
        finally:
            release.set()
            await go_round()
    assert "ignores cancellation" in caplog.text


async def test_g10_aclose_is_idempotent_and_may_be_called_at_once() -> None:
    log: list[str] = []
    store = Recording()
    with anyio.fail_after(5):
        system = ActorSystem(persistence=store)
        await system.start()
        await system.start()
        system.spawn(logged(log, "a"))
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(system.aclose)
        await system.aclose()
        await system.aclose()
    assert log == ["a on_start", "a on_stop"]
    assert store.closes == 1
    assert store.said() == ["ActorStarted 1", "ActorStopped 1"]


async def test_g10_aclose_inside_async_with_and_before_the_start() -> None:
    async with running() as system:
        await system.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            system.spawn(Runs)
    store = Recording()
    await ActorSystem(persistence=store).aclose()
    assert store.closed


@pytest.mark.parametrize("where", ["receive", "on_start", "on_stop"])
async def test_g10_aclose_from_inside_an_actor_does_not_wait(where: str) -> None:
    log: list[str] = []

    class Closes(Runs):
        async def close(self, here: str) -> None:
            if here == where:
                await self.context.system.aclose()
                log.append("returned")

        async def on_start(self) -> None:
            await self.close("on_start")

        async def receive(self, message: Any) -> None:
            await self.close("receive")

        async def on_stop(self) -> None:
            await self.close("on_stop")
            log.append("on_stop")

    with anyio.fail_after(5):
        system = ActorSystem()
        await system.start()
        ref = system.spawn(Closes)
        try:
            await ref.tell(1)
        finally:
            await system.aclose()
    assert log == ["returned", "on_stop"]


async def test_g10_start_called_at_once_starts_once() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        system = ActorSystem()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(system.start)
        system.spawn(logged(log, "a"))
        await system.aclose()
    assert log == ["a on_start", "a on_stop"]


async def test_g10_every_fact_is_recorded_before_aclose_returns() -> None:
    store = Recording()
    async with running(persistence=store) as system:
        refs = [system.spawn(Runs) for _ in range(50)]
        await refs[0].tell(boom)
        await refs[0].tell(nothing)
    expected = [f"{type(event).__name__} {event.address['actor_id']}" for event in system.events()]
    assert [line for line in store.said() if "Dead" not in line] == expected
    assert store.said().count("PersistedDeadLetter") == len(system.dead_letters)
    assert store.closes == 1
