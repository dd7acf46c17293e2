"""Guarantee 9: `stop`."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, Strategy, SupervisionPolicy
from papyra import events as ev

from .lives import Logged, Stubborn, logged, stops
from .support import Runs, boom, go_round, nothing, running, stuck, wait_until


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
