"""Guarantees 8 to 13: start, stop, close, the host, and what ends a system."""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import (
    Actor,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    PapyraError,
    Strategy,
    SupervisionPolicy,
    SupervisorDecision,
)
from papyra import events as ev
from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import PersistedEvent

from .support import Runs, boom, go_round, nothing, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra import ActorRef
    from papyra.persistence.models import PersistedRecord

pytestmark = pytest.mark.anyio


class Recording(InMemoryPersistence):
    """Keeps what it was given, also after it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[PersistedRecord] = []
        self.closes = 0

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        await anyio.lowlevel.checkpoint()
        await super().record_batch(records)
        self.kept.extend(records)

    async def aclose(self) -> None:
        self.closes += 1
        await super().aclose()

    def said(self) -> list[str]:
        return [
            f"{record.event_type} {record.actor_address.split(':')[1]}"
            if isinstance(record, PersistedEvent)
            else type(record).__name__
            for record in self.kept
            if not getattr(record, "event_type", "").startswith("System")
        ]


class Logged(Runs):
    """Note each step of its life."""

    steps: list[str]
    label: str

    async def on_start(self) -> None:
        self.steps.append(f"{self.label} on_start")

    async def on_stop(self) -> None:
        self.steps.append(f"{self.label} on_stop")


def logged(log: list[str], label: str, base: type[Logged] = Logged) -> type[Logged]:
    return type("Logged", (base,), {"steps": log, "label": label})


def stops(system: ActorSystem) -> list[tuple[int | str, str | None]]:
    """Return who stopped and why, in order."""
    return [
        (event.address["actor_id"], event.reason)
        for event in system.events()
        if isinstance(event, ev.ActorStopped)
    ]


class Stubborn(Actor):
    """Ignore ``times`` cancellations (None: all), then go on until the ``release``."""

    def __init__(self, release: anyio.Event, times: int | None = None) -> None:
        self.release = release
        self.times = times
        self.swallowed = 0
        self.inside = anyio.Event()
        self.stopped = False

    async def receive(self, message: Any) -> None:
        self.inside.set()
        while not self.release.is_set() and (self.times is None or self.swallowed < self.times):
            try:
                await self.release.wait()
            except BaseException as error:
                if not isinstance(error, anyio.get_cancelled_exc_class()):
                    raise
                self.swallowed += 1
        if self.times is not None:
            await anyio.sleep_forever()

    async def on_stop(self) -> None:
        self.stopped = True


# -- 8: on_start, on_stop


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

    class Slow(Actor):
        async def on_start(self) -> None:
            await go_round()
            order.append("on_start")

        async def receive(self, message: str) -> None:
            order.append(message)

    for capacity in (1, 2, 1024, None):
        order.clear()
        async with running() as system:
            ref = system.spawn(Slow, mailbox_capacity=capacity)
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

    async def stuck(_actor: Runs) -> None:
        await anyio.sleep_forever()

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


# -- 9: stop


async def test_g09_stop_works_off_what_is_queued_and_returns_when_it_has_stopped() -> None:
    log: list[str] = []

    async def job(actor: Logged) -> None:
        await go_round(3)
        log.append("message")

    async with running() as system:
        ref = system.spawn(logged(log, "a"))
        for _ in range(5):
            await ref.tell(job)
        await system.stop(ref)
        assert log == ["a on_start", *["message"] * 5, "a on_stop"]
        assert stops(system) == [(1, "stopped")]
        assert len(system.dead_letters) == 0


async def test_g09_stop_answers_the_asks_that_are_queued() -> None:
    gate = anyio.Event()
    answers: list[str] = []

    async def wait(_actor: Runs) -> None:
        await gate.wait()

    async def ask(ref: ActorRef[Any, Any]) -> None:
        answers.append(await ref.ask(nothing))

    async with running() as system, anyio.create_task_group() as group:
        ref = system.spawn(Runs)
        await ref.tell(wait)
        for _ in range(3):
            group.start_soon(ask, ref)
        await go_round()
        group.start_soon(system.stop, ref)
        await wait_until(lambda: not ref.is_alive())
        gate.set()
    assert answers == ["answer"] * 3


async def test_g09_children_stop_before_their_parent_the_newest_first() -> None:
    log: list[str] = []

    class Parent(Logged):
        async def on_start(self) -> None:
            await super().on_start()
            if len(self.label) < 3:
                for number in "12":
                    self.context.spawn_child(logged(self.steps, self.label + number, Parent))

    async with running() as system:
        top = system.spawn(logged(log, "x", Parent))
        await wait_until(lambda: len(log) == 7)
        log.clear()
        await system.stop(top)
        assert log == [f"{label} on_stop" for label in ("x22", "x21", "x2", "x12", "x11", "x1", "x")]
        assert [reason for _, reason in stops(system)] == ["stopped"] * 7


async def test_g09_a_slow_child_is_stopped_before_the_next_one_is_asked_to() -> None:
    gate = anyio.Event()
    log: list[str] = []

    class Slow(Logged):
        async def on_stop(self) -> None:
            await gate.wait()
            await super().on_stop()

    class Parent(Logged):
        async def on_start(self) -> None:
            self.older = self.context.spawn_child(logged(log, "older"))
            self.newer = self.context.spawn_child(logged(log, "newer", Slow))

    async with running() as system, anyio.create_task_group() as group:
        top = system.spawn(logged(log, "top", Parent))
        await top.ask(nothing)
        log.clear()
        group.start_soon(system.stop, top)
        await go_round(50)
        assert log == []
        gate.set()
    assert log == ["newer on_stop", "older on_stop", "top on_stop"]


async def test_g09_what_is_queued_may_still_use_the_children_and_new_ones() -> None:
    """Working off the mailbox is ordinary work: it finds the children alive, and may spawn more."""
    results: list[object] = []

    class Parent(Runs):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Runs)

    async def use(actor: Parent) -> None:
        results.append(await actor.child.ask(nothing))
        results.append(await actor.context.spawn_child(Runs).ask(nothing))

    async with running() as system:
        ref = system.spawn(Parent)
        await ref.tell(use)
        await system.stop(ref)
        assert results == ["answer", "answer"]
        assert [reason for _, reason in stops(system)] == ["stopped"] * 3
        assert not [event for event in system.events() if isinstance(event, ev.ActorCrashed)]


async def test_g09_past_the_timeout_what_runs_is_cancelled() -> None:
    log: list[str] = []
    inside = anyio.Event()

    async def stuck(actor: Logged) -> None:
        inside.set()
        try:
            await anyio.sleep_forever()
        finally:
            actor.steps.append("cancelled")

    async with running() as system:
        ref = system.spawn(logged(log, "a"))
        await ref.tell(stuck)
        await ref.tell(nothing)
        await inside.wait()
        await system.stop(ref, timeout=0.05)
        assert log == ["a on_start", "cancelled", "a on_stop"]
        assert [letter.message for letter in system.dead_letters.messages] == [nothing]
        assert await system.spawn(Runs).ask(nothing) == "answer"


@pytest.mark.parametrize("where", ["on_start", "receive", "on_stop", "child"])
async def test_g09_timeout_ends_whatever_is_stuck(where: str) -> None:
    entered = anyio.Event()

    class Stuck(Actor):
        async def stay(self, here: str) -> None:
            if here == where:
                entered.set()
                await anyio.sleep_forever()

        async def on_start(self) -> None:
            await self.stay("on_start")
            if where == "child":
                self.context.spawn_child(Child)

        async def receive(self, message: Any) -> None:
            await self.stay("receive")

        async def on_stop(self) -> None:
            await self.stay("on_stop")

    class Child(Actor):
        async def on_stop(self) -> None:
            entered.set()
            await anyio.sleep_forever()

    async with running() as system:
        ref = system.spawn(Stuck)
        await ref.tell(1)
        if where in ("on_start", "receive"):
            await entered.wait()
        await system.stop(ref, timeout=0.05)
        assert entered.is_set()
        assert not ref.is_alive()
        assert await system.spawn(Runs).ask(nothing) == "answer"


@pytest.mark.parametrize("times", [1, 5])
async def test_g09_an_actor_that_swallows_cancellations_is_cancelled_again(times: int) -> None:
    async with running() as system:
        actor = Stubborn(anyio.Event(), times)
        ref = system.spawn(lambda: actor)
        await ref.tell(1)
        await actor.inside.wait()
        await system.stop(ref, timeout=0)
        assert actor.swallowed == times
        assert actor.stopped


async def test_g09_an_actor_that_ignores_cancellation_for_good_is_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = anyio.Event()
    with anyio.fail_after(10):
        try:
            async with ActorSystem(shutdown_timeout=0.1) as system:
                actor = Stubborn(release)
                ref = system.spawn(lambda: actor, name="stubborn")
                other = system.spawn(Runs)
                await ref.tell(1)
                await ref.tell(2)
                await actor.inside.wait()
                await system.stop(ref, timeout=0)
                assert not ref.is_alive()
                assert stops(system) == [(1, "stopped")]
                with pytest.raises(ActorStopped):
                    await ref.ask(3)
                assert await other.ask(nothing) == "answer"
                assert system.list_names() == {}
        finally:
            release.set()
            await go_round()
    assert caplog.text.count("ignores cancellation") == 1


async def test_g09_an_ask_to_an_actor_that_ignores_cancellation_ends() -> None:
    release = anyio.Event()
    with anyio.fail_after(10):
        try:
            async with ActorSystem(shutdown_timeout=0.1) as system, anyio.create_task_group() as group:
                actor = Stubborn(release)
                ref = system.spawn(lambda: actor)

                async def ask() -> None:
                    with pytest.raises(ActorStopped):
                        await ref.ask(1)

                group.start_soon(ask)
                await actor.inside.wait()
                await system.stop(ref, timeout=0)
        finally:
            release.set()
            await go_round()


async def test_g09_stopping_twice_and_at_once_is_fine() -> None:
    gate = anyio.Event()
    log: list[str] = []

    async def wait(_actor: Any) -> None:
        await gate.wait()

    async with running() as system, anyio.create_task_group() as group:
        ref = system.spawn(logged(log, "a"))
        await ref.tell(wait)
        for timeout in (None, 5.0, None):
            group.start_soon(partial(system.stop, ref, timeout=timeout))
        await wait_until(lambda: not ref.is_alive())
        gate.set()
        await system.stop(ref)
        await system.stop(ref, timeout=0)
        assert log == ["a on_start", "a on_stop"]
        assert stops(system) == [(1, "stopped")]


async def test_g09_a_stop_given_up_stops_all_the_same() -> None:
    gate = anyio.Event()

    async def wait(_actor: Any) -> None:
        await gate.wait()

    async with running() as system:
        ref = system.spawn(Runs)
        await ref.tell(wait)
        with anyio.move_on_after(0.02) as scope:
            await system.stop(ref)
        assert scope.cancelled_caught
        assert not ref.is_alive()
        gate.set()
        await wait_until(lambda: stops(system) == [(1, "stopped")])


async def test_g09_the_timeout_of_a_stop_given_up_still_counts() -> None:
    async def stuck(_actor: Any) -> None:
        await anyio.sleep_forever()

    async with running() as system:
        ref = system.spawn(Runs)
        await ref.tell(stuck)
        await go_round()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await system.stop(ref, timeout=0.02)
        await wait_until(lambda: stops(system) == [(1, "stopped")])


@pytest.mark.parametrize("way", ["stop_self", "context.stop", "system.stop"])
async def test_g09_stopping_itself_returns_at_once_and_takes_no_further_message(way: str) -> None:
    log: list[str] = []

    async def stop(actor: Logged) -> str:
        if way == "stop_self":
            await actor.context.stop_self()
        elif way == "context.stop":
            await actor.context.stop(actor.context.self_ref)
        else:
            await actor.context.system.stop(actor.context.self_ref)
        await go_round()
        log.append("finished")
        return "done"

    async with running() as system, anyio.create_task_group() as group:
        ref = system.spawn(logged(log, "a"))

        async def ask() -> None:
            assert await ref.ask(stop) == "done"

        group.start_soon(ask)
        await wait_until(lambda: not ref.is_alive())
        await wait_until(lambda: bool(stops(system)))
        assert log == ["a on_start", "finished", "a on_stop"]


async def test_g09_stop_self_without_await_and_twice() -> None:
    async def stop(actor: Runs) -> None:
        actor.context.stop_self()
        actor.context.stop_self()
        await actor.context.stop_self()

    async with running() as system:
        ref = system.spawn(Runs)
        await ref.tell(stop)
        await ref.tell(nothing)
        await wait_until(lambda: stops(system) == [(1, "stopped")])
        assert [letter.message for letter in system.dead_letters.messages] == [nothing]


async def test_g09_stop_self_in_on_start_takes_no_message() -> None:
    class Reluctant(Actor):
        async def on_start(self) -> None:
            self.context.stop_self()

    async with running() as system:
        ref = system.spawn(Reluctant)
        with pytest.raises(ActorStopped):
            await ref.ask(1)
        assert len(system.dead_letters) == 1
        await wait_until(lambda: stops(system) == [(1, "stopped")])


async def test_g09_stop_self_while_it_works_off_its_mailbox() -> None:
    gate = anyio.Event()

    async def wait(_actor: Runs) -> None:
        await gate.wait()

    async def stop(actor: Runs) -> None:
        actor.context.stop_self()

    async with running() as system, anyio.create_task_group() as group:
        ref = system.spawn(Runs)
        for message in (wait, stop, nothing):
            await ref.tell(message)
        await go_round()
        group.start_soon(system.stop, ref)
        await wait_until(lambda: not ref.is_alive())
        gate.set()
        await wait_until(lambda: bool(stops(system)))
        assert [letter.message for letter in system.dead_letters.messages] == [nothing]


@pytest.mark.parametrize("levels", [1, 2])
async def test_g09_stopping_one_above_returns_at_once(levels: int) -> None:
    log: list[str] = []
    go = anyio.Event()

    class Nested(Logged):
        async def on_start(self) -> None:
            await super().on_start()
            if len(self.label) <= levels:
                self.context.spawn_child(logged(self.steps, self.label + "x", Nested), name=self.label + "x")

    async def stop_top(actor: Runs) -> None:
        await go.wait()
        await actor.context.stop(top)
        log.append("stop returned")

    async with running() as system:
        top = system.spawn(logged(log, "x", Nested))
        await wait_until(lambda: len(log) == levels + 1)
        bottom = system.ref_for_name("x" * (levels + 1))
        assert bottom is not None
        await bottom.tell(stop_top)
        await bottom.tell(nothing)
        log.clear()
        go.set()
        await wait_until(lambda: len(stops(system)) == levels + 1)
        assert log == ["stop returned", *(f"{'x' * n} on_stop" for n in range(levels + 1, 0, -1))]
        assert [letter.message for letter in system.dead_letters.messages] == [nothing]


async def test_g09_a_parent_that_stops_a_child_waits_for_it() -> None:
    log: list[str] = []

    async def job(actor: Runs) -> None:
        child = actor.context.spawn_child(logged(log, "child"))
        await child.tell(nothing)
        await actor.context.stop(child)
        log.append("stopped")
        assert actor.context.children == ()

    async with running() as system:
        await system.spawn(Runs).ask(job)
    assert log == ["child on_start", "child on_stop", "stopped"]


async def test_g09_stop_all_stops_the_newest_first_and_the_system_goes_on() -> None:
    log: list[str] = []
    async with running() as system:
        refs = [system.spawn(logged(log, label), name=label) for label in "abc"]
        await refs[2].ask(nothing)
        log.clear()
        await system.stop_all()
        assert log == ["c on_stop", "b on_stop", "a on_stop"]
        assert not any(ref.is_alive() for ref in refs)
        assert system.list_actors() == []
        assert await system.spawn(Runs, name="a").ask(nothing) == "answer"


async def test_g09_stop_during_a_restart_and_during_a_backoff() -> None:
    from papyra import Backoff

    async with running() as system:
        policy = SupervisionPolicy(Strategy.RESTART, backoff=Backoff(60, 60))
        ref = system.spawn(Runs, policy=policy)
        await ref.tell(boom)
        await wait_until(lambda: any(isinstance(event, ev.ActorCrashed) for event in system.events()))
        await go_round()
        await system.stop(ref)
        assert stops(system) == [(1, "stopped")]


# -- 10: aclose


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

    async def stuck(actor: Logged) -> None:
        inside.set()
        await anyio.sleep_forever()

    store = Recording()
    async with running(shutdown_timeout=0.05, persistence=store) as system:
        ref = system.spawn(logged(log, "a"))
        await ref.tell(stuck)
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


# -- 11: the host


async def test_g11_it_nests_in_task_groups_and_cancel_scopes() -> None:
    log: list[str] = []

    async def job(actor: Logged) -> None:
        actor.steps.append(f"{actor.label} message")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as outer:
            outer.start_soon(go_round)
            with anyio.CancelScope() as scope:
                async with (
                    ActorSystem(system_id="one") as one,
                    anyio.create_task_group() as inner,
                    ActorSystem(system_id="two") as two,
                ):
                    inner.start_soon(go_round)
                    await one.spawn(logged(log, "one")).ask(job)
                    with anyio.move_on_after(0.01):
                        await anyio.sleep_forever()
                    await two.spawn(logged(log, "two")).ask(job)
            assert not scope.cancelled_caught
    assert log == ["one on_start", "one message", "two on_start", "two message", "two on_stop", "one on_stop"]


async def test_g11_a_cancelled_scope_inside_the_body_is_the_bodys_business() -> None:
    async with running() as system:
        ref = system.spawn(Runs)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        assert await ref.ask(nothing) == "answer"
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await anyio.sleep_forever()
        assert await ref.ask(nothing) == "answer"


@pytest.mark.parametrize("when", ["awaiting", "before it awaits", "closing", "asking", "before the start"])
async def test_g11_cancelling_the_host_cancels_the_actors_and_still_runs_on_stop(when: str) -> None:
    """The time a shutdown may take is long here: what is cancelled must not use it up."""
    store = Recording()
    log: list[str] = []
    inside = anyio.Event()

    class Slow(Logged):
        async def on_stop(self) -> None:
            await anyio.sleep(0.01)
            await go_round()
            await super().on_stop()

    async def stuck(actor: Logged) -> None:
        inside.set()
        await anyio.sleep_forever()

    started = False
    left = False
    with anyio.fail_after(5):
        with anyio.CancelScope() as scope:
            if when == "before the start":
                scope.cancel()
            async with ActorSystem(shutdown_timeout=60, persistence=store) as system:
                started = True
                if when == "before the start":
                    await anyio.lowlevel.checkpoint()
                ref = system.spawn(logged(log, "a", Slow))
                idle = system.spawn(logged(log, "idle", Slow))
                await ref.tell(stuck)
                await inside.wait()
                await idle.ask(nothing)
                if when == "awaiting":
                    scope.deadline = anyio.current_time() + 0.01
                    await anyio.sleep_forever()
                elif when == "asking":
                    scope.deadline = anyio.current_time() + 0.01
                    await ref.ask(nothing)
                elif when == "before it awaits":
                    scope.cancel()
                else:
                    scope.deadline = anyio.current_time() + 0.01
            left = True
        assert scope.cancel_called
    if when == "before the start":
        assert not left
        if started:
            assert store.closed
        return
    assert scope.cancelled_caught or when == "before it awaits"
    assert log[:2] == ["a on_start", "idle on_start"]
    assert sorted(log[2:]) == ["a on_stop", "idle on_stop"]
    assert sorted(stops(system)) == [(1, "shutdown"), (2, "shutdown")]
    # An ask whose asker has gone is no dead letter (H18).
    assert sorted(store.said()) == sorted(
        ["ActorStarted 1", "ActorStarted 2", "ActorStopped 2", "ActorStopped 1"]
    )
    assert store.closed


async def test_g11_children_stop_before_their_parent_also_when_the_host_is_cancelled() -> None:
    log: list[str] = []

    class Slow(Logged):
        async def on_start(self) -> None:
            await super().on_start()
            if len(self.label) < 3:
                for number in "12":
                    self.context.spawn_child(logged(log, self.label + number, Slow))

        async def on_stop(self) -> None:
            await go_round(len(self.label))
            await super().on_stop()

    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with ActorSystem(shutdown_timeout=60) as system:
            system.spawn(logged(log, "x", Slow))
            await wait_until(lambda: len(log) == 7)
            log.clear()
            scope.cancel()
            await anyio.sleep_forever()
    order = [line.split(" ")[0] for line in log]
    assert sorted(order) == ["x", "x1", "x11", "x12", "x2", "x21", "x22"]
    assert all(order.index(label) < order.index(label[:-1]) for label in order if label != "x")


async def test_g11_actors_that_have_not_started_when_the_host_is_cancelled_end_quickly() -> None:
    class Slow(Actor):
        async def on_start(self) -> None:
            await anyio.sleep_forever()

    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with ActorSystem(shutdown_timeout=60) as system:
            for _ in range(3):
                system.spawn(Slow)
            scope.cancel()


async def test_g11_a_parent_that_decides_for_ever_when_the_host_is_cancelled_ends_quickly() -> None:
    deciding = anyio.Event()

    class Parent(Runs):
        async def on_child_failure(self, child_ref: ActorRef[Any, Any], exc: Exception) -> SupervisorDecision:
            deciding.set()
            await anyio.sleep_forever()
            return SupervisorDecision.STOP

    async def start(actor: Runs) -> None:
        for _ in range(3):
            await actor.context.spawn_child(Runs).tell(boom)

    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with ActorSystem(shutdown_timeout=60) as system:
            await system.spawn(Parent).ask(start)
            await deciding.wait()
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert len(stops(system)) == 4


async def test_g11_the_deadline_ends_an_on_stop_that_hangs_after_the_cancellation() -> None:
    class Hangs(Actor):
        async def on_stop(self) -> None:
            await anyio.sleep_forever()

    store = Recording()
    with anyio.fail_after(5):
        with anyio.CancelScope() as scope:
            async with ActorSystem(shutdown_timeout=0.05, persistence=store) as system:
                await system.spawn(Runs).ask(nothing)
                system.spawn(Hangs)
                await go_round()
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
    # Siblings that are forced stop at the same time: one that hangs does not use up the time of the others.
    assert sorted(store.said()[-2:]) == ["ActorStopped 1", "ActorStopped 2"]
    assert store.closed


async def test_g11_a_task_group_of_the_host_that_fails_cancels_the_actors() -> None:
    store = Recording()
    log: list[str] = []

    async def stuck(_actor: Any) -> None:
        await anyio.sleep_forever()

    async def fail() -> None:
        await go_round()
        raise LookupError("host")

    async def host() -> None:
        async with (
            anyio.create_task_group() as group,
            ActorSystem(shutdown_timeout=60, persistence=store) as system,
        ):
            await system.spawn(logged(log, "a")).tell(stuck)
            group.start_soon(fail)
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        with pytest.raises(BaseExceptionGroup) as caught:
            await host()
        assert caught.group_contains(LookupError)
    assert log == ["a on_start", "a on_stop"]
    assert store.said() == ["ActorStarted 1", "ActorStopped 1"]


async def test_g11_an_exception_in_the_body_comes_out_after_an_ordinary_close() -> None:
    log: list[str] = []

    async def host() -> None:
        async with ActorSystem() as system:
            await system.spawn(logged(log, "a")).tell(nothing)
            raise LookupError("body")

    with anyio.fail_after(5), pytest.raises(LookupError, match="body"):
        await host()
    assert log == ["a on_start", "a on_stop"]


async def test_g11_start_and_aclose_from_different_tasks() -> None:
    log: list[str] = []
    store = Recording()
    system = ActorSystem(persistence=store)
    started, used = anyio.Event(), anyio.Event()

    async def start() -> None:
        with anyio.CancelScope():
            await system.start()
        started.set()

    async def use() -> None:
        await started.wait()
        assert await system.spawn(logged(log, "a")).ask(nothing) == "answer"
        used.set()

    async def close() -> None:
        await used.wait()
        await system.aclose()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            group.start_soon(use)
            group.start_soon(start)
    assert log == ["a on_start", "a on_stop"]
    assert store.said() == ["ActorStarted 1", "ActorStopped 1"]


async def test_g11_the_actors_outlive_the_task_that_started_the_system() -> None:
    system = ActorSystem()
    refs: list[ActorRef[Any, Any]] = []

    async def start() -> None:
        await system.start()
        refs.append(system.spawn(Runs))
        group.cancel_scope.cancel()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(start)
        assert await refs[0].ask(nothing) == "answer"
        await system.aclose()


async def test_g11_aclose_cancelled_has_the_rest_cancelled_waits_and_is_cancelled() -> None:
    log: list[str] = []
    store = Recording()

    class Slow(Logged):
        async def on_stop(self) -> None:
            await go_round()
            await super().on_stop()

    async def stuck(_actor: Any) -> None:
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        system = ActorSystem(shutdown_timeout=60, persistence=store)
        await system.start()
        ref = system.spawn(logged(log, "a", Slow))
        await ref.tell(stuck)
        with anyio.move_on_after(0.02) as scope:
            await system.aclose()
            log.append("not cancelled")
        assert scope.cancelled_caught
        assert log == ["a on_start", "a on_stop"]
        assert store.said() == ["ActorStarted 1", "ActorStopped 1"]
        assert store.closed


async def test_g11_a_system_whose_host_never_closes_it_ends_with_the_loop() -> None:
    """No hang, no warning, nothing left: `start` without `aclose`, with actors in every state."""

    async def main() -> None:
        system = ActorSystem()
        await system.start()
        for _ in range(3):
            ref = system.spawn(Runs)
            await ref.tell(stuck)
            await ref.tell(nothing)
        await go_round()
        system.spawn(Runs)

    async def stuck(_actor: Any) -> None:
        await anyio.sleep_forever()

    backend = "asyncio" if _on_asyncio() else "trio"
    with anyio.fail_after(5):
        await anyio.to_thread.run_sync(lambda: anyio.run(main, backend=backend))
    gc.collect()


def _on_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def test_g11_cancelling_the_hosts_task_as_asyncio_does_cancels_the_actors() -> None:
    """Ctrl-C under `asyncio.run`, `asyncio.timeout` and `asyncio.TaskGroup` all cancel the task itself."""
    if not _on_asyncio():
        pytest.skip("asyncio's own cancellation")
    log: list[str] = []
    store = Recording()
    inside = anyio.Event()

    class Slow(Logged):
        async def on_stop(self) -> None:
            await go_round()
            await super().on_stop()

    async def stuck(_actor: Any) -> None:
        inside.set()
        await anyio.sleep_forever()

    async def host() -> None:
        async with ActorSystem(shutdown_timeout=60, persistence=store) as system:
            await system.spawn(logged(log, "a", Slow)).tell(stuck)
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        task = asyncio.create_task(host())
        await inside.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert log == ["a on_start", "a on_stop"]
    assert store.said() == ["ActorStarted 1", "ActorStopped 1"]


async def test_g11_asyncio_timeout_around_a_system() -> None:
    if not _on_asyncio():
        pytest.skip("asyncio's own cancellation")

    async def stuck(_actor: Any) -> None:
        await anyio.sleep_forever()

    system = ActorSystem(shutdown_timeout=60)

    async def host() -> None:
        async with asyncio.timeout(0.05), system:
            await system.spawn(Runs).ask(stuck)

    with anyio.fail_after(5):
        with pytest.raises(TimeoutError):
            await host()
        assert stops(system) == [(1, "shutdown")]


# -- 12: what is a failure, what is not


class Custom(BaseException):
    pass


FATAL = [KeyboardInterrupt, SystemExit, Custom]


@pytest.mark.parametrize("kind", FATAL)
@pytest.mark.parametrize(
    "where", ["receive", "ask", "on_start", "on_stop", "on_child_failure", "on_child_failure while it waits"]
)
async def test_g12_any_other_base_exception_ends_the_system_and_reaches_the_host(
    where: str, kind: type[BaseException]
) -> None:
    error = kind("out of an actor")
    store = Recording()
    log: list[str] = []

    class Fatal(Logged):
        async def on_start(self) -> None:
            await super().on_start()
            if where == "on_start":
                raise error

        async def receive(self, message: Any) -> Any:
            if where in ("receive", "ask"):
                raise error
            if where == "on_child_failure":
                await self.context.spawn_child(Runs).tell(boom)
            elif where == "on_child_failure while it waits":
                child = self.context.spawn_child(Runs)
                await child.tell(boom)
                await child.ask(nothing)
            elif where == "on_stop":
                self.context.stop_self()

        async def on_stop(self) -> None:
            await super().on_stop()
            if where == "on_stop":
                raise error

        async def on_child_failure(self, child_ref: ActorRef[Any, Any], exc: Exception) -> None:
            raise error

    async def host() -> None:
        async with ActorSystem(persistence=store) as system:
            other = system.spawn(logged(log, "other"))
            await other.ask(nothing)
            ref: ActorRef[Any, Any] = system.spawn(logged(log, "fatal", Fatal))
            if where == "ask":
                with pytest.raises(ActorStopped):
                    await ref.ask(1)
            else:
                await ref.tell(1)
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        with pytest.raises(kind) as caught:
            await host()
        assert caught.value is error
    assert log[:2] == ["other on_start", "fatal on_start"]
    assert sorted(log[2:]) == ["fatal on_stop", "other on_stop"]
    assert store.closed
    assert {"ActorStopped 1", "ActorStopped 2"} <= set(store.said())


@pytest.mark.parametrize("kind", FATAL)
async def test_g12_it_reaches_aclose_where_there_is_no_async_with(kind: type[BaseException]) -> None:
    error = kind("out of an actor")

    async def fatal(_actor: Any) -> None:
        raise error

    with anyio.fail_after(5):
        system = ActorSystem()
        await system.start()
        with pytest.raises(ActorStopped):
            await system.spawn(Runs).ask(fatal)
        with pytest.raises(kind) as caught:
            await system.aclose()
        assert caught.value is error
        await system.aclose()


async def test_g12_while_the_body_raises_something_itself() -> None:
    async def fatal(_actor: Any) -> None:
        raise Custom

    async def host() -> None:
        async with ActorSystem() as system:
            with pytest.raises(ActorStopped):
                await system.spawn(Runs).ask(fatal)
            raise LookupError("body")

    with anyio.fail_after(5):
        with pytest.raises(Custom) as caught:
            await host()
        assert isinstance(caught.value.__context__, LookupError)


async def test_g12_while_the_system_closes() -> None:
    class Fatal(Actor):
        async def on_stop(self) -> None:
            raise Custom

    log: list[str] = []
    system = ActorSystem()

    async def host() -> None:
        async with system:
            system.spawn(logged(log, "other"))
            system.spawn(Fatal)
            await go_round()

    with anyio.fail_after(5):
        with pytest.raises(Custom):
            await host()
        assert sorted(stops(system)) == [(1, "shutdown"), (2, "shutdown")]
    assert log == ["other on_start", "other on_stop"]


async def test_g12_cancellation_inside_receive_is_the_actors_own_business() -> None:
    async def scopes(_actor: Any) -> str:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with anyio.CancelScope() as inner:
            inner.cancel()
            await anyio.lowlevel.checkpoint()
        return "fine"

    async def times_out(_actor: Any) -> None:
        with anyio.fail_after(0.01):
            await anyio.sleep_forever()

    async def group(_actor: Any) -> str:
        done: list[int] = []

        async def work(number: int) -> None:
            await go_round(3)
            done.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(work, number)
        assert sorted(done) == list(range(5))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            await go_round(3)
            tasks.cancel_scope.cancel()
        return "fine"

    async def failing_group(_actor: Any) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            raise LookupError

    async def thread(_actor: Any) -> int:
        return await anyio.to_thread.run_sync(lambda: 42)

    async with running() as system:
        ref = system.spawn(Runs, name="worker")
        assert await ref.ask(scopes) == "fine"
        with pytest.raises(TimeoutError) as caught:
            await ref.ask(times_out)
        assert not isinstance(caught.value, AskTimeout)
        assert await ref.ask(group) == "fine"
        with pytest.raises(ExceptionGroup) as info:
            await ref.ask(failing_group)
        assert info.group_contains(LookupError)
        assert await ref.ask(thread) == 42
        assert await ref.ask(scopes) == "fine"
        restarts = [event for event in system.events() if isinstance(event, ev.ActorRestarted)]
        assert len(restarts) == 2


async def test_g12_a_scope_kept_open_over_two_messages_is_not_needed_but_a_group_in_on_start_ends_there() -> (
    None
):
    class Grouped(Actor):
        async def on_start(self) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(go_round)

        async def on_stop(self) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(go_round)
                with anyio.move_on_after(0.01):
                    await anyio.sleep_forever()

    async with running() as system:
        await system.stop(system.spawn(Grouped))
        assert stops(system) == [(1, "stopped")]
        assert not [event for event in system.events() if isinstance(event, ev.ActorCrashed)]


@pytest.mark.parametrize("force", ["stop", "aclose", "cancel"])
async def test_g12_clean_up_that_fails_while_it_is_cancelled_is_a_failure_and_no_end(force: str) -> None:
    """Cancelled tasks of a group that raise on their way out: on trio a mixed group comes out of it."""
    inside = anyio.Event()

    async def bad() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("clean-up")

    async def job(_actor: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(bad)
            group.start_soon(anyio.sleep_forever)
            await go_round(5)
            inside.set()
            await anyio.sleep_forever()

    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with ActorSystem(shutdown_timeout=0.05) as system:
            ref = system.spawn(Runs)
            other = system.spawn(Runs)
            await ref.tell(job)
            await inside.wait()
            if force == "stop":
                await system.stop(ref, timeout=0)
                assert await other.ask(nothing) == "answer"
            elif force == "cancel":
                scope.cancel()
                await anyio.lowlevel.checkpoint()
    assert len(stops(system)) == 2


@pytest.mark.parametrize("where", ["receive", "on_start", "on_stop"])
async def test_g12_a_stray_cancellation_does_not_end_the_system(where: str) -> None:
    """An actor awaits an asyncio task that somebody cancelled."""
    if not _on_asyncio():
        pytest.skip("only asyncio has cancelled tasks to await")

    async def spurious_cancellation() -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    class Strays(Actor):
        async def on_start(self) -> None:
            if where == "on_start":
                await spurious_cancellation()

        async def receive(self, message: Any) -> None:
            if where == "receive":
                await spurious_cancellation()

        async def on_stop(self) -> None:
            if where == "on_stop":
                await spurious_cancellation()

    async with running() as system:
        other = system.spawn(Runs)
        ref = system.spawn(Strays)
        if where != "on_stop":
            with pytest.raises((RuntimeError, ActorStopped)):
                await ref.ask(1)
        else:
            await ref.ask(1)
            await system.stop(ref)
        await wait_until(lambda: bool(stops(system)))
        assert stops(system) == [(2, "stopped" if where == "on_stop" else "failed")]
        assert await other.ask(nothing) == "answer"


async def test_g12_a_stray_cancellation_is_a_failure_like_any_other() -> None:
    if not _on_asyncio():
        pytest.skip("only asyncio has cancelled tasks to await")

    async def spurious_cancellation(_actor: Any) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    async with running() as system:
        ref = system.spawn(Runs, name="restarts")
        await ref.tell(spurious_cancellation)
        assert await ref.ask(nothing) == "answer"
        with pytest.raises(RuntimeError, match="cancellation that nobody asked for") as caught:
            await ref.ask(spurious_cancellation)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert await ref.ask(nothing) == "answer"
        crashes = [event for event in system.events() if isinstance(event, ev.ActorCrashed)]
        assert len(crashes) == 2


async def test_g12_somebody_who_cancels_every_task_does_not_make_the_system_hang() -> None:
    """Recipes for an asyncio shutdown cancel all tasks there are."""
    if not _on_asyncio():
        pytest.skip("asyncio's own cancellation")
    inside = anyio.Event()
    outcome: list[str] = []

    async def stuck(_actor: Any) -> None:
        inside.set()
        await anyio.sleep_forever()

    async with running(shutdown_timeout=0.5) as system:
        ref = system.spawn(Runs)
        system.spawn(Runs)

        async def ask() -> None:
            try:
                await ref.ask(stuck)
            except ActorStopped:
                outcome.append("ActorStopped")

        mine = asyncio.current_task()
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await inside.wait()
            await go_round()
            for task in asyncio.all_tasks():
                if "papyra" in task.get_name() and task is not mine:
                    task.cancel()
    assert outcome == ["ActorStopped"]
    assert len(stops(system)) == 2


async def test_g12_a_task_dump_names_the_actors() -> None:
    inside = anyio.Event()

    async def stuck(_actor: Any) -> None:
        inside.set()
        await anyio.sleep_forever()

    async with running(system_id="plant", shutdown_timeout=0) as system:
        ref = system.spawn(Runs, name="pump")
        await ref.tell(stuck)
        await inside.wait()
        if _on_asyncio():
            names = [task.get_name() for task in asyncio.all_tasks()]
            dump = repr(asyncio.all_tasks())
        else:
            import trio

            root = trio.lowlevel.current_root_task()
            assert root is not None
            found = [root]
            for task in found:
                for nursery in task.child_nurseries:
                    found.extend(nursery.child_tasks)
            names = [str(task.name) for task in found]
            dump = repr(found)
        (name,) = [name for name in names if "pump" in name]
        assert "plant:1" in name
        assert "Runs" in name
        assert "plant:1" in dump


# -- 13: the start-up checks


async def test_g13_a_start_that_is_cancelled_or_fails_starts_nothing() -> None:
    from papyra.persistence.startup import PersistenceStartupMode

    gate = anyio.Event()

    class Slow(Recording):
        async def scan(self) -> Any:
            await gate.wait()
            return await super().scan()

    with anyio.fail_after(5):
        system = ActorSystem(persistence=Slow(), persistence_startup=PersistenceStartupMode.FAIL_ON_ANOMALY)
        with anyio.move_on_after(0.01) as scope:
            await system.start()
        assert scope.cancelled_caught
        with pytest.raises(RuntimeError, match="not started"):
            system.spawn(Runs)
        gate.set()
        async with system:
            assert await system.spawn(Runs).ask(nothing) == "answer"


async def test_g13_aclose_during_the_start_wins() -> None:
    from papyra.persistence.startup import PersistenceStartupMode

    gate, scanning = anyio.Event(), anyio.Event()

    class Slow(Recording):
        async def scan(self) -> Any:
            report = await super().scan()
            scanning.set()
            await gate.wait()
            return report

    errors: list[Exception] = []
    with anyio.fail_after(5):
        system = ActorSystem(persistence=Slow(), persistence_startup=PersistenceStartupMode.FAIL_ON_ANOMALY)

        async def start() -> None:
            try:
                await system.start()
            except RuntimeError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(start)
            await scanning.wait()
            group.start_soon(system.aclose)
            await go_round()
            gate.set()
        with pytest.raises(RuntimeError, match="closed"):
            system.spawn(Runs)
