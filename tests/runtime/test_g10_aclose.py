"""Guarantee 10: `aclose`."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorSystem, AskDeadlock, PapyraError
from papyra import events as ev
from papyra._runtime.hook_calls import HookCalls
from papyra._runtime.runtime import Runtime
from papyra.persistence import InMemoryPersistence
from papyra.testing import run_seeded

from .lives import Logged, Recording, Stubborn, logged, stops
from .support import Echo, Runs, boom, go_round, nothing, running, stuck_after, wait_until


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


async def test_g10_a_start_waits_for_the_one_that_is_going_on() -> None:
    opened, go_on = [], anyio.Event()

    class Slow(InMemoryPersistence):
        async def open(self) -> None:
            opened.append(1)
            await go_on.wait()

    system = ActorSystem(persistence=Slow())
    found: list[str] = []

    async def start() -> None:
        await system.start()
        found.append(system.state)

    async with anyio.create_task_group() as group:
        group.start_soon(start)
        await wait_until(lambda: opened)
        group.start_soon(start)
        await go_round()
        assert found == []
        go_on.set()
    assert (opened, found) == ([1], ["running", "running"])
    await system.aclose()


async def test_g10_without_a_time_limit_a_close_records_all_the_same() -> None:
    kept: list[str] = []

    class Keeps(InMemoryPersistence):
        async def aclose(self) -> None:
            kept.extend(one.event_type for one in self.events)

    async with ActorSystem(shutdown_timeout=None, persistence=Keeps()) as system:
        system.spawn(Echo)
    assert kept == ["SystemStarted", "ActorStarted", "ActorStopped", "SystemStopped"]


async def test_g10_an_actor_that_closes_another_system_waits_for_its_actors() -> None:
    """So an actor of that system that asks it would wait for ever, and gets an error instead."""
    found: list[str] = []
    async with running() as system:
        closer = system.spawn(Runs)
        other = ActorSystem(system_id="other")
        await other.start()
        busy = other.spawn(Runs)
        inside = anyio.Event()

        async def ask_back(_actor: Any) -> None:
            inside.set()
            await wait_until(lambda: other.state == "closing")
            try:
                await closer.ask(nothing)
            except AskDeadlock:
                found.append("deadlock")

        await busy.tell(ask_back)
        await inside.wait()
        await closer.ask(lambda _actor: other.aclose())
        assert (found, other.state) == (["deadlock"], "closed")
        assert closer._cell.waits_for is None


async def test_g10_an_error_of_the_close_itself_is_raised_in_the_host(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_hooks: HookCalls) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(HookCalls, "give_up", fail)
    system = ActorSystem()
    await system.start()
    with pytest.raises(ValueError, match="a bug"):
        await system.aclose()
    assert "closing the actor system raised" in caplog.text
    assert system.state == "closed"


async def test_g10_workers_that_do_not_end_are_counted_and_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(_rt: Runtime) -> None:
        await anyio.sleep_forever()

    system = ActorSystem()
    await system.start()
    await system.spawn(Echo).ask(1)
    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "close", never)
        await system.aclose(deadline=0)
    core = system._core
    assert core is not None
    assert f"{len(core.rt.workers)} workers did not end" in caplog.text
    await core.rt.close()


def test_g10_another_loop_cannot_close_a_system_whose_loop_goes_on() -> None:
    own, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    system = ActorSystem()
    own.run_until_complete(system.start())
    with pytest.raises(RuntimeError, match="runs in another event loop; close it there"):
        other.run_until_complete(system.aclose())
    own.run_until_complete(system.aclose())
    own.close()
    other.close()


@pytest.mark.usefixtures("_collects_its_loop")
def test_g10_a_store_that_hangs_after_the_loop_has_ended_is_left(caplog: pytest.LogCaptureFixture) -> None:
    class Hangs(InMemoryPersistence):
        async def aclose(self) -> None:
            await anyio.sleep_forever()

    loop = asyncio.new_event_loop()
    system = ActorSystem(persistence=Hangs(), shutdown_timeout=0)
    loop.run_until_complete(system.start())
    loop.close()
    run_seeded(1, system.aclose)  # in virtual time
    assert "closing the store did not end within 1.0 s" in caplog.text
    assert system.state == "closed"
