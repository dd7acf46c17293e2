"""Guarantee 19: a stopped actor is forgotten."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import pytest

from papyra import Actor, ActorStopped, ActorSystem, Settings, Strategy, SupervisionPolicy
from papyra import events as ev
from papyra._runtime.cell import Cell

from .support import Echo, running


@contextmanager
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Local:
    """An object that a frame or an actor holds."""


def cells() -> int:
    return sum(1 for thing in gc.get_objects() if type(thing) is Cell)


async def test_g19_twenty_thousand_stopped_actors_leave_nothing() -> None:
    async with running(seconds=100) as system:
        await system.spawn(Echo).ask(1)
        gc.collect()
        before = cells()
        for _ in range(20):
            refs = [system.spawn(Echo, name=f"actor {number}") for number in range(1_000)]
            for ref in refs:
                await ref.tell(1)
            for ref in refs:
                await system.stop(ref)
            del refs, ref
        gc.collect()
        assert cells() - before <= 40  # what a parked worker looked at last
        assert len(system.refs(alive_only=False)) == 1
        assert system.list_names() == {}
        report = system.audit()
        assert (report.total_actors, report.alive_actors, report.registry_size) == (20_001, 1, 0)
        assert len(system.events()) == 10_000
        core = system._core
        assert core is not None
        assert len(core.rt.mailbox_pool) <= 64
        assert not core.lifecycle.guardian.children or len(core.lifecycle.guardian.children) == 1


async def test_g19_mailboxes_kept_for_reuse_are_few() -> None:
    """However many actors once ran at the same time."""
    gate = anyio.Event()

    class Slow(Echo):
        async def on_start(self) -> None:
            await gate.wait()

        async def receive(self, message: object) -> object:
            await anyio.lowlevel.checkpoint()
            return message

    async with running() as system:
        refs = [system.spawn(Slow) for _ in range(2_000)]
        await anyio.wait_all_tasks_blocked()
        gate.set()
        for ref in refs:
            await ref.tell(1)
        for ref in refs:
            await ref.ask(1)
        core = system._core
        assert core is not None
        assert len(core.rt.mailbox_pool) <= 512


async def test_g19_history_is_bounded_by_default_and_counted_in_full() -> None:
    async with running() as system:
        ref = system.spawn(Echo)
        await system.stop(ref)
        for number in range(1_200):
            with pytest.raises(ActorStopped):
                await ref.tell(number)
        assert [letter.message for letter in system.dead_letters.messages] == list(range(200, 1_200))
        assert system.dead_letters.count == 1_200 == system.audit().dead_letters_count
        assert len(system.dead_letters) == 1_000


async def test_g19_history_is_adjustable() -> None:
    async with running(settings=Settings(max_events=3, max_dead_letters=2)) as system:
        refs = [system.spawn(Echo) for _ in range(3)]
        for ref in refs:
            await system.stop(ref)
            with pytest.raises(ActorStopped):
                await ref.tell(ref.address.actor_id)
        assert [letter.message for letter in system.dead_letters.messages] == [2, 3]
        assert len(system.events()) == 3
        assert system.events()[-1].address["actor_id"] == 3
        assert system.audit().dead_letters_count == 3


async def test_g19_a_stopped_actor_is_freed_without_the_cycle_collector() -> None:
    async with running() as system:
        with collector_off():
            instances: list[weakref.ref[Actor]] = []

            class Noted(Echo):
                async def on_start(self) -> None:
                    instances.append(weakref.ref(self))
                    self.context.spawn_child(Echo)

            for _ in range(50):
                ref = system.spawn(Noted)
                await ref.tell(1)
                await ref.ask(1)
                await system.stop(ref)
            await system.spawn(Echo).ask(1)
            alive = [instance for instance in instances if instance() is not None]
            assert len(instances) == 50
            assert alive == []


async def test_g19_a_message_is_freed_once_it_is_handled() -> None:
    async with running() as system:
        with collector_off():
            ref = system.spawn(Echo)
            message = Local()
            seen = weakref.ref(message)
            await ref.tell(message)
            del message
            await ref.ask(1)
            await anyio.wait_all_tasks_blocked()
            assert seen() is None


@pytest.mark.parametrize("where", ["receive", "ask", "on_start", "restart"])
async def test_g19_a_failure_keeps_no_frame_alive(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("papyra"), "disabled", True)  # pytest keeps the records
    frames: list[weakref.ref[Local]] = []

    class Fails(Actor):
        async def on_start(self) -> None:
            if where == "on_start":
                self.fail()

        async def receive(self, message: object) -> object:
            if message == "ping":
                return message
            return self.fail()

        def fail(self) -> object:
            local = Local()
            frames.append(weakref.ref(local))
            raise RuntimeError("with a frame")

    policy = SupervisionPolicy(Strategy.RESTART) if where == "restart" else None
    async with running() as system:
        with collector_off():
            ref = system.spawn(Fails, policy=policy)
            if where == "ask":
                with suppress(RuntimeError):
                    await ref.ask(1)
            elif where != "on_start":
                await ref.tell(1)
            if where == "restart":
                await ref.ask("ping")
            else:
                await system.wait_for_event(ev.ActorStopped)
            await anyio.wait_all_tasks_blocked()
            assert len(frames) == 1
            assert frames[0]() is None


async def test_g19_timed_out_asks_leave_nothing() -> None:
    async with running() as system:
        ref = system.spawn(Echo)
        with collector_off():
            seen: list[weakref.ref[Local]] = []
            for _ in range(500):
                message = Local()
                seen.append(weakref.ref(message))
                await ref.ask(message, timeout=1_000)
                del message
            await ref.ask(1)
            core = system._core
            assert core is not None
            assert len(core.timers) <= 200
            assert sum(1 for one in seen if one() is not None) <= 1


async def test_g19_a_watch_ends_with_either_side() -> None:
    class Watches(Actor):
        async def receive(self, message: Any) -> None:
            if not hasattr(message, "reason"):
                self.context.watch(message)

    async with running() as system:
        lasting = system.spawn(Echo)
        watcher = system.spawn(Watches)
        for _ in range(100):
            brief_watcher = system.spawn(Watches)
            await brief_watcher.ask(lasting)
            await system.stop(brief_watcher)
            brief = system.spawn(Echo)
            await watcher.ask(brief)
            await system.stop(brief)
        assert not lasting._cell.watchers
        assert not watcher._cell.watching


async def test_g19_a_system_that_is_closed_is_freed() -> None:
    async def life() -> weakref.ref[ActorSystem]:
        async with running() as system:
            await system.spawn(Echo).ask(1)
            return weakref.ref(system)

    gone = await life()
    await anyio.wait_all_tasks_blocked()
    gc.collect()
    assert gone() is None
