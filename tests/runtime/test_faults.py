"""Faults found by attacking the runtime, each with the script that broke it."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from contextvars import ContextVar
from typing import Any, ClassVar

import anyio
import pytest

from papyra import (
    Actor,
    ActorStopped,
    ActorSystem,
    ActorTerminated,
    AskDeadlock,
    AskTimeout,
    Settings,
    Strategy,
    SupervisionPolicy,
    SystemHooks,
)
from papyra import events as ev
from papyra.persistence import InMemoryPersistence, RetentionPolicy
from papyra.persistence.json import JsonFilePersistence

from .support import Echo, Runs, running

pytestmark = pytest.mark.usefixtures("actors_facts_only")


class Failed(BaseException):
    """What `pytest.fail` raises is one of these."""


@pytest.mark.parametrize("error", [Failed, SystemExit, KeyboardInterrupt])
async def test_h02_only_ctrl_c_in_a_hook_ends_the_system(error: type[BaseException]) -> None:
    def hook(event: ev.ActorEvent) -> None:
        if isinstance(event, ev.ActorStopped):
            raise error

    with anyio.fail_after(10):
        system = ActorSystem(shutdown_timeout=0.3, hooks=SystemHooks(on_event=hook))
        await system.start()
        await system.stop(system.spawn(Runs))
        if error is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                await system.aclose()
        else:
            assert system.control_panel()["hooks"][0]["failed"] == 1
            await system.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_g03_timers_outlive_a_cancellation_of_all_tasks() -> None:
    async def sleep(_actor: Runs) -> None:
        await asyncio.sleep(3600)

    with anyio.fail_after(10):
        system = ActorSystem(shutdown_timeout=0.5)
        await system.start()
        first, second = system.spawn(Runs), system.spawn(Runs)
        asking = asyncio.create_task(first.ask(sleep, timeout=0.3))
        await asyncio.sleep(0.01)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("papyra"):
                task.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        with pytest.raises((AskTimeout, ActorStopped)):
            await second.ask(sleep, timeout=0.1)
        await system.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_g11_parked_workers_that_are_cancelled_are_not_woken() -> None:
    async with running() as system:
        refs = [system.spawn(Runs) for _ in range(30)]

        async def pause(_actor: Runs) -> None:
            await anyio.sleep(0.01)

        async with anyio.create_task_group() as group:
            for ref in refs:
                group.start_soon(ref.ask, pause)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("papyra"):
                task.cancel()
        assert await refs[0].ask("still there") == "still there"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_g03_a_worker_that_is_cancelled_before_it_begins_is_made_up_for() -> None:
    async with running() as system:
        ref = system.spawn(Runs)  # makes the first worker
        for task in asyncio.all_tasks():
            if task.get_name().startswith("papyra"):
                task.cancel()
        assert await ref.ask("answer") == "answer"


async def test_g12_generator_exit_out_of_an_actor_ends_the_system() -> None:
    async def leave(_actor: Runs) -> None:
        raise GeneratorExit

    with anyio.fail_after(10), pytest.raises(GeneratorExit):  # noqa: PT012 - it is the system's end that raises
        async with ActorSystem(shutdown_timeout=0.2) as system:
            with pytest.raises(ActorStopped):
                await system.spawn(Runs).ask(leave)
            await anyio.sleep_forever()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("where", ["on_stop", "on_child_failure"])
async def test_g15_a_cancelled_task_of_the_actors_own_is_a_failure_wherever_it_is_awaited(where: str) -> None:
    async def await_cancelled() -> None:
        task = asyncio.ensure_future(asyncio.sleep(9))
        task.cancel()
        await task

    class Child(Runs):
        async def on_stop(self) -> None:
            if where == "on_stop":
                await await_cancelled()

    class Parent(Runs):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Child, policy=SupervisionPolicy(Strategy.RESTART))

        async def on_child_failure(self, child_ref: Any, exc: Exception) -> None:
            if where == "on_child_failure":
                await await_cancelled()

    async def fail(_actor: Runs) -> None:
        raise ValueError("told to")

    async def child_of(actor: Any) -> Any:
        return actor.child

    async with running() as system:
        parent = system.spawn(Parent, name="parent")
        child = await parent.ask(child_of)
        with pytest.raises(ValueError, match="told to"):
            await child.ask(fail)
        await system.wait_for_event(ev.ActorRestarted)
        assert await parent.ask("alive") == "alive"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_h05_a_cancellation_of_the_task_that_an_actor_kept_hurts_no_other_actor() -> None:
    left: list[asyncio.Task[Any]] = []

    async def leave(_actor: Runs) -> None:
        task = asyncio.current_task()
        assert task is not None
        left.append(task)

    async def sleep(_actor: Runs) -> str:
        assert asyncio.current_task() is not left[0]
        asyncio.get_running_loop().call_soon(left[0].cancel)
        await asyncio.sleep(0.05)
        return "slept"

    async with running() as system:
        first, second = system.spawn(Runs), system.spawn(Runs, name="second")
        for ref in (first, second):
            await ref.ask("warm")
        await first.ask(leave)
        assert await second.ask(sleep) == "slept"
        assert await second.ask("still there") == "still there"


async def test_g06_an_actor_that_fails_at_every_start_starves_nobody() -> None:
    class Failing(Actor):
        async def on_start(self) -> None:
            raise ValueError

    async with running() as system:
        failing = system.spawn(Failing, policy=SupervisionPolicy(Strategy.RESTART, max_restarts=10**9))
        assert await system.spawn(Runs).ask("answer") == "answer"
        await system.stop(failing, timeout=0)


async def test_g08_aclose_from_a_task_below_an_actor_does_not_wait() -> None:
    stopped: list[int] = []

    class Closes(Actor):
        async def receive(self, message: object) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(self.context.system.aclose)

        async def on_stop(self) -> None:
            stopped.append(1)

    async with running(shutdown_timeout=1) as system:
        await system.spawn(Closes).tell("close")
        await anyio.wait_all_tasks_blocked()
    assert stopped == [1]


async def test_g05_a_ring_through_two_systems_is_found() -> None:
    async with running(system_id="one") as one, ActorSystem(system_id="two") as two:
        first, second = one.spawn(Runs), two.spawn(Runs)

        async def ask_back(_actor: Runs) -> Any:
            return await first.ask("back")

        async def ask_over(_actor: Runs) -> Any:
            with pytest.raises(AskDeadlock):
                await second.ask(ask_back)

        await first.ask(ask_over)


async def test_g05_a_tell_to_itself_with_room_is_not_a_deadlock() -> None:
    got: list[object] = []
    entered, gate = anyio.Event(), anyio.Event()

    class Busy(Actor):
        async def receive(self, message: object) -> None:
            got.append(message)
            if message == "wait":
                entered.set()
                await gate.wait()
            if message == 7:
                await self.context.self_ref.tell("self")

    async with running() as system:
        ref = system.spawn(Busy, mailbox_capacity=8)
        await ref.tell("wait")
        await entered.wait()
        for number in range(8):
            await ref.tell(number)
        async with anyio.create_task_group() as group:
            group.start_soon(ref.tell, "late")
            await anyio.wait_all_tasks_blocked()
            gate.set()
        await system.stop(ref)
    assert "self" in got
    assert "late" in got


class Counted(InMemoryPersistence):
    letters = 0

    async def record_batch(self, records: Any) -> None:
        self.letters += len(records)


async def test_g20_a_million_dead_letters_do_not_block_the_loop_nor_lose_facts() -> None:
    store = Counted(RetentionPolicy(max_records=10))
    async with ActorSystem(persistence=store) as system:
        ref = system.spawn(Runs, mailbox_capacity=None)
        gate = anyio.Event()

        async def wait(_actor: Runs) -> None:
            await gate.wait()

        for _ in range(1):
            await ref.tell(wait)
        for number in range(150_000):
            await ref.tell(number)
        await system.stop(ref, timeout=0)
        await system.flush()
    assert store.metrics.records_dropped == 0
    assert store.letters >= 150_000


async def test_g07_a_number_that_equals_another_is_another_value() -> None:
    variable: ContextVar[object] = ContextVar("variable")
    variable.set(1)

    async def put(_actor: Runs) -> None:
        variable.set(True)

    async def look(_actor: Runs) -> object:
        return variable.get()

    async with ActorSystem() as system:
        first, second = system.spawn(Runs), system.spawn(Runs)
        await first.ask(put)
        assert await second.ask(look) is not True


async def test_g22_a_store_that_raises_a_base_exception_ends_the_system_without_a_hang() -> None:
    class Broken(InMemoryPersistence):
        async def record_batch(self, records: Any) -> None:
            raise Failed

    with anyio.fail_after(10):
        system = ActorSystem(persistence=Broken(), shutdown_timeout=0.5)
        await system.start()
        await system.spawn(Runs).ask("one")
        with pytest.raises(Failed):
            await system.aclose()


async def test_g18_watching_a_dead_actor_twice_is_one_message() -> None:
    got: list[object] = []

    class Watcher(Actor):
        async def receive(self, message: object) -> None:
            if isinstance(message, ActorTerminated):
                got.append(message)
            else:
                self.context.watch(dead)
                self.context.watch(dead)

    async with ActorSystem() as system:
        dead = system.spawn(Runs)
        await system.stop(dead)
        await system.spawn(Watcher).ask("go")
    assert len(got) == 1


@pytest.mark.usefixtures("_collects_its_loop")
def test_g02_a_reference_that_outlives_its_loop_says_so() -> None:
    system = ActorSystem()

    async def main() -> Any:
        await system.start()
        return system.spawn(Runs)

    ref = anyio.run(main)

    async def late() -> None:
        with pytest.raises(RuntimeError, match="has ended"):
            await ref.tell(1)
        with pytest.raises(ActorStopped):
            await ref.tell(2)

    anyio.run(late)


async def test_g20_a_crowd_that_lives_and_dies_at_once_is_recorded_whole(tmp_path: Any) -> None:
    """The file's thread got no turn beside a busy event loop, and 99,732 of 200,000 facts were dropped."""
    path = tmp_path / "crowd.ndjson"
    store = JsonFilePersistence(path)
    async with ActorSystem(persistence=store, settings=Settings(fact_buffer=40_000)) as system:
        for _ in range(30_000):
            system.spawn(Runs)
    assert store.metrics.records_dropped == 0
    assert path.read_bytes().count(b"\n") == 60_000


@pytest.mark.parametrize("where", ["on_start", "restart", "on_stop", "retire"])
@pytest.mark.parametrize("fails", [False, True])
async def test_g08_code_that_was_left_behind_and_ends_late_changes_nothing(
    where: str, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A second `ActorStopped`, or an `ActorStarted` after it, came when such an actor's code ended."""
    let_go, ended = anyio.Event(), anyio.Event()
    starts = 0

    async def ignore_cancellation() -> None:
        with anyio.CancelScope(shield=True):
            await let_go.wait()
        ended.set()
        if fails:
            raise ValueError("late")

    class Stubborn(Runs):
        async def on_start(self) -> None:
            nonlocal starts
            starts += 1
            if where == "on_start" or (where == "restart" and starts == 2):
                await ignore_cancellation()

        async def on_stop(self) -> None:
            if where in ("on_stop", "retire"):
                await ignore_cancellation()

    async def fail(_actor: Runs) -> None:
        raise ValueError("told to")

    async with running(shutdown_timeout=0.1) as system:
        ref = system.spawn(Stubborn, policy=SupervisionPolicy(Strategy.RESTART))
        if where in ("restart", "retire"):
            await ref.tell(fail)
            await system.wait_for_event(ev.ActorCrashed)
        await anyio.wait_all_tasks_blocked()
        await system.stop(ref, timeout=0)
        told = system.events()
        assert isinstance(told[-1], ev.ActorStopped)
        let_go.set()
        await ended.wait()
        await anyio.wait_all_tasks_blocked()
        assert await system.spawn(Runs).ask("the system goes on") == "the system goes on"
        assert [event for event in system.events() if event.address["actor_id"] == 1] == told
    assert ("late" in caplog.text) is fails


async def test_g19_a_reference_to_a_dead_actor_keeps_neither_its_variables_nor_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL + 1, "papyra")  # a log record that is kept keeps the error
    variable: ContextVar[object] = ContextVar("variable")
    kept: list[weakref.ref[Any]] = []

    class Big(ValueError):
        """Something that must go away."""

    async def fail_late(_actor: Runs) -> None:
        await let_go.wait()
        error = Big("told to")
        kept.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    class Parent(Actor):
        async def on_start(self) -> None:
            child = self.context.spawn_child(Runs, policy=SupervisionPolicy(Strategy.ESCALATE))
            await child.tell(fail_late)

        async def on_stop(self) -> None:
            value = Big("a value")
            kept.append(weakref.ref(value))
            variable.set(value)

    let_go = anyio.Event()
    async with running() as system:
        ref = system.spawn(Parent)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as group:
            group.start_soon(system.stop, ref)
            await anyio.wait_all_tasks_blocked()
            let_go.set()  # the child escalates to a parent that waits for its stop
        assert await system.spawn(Runs).ask("so that no worker is still at it")
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert len(kept) == 2
        assert [weak() for weak in kept] == [None, None]
    assert not ref.is_alive()


async def test_g20_a_dead_letter_that_comes_while_the_store_flushes_at_the_close_is_recorded() -> None:
    flushes, flushed = anyio.Event(), anyio.Event()

    class Slow(InMemoryPersistence):
        taken: ClassVar[list[object]] = []

        async def record_batch(self, records: Any) -> None:
            await anyio.sleep(0.01)
            self.taken.extend(records)

        async def flush(self) -> None:
            flushes.set()
            await flushed.wait()

    store = Slow()
    with anyio.fail_after(10):
        system = ActorSystem(persistence=store)
        await system.start()
        ref = system.spawn(Runs)
        async with anyio.create_task_group() as group:
            group.start_soon(system.aclose)
            await flushes.wait()
            with pytest.raises(ActorStopped):
                await ref.tell("late")
            flushed.set()
    assert store.metrics.records_dropped == 0
    assert [type(fact).__name__ for fact in store.taken] == [
        "PersistedEvent",
        "PersistedEvent",
        "PersistedDeadLetter",
    ]


def cancel_tasks(name: str) -> None:
    """Cancel tasks of the runtime, as a program does that cancels all it does not know."""
    for task in asyncio.all_tasks():
        if task.get_name().startswith(name):
            task.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_g03_a_time_out_outlives_the_cancellation_of_the_timers() -> None:
    async def sleep(_actor: Runs) -> None:
        sleeps.set()
        await asyncio.sleep(3600)

    sleeps = anyio.Event()
    async with running(shutdown_timeout=0.1) as system:
        asking = asyncio.create_task(system.spawn(Runs).ask(sleep, timeout=0.2))
        await sleeps.wait()
        cancel_tasks("papyra timers")
        with pytest.raises(AskTimeout):
            await asking


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_g20_a_flush_outlives_the_cancellation_of_the_writer() -> None:
    class Slow(InMemoryPersistence):
        async def record_batch(self, records: Any) -> None:
            if not writes.is_set():
                writes.set()
                await anyio.sleep_forever()
            await super().record_batch(records)

    store, writes = Slow(), anyio.Event()
    async with running(persistence=store) as system:
        system.spawn(Runs)
        await writes.wait()
        await system.stop(system.spawn(Runs))
        cancel_tasks("papyra facts")
        await system.flush()
        assert store.metrics.records_dropped == 1  # in the batch that was cut
        assert len(await store.list_events()) == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_g10_a_close_outlives_the_cancellation_of_all_tasks() -> None:
    stopped: list[int] = []

    class Slow(Runs):
        async def on_stop(self) -> None:
            stops.set()
            await anyio.sleep(0.01)
            stopped.append(1)

    store, stops = Counted(), anyio.Event()
    with anyio.fail_after(10):
        system = ActorSystem(persistence=store)
        await system.start()
        refs = [system.spawn(Slow) for _ in range(5)]
        closing = asyncio.create_task(system.aclose())
        await stops.wait()
        cancel_tasks("papyra")
        await closing
    assert stopped == [1] * 4  # except the one that was cancelled
    assert not any(ref.is_alive() for ref in refs)
    assert store.letters == 10
    assert store.closed


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_g20_a_fact_that_comes_while_the_writer_is_being_cancelled_harms_nothing() -> None:
    """It was an error inside the runtime, which lost the actor: the close waited for it for ever."""
    store = InMemoryPersistence()
    async with running(persistence=store, shutdown_timeout=0.1) as system:
        ref = system.spawn(Runs)
        await system.flush()
        await anyio.wait_all_tasks_blocked()  # the writer waits for facts
        stopping = asyncio.create_task(system.stop(ref))
        await asyncio.sleep(0)  # the actor is about to stop
        cancel_tasks("papyra facts")
        await stopping
        await system.flush()
        assert [event.event_type for event in await store.list_events()] == ["ActorStarted", "ActorStopped"]


async def test_g09_children_stop_first_also_where_an_actor_that_stops_itself_fails() -> None:
    stopped: list[str] = []

    class Child(Actor):
        async def on_stop(self) -> None:
            stopped.append("child")

    class Parent(Runs):
        async def on_start(self) -> None:
            self.context.spawn_child(Child)

        async def on_stop(self) -> None:
            stopped.append("parent")

    async def stop_and_fail(actor: Runs) -> None:
        actor.context.stop_self()
        raise ValueError("told to")

    async with running() as system:
        parent = system.spawn(Parent, policy=SupervisionPolicy(Strategy.RESTART))
        await parent.tell(stop_and_fail)
        await parent.tell("the rest")
        last = await system.wait_for_event(
            lambda event: isinstance(event, ev.ActorStopped) and event.address["actor_id"] == 1
        )
    assert stopped == ["child", "parent"]
    assert last.reason == "failed"
    assert [letter.message for letter in system.dead_letters.messages] == ["the rest"]


async def test_g19_a_watcher_that_is_dead_is_not_kept() -> None:
    async with running() as system:
        watched, actor = system.spawn(Runs), Runs()
        await system.stop(system.spawn(lambda: actor))
        actor.context.watch(watched)  # as a task may do that the actor has left behind
        assert not watched._cell.watchers


async def test_g19_a_worker_keeps_no_message_of_another_actor() -> None:
    class Message:
        """Something that must go away."""

    class Sleeps(Actor):
        async def on_start(self) -> None:
            starts.set()
            await let_go.wait()

    starts, let_go = anyio.Event(), anyio.Event()
    async with running() as system:
        message, first = Message(), system.spawn(Echo)  # `Runs` notes messages
        await first.ask("start")
        await first.tell(message)
        system.spawn(Sleeps)  # the same worker comes to it next
        kept = weakref.ref(message)
        del message
        await starts.wait()
        gc.collect()
        assert kept() is None
        let_go.set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_g11_a_host_that_is_cancelled_again_still_waits_for_the_close() -> None:
    stopped: list[int] = []

    class Slow(Runs):
        async def on_stop(self) -> None:
            stops.set()
            await let_go.wait()
            stopped.append(1)

    async def host() -> None:
        async with system:
            await system.spawn(Slow).ask("running")
            runs.set()
            await anyio.sleep_forever()

    runs, stops, let_go = anyio.Event(), anyio.Event(), anyio.Event()
    store = InMemoryPersistence()
    system = ActorSystem(persistence=store)
    with anyio.fail_after(10):
        hosting = asyncio.create_task(host())
        await runs.wait()
        hosting.cancel()
        await stops.wait()
        for _ in range(3):
            hosting.cancel()
            await asyncio.wait([hosting], timeout=0.01)
            assert not hosting.done()
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await hosting
    assert stopped == [1]
    assert store.closed


async def test_g06_a_worker_that_serves_one_actor_alone_is_not_a_spare_for_the_others() -> None:
    """It counted as one while it let the loop go round, and an actor that got a message just then was never
    run.
    """
    variable: ContextVar[int] = ContextVar("variable")
    busy, told = 0, anyio.Event()

    class Stained(Actor):
        async def receive(self, message: str) -> None:
            nonlocal busy
            if message == "set":
                variable.set(1)  # from now on it has a worker of its own
            elif message == "busy":
                time.sleep(0.001)  # noqa: ASYNC251 - so that the worker lets the loop go round
                busy += 1
            else:
                await told.wait()

    class Other(Actor):
        async def receive(self, message: str) -> None:
            told.set()

    async with running() as system:
        stained, other = system.spawn(Stained), system.spawn(Other)
        await stained.ask("set")
        for message in [*["busy"] * 8, "wait"]:
            await stained.tell(message)
        while busy < 8:
            await anyio.lowlevel.checkpoint()
        await other.tell("hello")
        await told.wait()
