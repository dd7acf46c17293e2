"""Guarantee 11: the task that runs the system."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorRef, ActorSystem, SupervisorDecision

from .lives import Logged, Recording, _on_asyncio, logged, stops
from .support import Runs, boom, go_round, nothing, running, stuck, stuck_after, wait_until


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
    """The time a shutdown may take is long here: a cancelled handler must not use it up."""
    store = Recording()
    log: list[str] = []
    inside = anyio.Event()

    class Slow(Logged):
        async def on_stop(self) -> None:
            await anyio.sleep(0.01)
            await go_round()
            await super().on_stop()

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
                await ref.tell(stuck_after(inside))
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
    # An ask whose asker has gone leaves no dead letter (H18).
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

    with anyio.fail_after(50), anyio.CancelScope() as scope:
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

    with anyio.fail_after(50), anyio.CancelScope() as scope:
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

    with anyio.fail_after(50), anyio.CancelScope() as scope:
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

    with anyio.fail_after(50):
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

    backend = "asyncio" if _on_asyncio() else "trio"
    with anyio.fail_after(5):
        await anyio.to_thread.run_sync(lambda: anyio.run(main, backend=backend))
    gc.collect()


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

    async def host() -> None:
        async with ActorSystem(shutdown_timeout=60, persistence=store) as system:
            await system.spawn(logged(log, "a", Slow)).tell(stuck_after(inside))
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

    system = ActorSystem(shutdown_timeout=60)

    async def host() -> None:
        async with asyncio.timeout(0.05), system:
            await system.spawn(Runs).ask(stuck)

    with anyio.fail_after(5):
        with pytest.raises(TimeoutError):
            await host()
        assert stops(system) == [(1, "shutdown")]
