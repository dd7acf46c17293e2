"""Guarantee 12: which exceptions are failures."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, AskTimeout
from papyra import events as ev
from papyra._runtime.lifecycle import Lifecycle
from papyra._runtime.supervision import Supervision

from .lives import Logged, Recording, _on_asyncio, logged, stops
from .support import RESTART, Runs, boom, go_round, nothing, running, stuck_after, wait_until


class Custom(BaseException):
    pass


async def leave_scope(actor: Runs) -> None:
    anyio.CancelScope().__enter__()
    actor.become(actor.receive)  # which ends the turn


FATAL = [KeyboardInterrupt, SystemExit, Custom]


@pytest.mark.parametrize("kind", FATAL)
@pytest.mark.parametrize("own_task", [False, True])
@pytest.mark.parametrize(
    "where",
    [
        "receive",
        "ask",
        "on_start",
        "on_stop",
        "on_child_failure",
        "on_child_failure while it waits",
        "on_child_failure of a scope left open while it waits",
    ],
)
async def test_g12_any_other_base_exception_ends_the_system_and_reaches_the_host(
    where: str, own_task: bool, kind: type[BaseException]
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
            elif where.endswith("while it waits"):
                child = self.context.spawn_child(Runs)
                await child.tell(leave_scope if "scope" in where else boom)
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
            fatal = logged(log, "fatal", Fatal)
            fatal.own_task = own_task
            ref: ActorRef[Any, Any] = system.spawn(fatal)
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


async def spurious_cancellation(_actor: Actor) -> None:
    """Await a task of asyncio that somebody cancelled."""
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


@pytest.mark.parametrize("where", ["receive", "on_start", "on_stop"])
async def test_g12_a_stray_cancellation_does_not_end_the_system(where: str) -> None:
    """An actor awaits an asyncio task that somebody cancelled."""
    if not _on_asyncio():
        pytest.skip("only asyncio has cancelled tasks to await")

    class Strays(Actor):
        async def on_start(self) -> None:
            if where == "on_start":
                await spurious_cancellation(self)

        async def receive(self, message: Any) -> None:
            if where == "receive":
                await spurious_cancellation(self)

        async def on_stop(self) -> None:
            if where == "on_stop":
                await spurious_cancellation(self)

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

    async with running(shutdown_timeout=0.5) as system:
        ref = system.spawn(Runs)
        system.spawn(Runs)

        async def ask() -> None:
            try:
                await ref.ask(stuck_after(inside))
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


async def test_g12_a_fatal_error_ends_idle_tasks_and_decisions_too() -> None:
    if not _on_asyncio():
        pytest.skip("asyncio's own cancellation")
    deciding = anyio.Event()

    class Own(Runs):
        own_task = True

    class Decides(Runs):
        async def on_child_failure(self, child_ref: ActorRef[Any, Any], exc: Exception) -> None:
            deciding.set()
            await anyio.sleep_forever()

    async def waits_for_a_failed_child(actor: Decides) -> None:
        child = actor.context.spawn_child(Runs)
        await child.tell(boom)
        await child.ask(nothing)

    async with running(shutdown_timeout=1) as system:
        assert await system.spawn(Own).ask(nothing) == "answer"
        await system.spawn(Decides).tell(waits_for_a_failed_child)
        await deciding.wait()
        await go_round()
        mine = asyncio.current_task()
        for task in asyncio.all_tasks():
            if "papyra" in task.get_name() and task is not mine:
                task.cancel()
        await wait_until(lambda: len(stops(system)) == 3)


@pytest.mark.parametrize("where", ["step", "failed"])
async def test_g12_a_fault_of_the_runtime_itself_ends_the_system_and_reaches_the_host(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, name = (Lifecycle, "_settle_running") if where == "step" else (Supervision, "failed")
    right, fault = getattr(kind, name), LookupError("a fault")
    faults = [fault]

    def wrong(*args: Any) -> Any:
        if faults:
            raise faults.pop()
        return right(*args)

    log: list[str] = []
    system = ActorSystem()

    async def host() -> None:
        async with system:
            await system.spawn(logged(log, "other")).ask(nothing)
            ref = system.spawn(logged(log, "faulty"))
            await ref.ask(nothing)
            monkeypatch.setattr(kind, name, wrong)
            await ref.tell((lambda actor: actor.become(actor.receive)) if where == "step" else boom)
            await anyio.sleep_forever()

    with anyio.fail_after(5), pytest.raises(LookupError) as caught:
        await host()
    assert caught.value is fault
    assert sorted(log[2:]) == ["faulty on_stop", "other on_stop"]


async def cancellation() -> BaseException:
    """Return what a cancel scope raises."""
    errors: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            errors.append(error)
            raise
    return errors[0]


@pytest.mark.parametrize("where", ["on_start", "on_stop"])
async def test_g12_errors_beside_cancellations_are_a_failure(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks of the actor were cancelled, and one of them raised as it ended."""

    async def mixed() -> None:
        raise BaseExceptionGroup("tasks", [await cancellation(), ValueError("clean-up")])

    class Mixed(Runs):
        async def on_start(self) -> None:
            if where == "on_start" and not self.log:
                self.log.append("failed")
                await mixed()

        async def on_stop(self) -> None:
            if where == "on_stop":
                await mixed()

    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(Mixed, log, policy=RESTART)
        assert await ref.ask(nothing) == "answer"
        await ref.stop()
        assert stops(system) == [(1, "stopped")]
        assert await system.spawn(Runs).ask(nothing) == "answer"
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "clean-up" in caplog.text


async def test_g12_a_stop_that_is_forced_takes_a_group_of_cancellations_as_one() -> None:
    inside = anyio.Event()

    async def job(_actor: Any) -> None:
        inside.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as error:
            raise BaseExceptionGroup("tasks", [error]) from None

    async with running() as system:
        ref, other = system.spawn(Runs), system.spawn(Runs)
        await ref.tell(job)
        await inside.wait()
        await ref.stop(timeout=0)
        assert stops(system) == [(1, "stopped")]
        assert await other.ask(nothing) == "answer"


async def test_g12_a_task_dump_names_the_actors() -> None:
    inside = anyio.Event()

    async with running(system_id="plant", shutdown_timeout=0) as system:
        ref = system.spawn(Runs, name="pump")
        await ref.tell(stuck_after(inside))
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
