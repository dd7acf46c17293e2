"""H5 and H6: nothing of a task leaks into another actor, and an actor may have a task of its own."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, SupervisorDecision, events
from papyra._runtime import worker_loop
from papyra._runtime._eventloop import running_loop
from papyra._runtime.stopping import NO_TIME

from .support import Runs, go_round, running, wait_until


class Session(Actor):
    """Holds a task group open from its start to its stop."""

    async def on_start(self) -> None:
        self.tasks = [anyio.get_current_task().id]
        self.group = await anyio.create_task_group().__aenter__()
        self.group.start_soon(anyio.sleep_forever)

    async def receive(self, message: Any) -> Any:
        self.tasks.append(anyio.get_current_task().id)
        if message == "fail":
            raise ValueError(message)
        return len(set(self.tasks))

    async def on_stop(self) -> None:
        self.group.cancel_scope.cancel()
        await self.group.__aexit__(None, None, None)


class Own(Session):
    own_task = True


class Fine(Actor):
    async def receive(self, message: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return message


async def test_h06_a_task_group_may_span_a_life_in_its_own_task() -> None:
    async with running() as system:
        own, other = system.spawn(Own, name="own"), system.spawn(Fine)
        for n in range(3):
            assert await other.ask(n) == n
            assert await own.ask(n) == 1
        with pytest.raises(ValueError, match="fail"):
            await own.ask("fail")
        assert await own.ask("again") == 1
        await system.stop(own, timeout=1)
        assert await other.ask("fine") == "fine"


@pytest.mark.parametrize("where", ["on_start", "receive"])
async def test_h06_a_stop_that_cancels_the_actor_leaves_its_group_in_its_own_task(where: str) -> None:
    inside = anyio.Event()
    seen: list[Any] = []

    class Stuck(Own):
        async def on_start(self) -> None:
            await super().on_start()
            if where == "on_start":
                await self.receive("stuck")

        async def receive(self, message: Any) -> Any:
            inside.set()
            await anyio.sleep_forever()

        async def on_stop(self) -> None:
            await super().on_stop()
            await anyio.lowlevel.checkpoint()
            seen.append(anyio.get_current_task().id == self.tasks[0])

    async with running() as system:
        ref = system.spawn(Stuck)
        await ref.tell("stuck")
        await inside.wait()
        await ref.stop(timeout=0)
        assert seen == [True]


async def test_h06_without_it_the_actor_alone_fails_and_the_error_says_why() -> None:
    async with running() as system:
        ref, other = system.spawn(Session), system.spawn(Fine)
        with pytest.raises(ActorStopped) as caught:
            await ref.ask(1)
        assert "own_task" in str(caught.value.__cause__)
        assert "start_soon" in str(caught.value.__cause__)
        for n in range(3):
            assert await other.ask(n) == n


async def test_h06_a_scope_left_open_by_a_message_fails_that_ask() -> None:
    class Leaves(Actor):
        async def receive(self, message: Any) -> Any:
            self.scope = anyio.CancelScope()
            self.scope.__enter__()

    async with running() as system:
        with pytest.raises(RuntimeError, match="own_task"):
            await system.spawn(Leaves).ask(1)
        assert await system.spawn(Fine).ask(2) == 2


async def test_h05_a_lock_that_an_actor_holds_is_not_its_neighbours() -> None:
    lock = anyio.Lock()

    class Holder(Actor):
        async def on_start(self) -> None:
            await lock.acquire()

        async def receive(self, message: Any) -> Any:
            lock.release()

    class Wants(Actor):
        async def receive(self, message: Any) -> Any:
            async with lock:
                return "got it"

    async with running() as system:
        holder, wants = system.spawn(Holder), system.spawn(Wants)
        async with anyio.create_task_group() as group:
            replies: list[Any] = []

            async def want() -> None:
                replies.append(await wants.ask(1))

            while not lock.locked():
                await anyio.lowlevel.checkpoint()
            group.start_soon(want)
            while not lock.statistics().tasks_waiting:
                await anyio.lowlevel.checkpoint()
            await holder.ask("release")
        assert replies == ["got it"]
        assert await system.spawn(Wants).ask(2) == "got it"


class Borrows(Actor):
    """Takes a lock in one message and releases it in a later one."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.tasks: list[int] = []

    async def receive(self, message: Any) -> Any:
        self.tasks.append(anyio.get_current_task().id)
        if message == "take":
            await self.lock.acquire()
            self.tasks = self.tasks[-1:]
        else:
            self.lock.release()


async def test_h05_variables_set_while_it_has_a_lock_stay_the_actors() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")

    class Sets(Borrows):
        async def receive(self, message: Any) -> Any:
            if message == "look":
                return variable.get()
            if message == "release":
                variable.set("the actor's")
            await super().receive(message)
            return None

    async with running() as system:
        ref, other = system.spawn(Sets), system.spawn(Sets)
        await ref.ask("take")
        await ref.ask("release")
        assert await other.ask("look") == "nobody's"
        assert await ref.ask("look") == "the actor's"


@pytest.mark.parametrize(
    "messages", [["set and take"], ["set", "take"], ["take", "set"], ["set", "take", "set"]]
)
async def test_h05_an_actor_keeps_its_lock_and_its_variables(messages: list[str]) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")

    class Both(Actor):
        def __init__(self) -> None:
            self.lock = anyio.Lock()

        async def receive(self, message: Any) -> Any:
            if "set" in message:
                variable.set("the actor's")
            if "take" in message:
                await self.lock.acquire()
            if "release" in message:
                self.lock.release()
            return variable.get()

    async with running() as system:
        ref, other = system.spawn(Both), system.spawn(Both)
        for _ in range(3):
            for message in messages:
                await ref.ask(message)
                await go_round()
                assert await other.ask("look") == "nobody's"
            for message in ("look", "release", "look"):
                assert await ref.ask(message) == "the actor's"
                await go_round()
        assert await other.ask("take") == "nobody's"


@pytest.mark.parametrize("lets_go", [False, True])
@pytest.mark.parametrize("before", [[], ["set"]])
async def test_h05_a_message_that_comes_while_the_task_is_looked_at_is_handled(
    before: list[str], lets_go: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    held: list[object] = []
    late = anyio.Event()

    class Holds(Actor):
        async def receive(self, message: str) -> str:
            if message == "late":
                late.set()
            else:
                variable.set("the actor's")
            if message == "hold":
                held.append(running_loop().current_task())  # it counts as held, as if a lock referred to it
            return variable.get()

    async with running() as system:
        ref = system.spawn(Holds)
        for message in before:  # then it runs in variables of its own
            await ref.ask(message)
        await go_round()
        loop = ref._cell.rt.loop
        look = loop.yield_to_loop

        async def slow_look() -> None:
            monkeypatch.undo()
            ref.tell_nowait("late")
            await go_round()  # another worker hands the message over
            if lets_go:
                held.clear()
            await look()

        monkeypatch.setattr(loop, "yield_to_loop", slow_look)
        await ref.tell("hold")
        with anyio.fail_after(20):
            await late.wait()
        held.clear()
        assert await ref.ask("look") == "the actor's"


class Waits(Actor):
    """Keeps a spare worker busy."""

    async def receive(self, message: Any) -> None:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("rounds", range(6))
@pytest.mark.parametrize("busy", [0, 3])
async def test_h05_no_other_worker_runs_an_actor_that_has_just_taken_a_lock(rounds: int, busy: int) -> None:
    """The next message may come at any step of the look whether the actor holds something."""
    async with running() as system:
        others = [system.spawn(Waits) for _ in range(busy)]
        for _ in range(20):
            ref = system.spawn(Borrows)
            await ref.tell("take")
            for other in others:
                await other.tell("work")
            for _ in range(rounds):
                await anyio.lowlevel.checkpoint()
            await ref.ask("release")
            assert len(set(await ref.proxy().tasks)) == 1


async def test_h05_an_actor_that_stops_with_a_lock_takes_its_task_with_it() -> None:
    async with running() as system:
        for _ in range(3):
            lock = anyio.Lock()

            class Keeps(Actor):
                async def receive(self, message: Any, lock: anyio.Lock = lock) -> None:
                    await lock.acquire()
                    self.context.stop_self()

            class Wants(Actor):
                async def receive(self, message: Any, lock: anyio.Lock = lock) -> str:
                    try:
                        with anyio.move_on_after(0.05):
                            await lock.acquire()  # RuntimeError in the task that has it already
                            return "had"
                    except trio.BrokenResourceError:
                        pass  # trio notes that the task with the lock has ended
                    return "waited"

            keeps = system.spawn(Keeps)
            await keeps.tell("take")
            assert [await system.spawn(Wants).ask("want") for _ in range(3)] == ["waited"] * 3


class Plain(Actor):
    """Has a task of its own, and no `on_stop`."""

    own_task = True

    async def receive(self, message: object) -> object:
        return message


async def test_h06_a_close_ends_the_task_of_an_idle_actor_without_an_on_stop() -> None:
    class Parent(Actor):
        async def receive(self, message: object) -> object:
            return await self.context.spawn_child(Plain).ask(message)

    with anyio.fail_after(50):
        async with ActorSystem(shutdown_timeout=100) as system:
            assert await system.spawn(Plain).ask(1) == 1
            parent = system.spawn(Parent)
            assert await parent.ask(2) == 2
            await parent.stop()


class Connected(Actor):
    """Holds a task group whose reader loses the connection once, while the actor is idle."""

    own_task = True

    def __init__(self, world: dict[str, Any]) -> None:
        self.world = world

    async def on_start(self) -> None:
        self.world["starts"] += 1
        self.group = await anyio.create_task_group().__aenter__()
        self.group.start_soon(self.read, self.world["starts"])

    async def read(self, start: int) -> None:
        await self.world["lost"].wait()
        if start == 1:
            raise ConnectionResetError("gone")

    async def receive(self, message: object) -> object:
        return message

    async def on_stop(self) -> None:
        self.world["stops"] += 1
        if self.world["leaves"]:
            self.group.cancel_scope.cancel()
            await self.group.__aexit__(None, None, None)


@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize("name", ["session", None])
async def test_h06_a_connection_that_is_lost_while_the_actor_is_idle_fails_it_alone(
    name: str | None, leaves: bool
) -> None:
    world: dict[str, Any] = {"starts": 0, "stops": 0, "lost": anyio.Event(), "leaves": leaves}
    async with running() as system:
        bystander = system.spawn(Plain)
        ref = system.spawn(Connected, world, name=name)
        assert await ref.ask(1) == 1
        world["lost"].set()
        if name is None:
            await system.wait_for_event(events.ActorStopped, timeout=50)
            with pytest.raises(ActorStopped):
                await ref.ask(2)
        else:
            await system.wait_for_event(events.ActorRestarted, timeout=50)
            assert await ref.ask(2) == 2
        assert await bystander.ask(3) == 3
        assert world["starts"] == (1 if name is None else 2)
        assert world["stops"] == 1
    assert system.control_panel()["state"] == "closed"


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("before", [["take"], []])
async def test_h05_on_stop_has_the_lock_and_the_variables_of_a_message_that_was_cancelled(
    before: list[str], heeds: bool
) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    lock = anyio.Lock()
    inside, seen = anyio.Event(), list[str]()

    class Stuck(Actor):
        async def receive(self, message: str) -> None:
            if message == "take" or not before:
                await lock.acquire()
            if message == "stick":
                variable.set("the actor's")
                inside.set()
                try:
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class():
                    if heeds:
                        raise

        async def on_stop(self) -> None:
            lock.release()
            seen.append(variable.get())

    async with running() as system:
        ref = system.spawn(Stuck)
        for message in before:
            await ref.ask(message)
        await ref.tell("stick")
        await inside.wait()
        await ref.stop(timeout=0)
        assert not lock.locked()
        assert seen == ["the actor's"]


async def test_h05_the_worker_of_an_actor_that_was_cancelled_with_a_lock_serves_no_other_one() -> None:
    lock = anyio.Lock()

    class Keeps(Actor):
        async def receive(self, message: anyio.Event) -> None:
            await lock.acquire()
            message.set()
            await anyio.sleep_forever()

    class Owns(Actor):
        async def receive(self, message: Any) -> bool:
            return lock.statistics().owner == anyio.get_current_task()

    async with running() as system:
        keeps = system.spawn(Keeps)
        await keeps.tell(inside := anyio.Event())
        await inside.wait()
        await keeps.stop(timeout=0)
        for _ in range(3):
            assert not await system.spawn(Owns).ask(1)


async def test_h05_an_actor_with_variables_that_begins_to_stop_keeps_the_lock_of_its_last_message() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    inside, goes_on = anyio.Event(), anyio.Event()

    class Slow(Borrows):
        async def receive(self, message: str) -> None:
            if message == "set":
                variable.set("the actor's")
            elif message == "compute":
                time.sleep(0.001)  # noqa: ASYNC251 - so that its worker lets the loop go round
            else:
                await super().receive(message)
            if message == "take":
                inside.set()
                await goes_on.wait()

    async with running() as system:
        ref = system.spawn(Slow)
        await ref.ask("set")
        for message in ["compute"] * 4 + ["take"]:
            await ref.tell(message)
        await inside.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(ref.ask, "release")
            await go_round()
            group.start_soon(ref.stop)
            await go_round()
            goes_on.set()


async def test_h05_a_parent_that_waits_decides_in_the_variables_of_its_message() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")

    class Fails(Actor):
        async def on_start(self) -> None:
            raise ValueError("no start")

    class Parent(Actor):
        async def receive(self, message: str) -> str:
            variable.set("the message's")
            with pytest.raises(ActorStopped):
                await self.context.spawn_child(Fails).ask(message)
            return variable.get()

        async def on_child_failure(self, child_ref: Any, exc: Exception) -> None:
            variable.set(f"{variable.get()}, seen")

    async with running() as system:
        assert await system.spawn(Parent).ask("ask") == "the message's, seen"


@pytest.mark.parametrize("where", ["on_start", "receive"])
async def test_h06_code_that_ends_as_it_is_cancelled_leaves_the_group_to_on_stop(where: str) -> None:
    inside = anyio.Event()

    class Ignores(Own):
        left = False

        async def on_start(self) -> None:
            await super().on_start()
            if where == "on_start":
                await self.receive(None)

        async def receive(self, message: Any) -> Any:
            inside.set()
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                pass

        async def on_stop(self) -> None:
            await super().on_stop()
            Ignores.left = True

    async with running() as system:
        ref = system.spawn(Ignores)
        await ref.tell("wait")
        await inside.wait()
        await ref.stop(timeout=0)
        assert Ignores.left


@pytest.mark.parametrize("busy", [True, False])
async def test_h06_an_on_stop_without_time_may_leave_the_group(busy: bool) -> None:
    """On trio, a scope that is left inside of another one ends the whole run."""
    seen: list[str] = []

    class Slow(Actor):
        async def on_stop(self) -> None:
            with anyio.CancelScope(shield=True):
                await begun.wait()

    class Hasty(Own):
        async def on_start(self) -> None:
            self.context.spawn_child(Slow)
            await super().on_start()

        async def receive(self, message: Any) -> Any:
            inside.set()
            if busy:
                await anyio.sleep_forever()

        async def on_stop(self) -> None:
            seen.append("begun")
            await super().on_stop()
            await anyio.sleep_forever()

    inside, begun = anyio.Event(), anyio.Event()
    async with running() as system:
        ref, other = system.spawn(Hasty), system.spawn(Fine)
        await ref.tell(1)
        await inside.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(partial(ref.stop, timeout=0))
            await wait_until(lambda: ref._cell.force == NO_TIME)
            begun.set()
        assert seen == ["begun"]
        assert await other.ask("fine") == "fine"


@pytest.mark.parametrize("where", ["idle", "on_start", "receive"])
async def test_h06_a_parent_cannot_resume_an_actor_whose_group_has_failed(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its task can wait for nothing any more: it would fail again at once, without end."""
    world: dict[str, Any] = {"starts": 0, "stops": 0, "lost": anyio.Event(), "leaves": True}
    asked: list[Exception] = []

    class Reads(Connected):
        async def on_start(self) -> None:
            await super().on_start()
            if where == "on_start" and world["starts"] == 1:
                await self.receive("wait")

        async def receive(self, message: object) -> object:
            if message == "wait":
                world["lost"].set()
                await anyio.sleep_forever()
            return message

    class Parent(Runs):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Reads, world)

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision:
            asked.append(exc)
            return SupervisorDecision.RESUME if len(asked) < 10 else SupervisorDecision.STOP

    async with running() as system:
        parent = system.spawn(Parent)
        child = await parent.ask(lambda actor: actor.child)
        if where == "receive":
            with pytest.raises(RuntimeError):
                await child.ask("wait")
        world["lost"].set()
        went_on = (events.ActorRestarted, events.ActorStopped)
        await system.wait_for_event(lambda event: isinstance(event, went_on), timeout=50)
        assert await child.ask("again") == "again"
        assert world["starts"] == 2
    assert len(asked) == 1
    crash = next(event for event in system.events() if isinstance(event, events.ActorCrashed))
    assert (crash.payload["decision"], crash.payload["restarts"]) == ("restart", 1)
    assert (
        "restart 1 of 3 in 60 s, at once, because its own task is cancelled and can't be resumed"
        in caplog.text
    )


async def test_h06_a_parent_may_resume_an_actor_with_an_own_task_that_is_whole() -> None:
    class Parent(Runs):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Own)

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision:
            return SupervisorDecision.RESUME

    async with running() as system:
        child = await system.spawn(Parent).ask(lambda actor: actor.child)
        for _ in range(3):
            with pytest.raises(ValueError, match="fail"):
                await child.ask("fail")
            assert await child.ask("again") == 1
        assert not [event for event in system.events() if isinstance(event, events.ActorRestarted)]


async def test_h06_an_actor_with_a_backlog_fails_alone_when_its_group_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its worker lets the event loop go round between two messages: the actor itself does not wait."""
    monkeypatch.setattr(worker_loop, "SLICE_SECONDS", 0)
    world: dict[str, Any] = {"starts": 0, "stops": 0, "lost": anyio.Event(), "leaves": True}

    class Computes(Connected):
        async def receive(self, message: object) -> object:
            if message == "lose":
                world["lost"].set()
            return message

    async with running() as system:
        ref = system.spawn(Computes, world, name="session")
        assert await ref.ask(1) == 1
        for message in ["lose", *range(40)]:
            ref.tell_nowait(message)
        assert await ref.ask(2) == 2
        await system.wait_for_event(events.ActorRestarted, timeout=50)
        assert await ref.ask(3) == 3
        assert (world["starts"], world["stops"]) == (2, 1)


class SlowStop(Actor):
    """Its parent needs a second turn to stop."""

    async def on_stop(self) -> None:
        await go_round()


def cancel_own_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize("ending", [True, False])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_h05_an_actor_with_variables_that_cancels_its_own_task_handles_its_messages(
    ending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trio cancels only scopes. The worker ends if its cancellation counts as the end of the loop."""
    monkeypatch.setattr(worker_loop, "SLICE_SECONDS", 0)
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    handled: list[object] = []

    class Cancels(Actor):
        async def receive(self, message: object) -> str:
            if message == "set":
                variable.set("the actor's")
            if message == "cancel":
                cancel_own_task()
            handled.append(message)
            return variable.get()

    async with running() as system:
        ref = system.spawn(Cancels)
        await ref.ask("set")
        with monkeypatch.context() as during:
            during.setattr(ref._cell.rt.loop, "ending", lambda: ending)
            messages = [*range(40), "cancel", *range(40)]
            for message in messages:
                ref.tell_nowait(message)
            assert await ref.ask("last") == "the actor's"
        assert handled == ["set", *messages, "last"]


@pytest.mark.parametrize(
    "messages",
    [["take and cancel"], ["take", "cancel"], ["take and set", "cancel"], ["take", "cancel and stop"]],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_h05_an_actor_that_cancels_its_own_task_keeps_its_lock(messages: list[str]) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    released: list[bool] = []

    class Cancels(Actor):
        lock: anyio.Lock | None = None

        async def receive(self, message: str) -> None:
            if "take" in message:
                self.lock = anyio.Lock()
                await self.lock.acquire()
            if "set" in message:
                variable.set("the actor's")
            if "stop" in message:
                self.context.spawn_child(SlowStop)  # its parent waits for it in the task that was cancelled
                self.context.stop_self()
            if "cancel" in message:
                cancel_own_task()

        async def on_stop(self) -> None:
            assert self.lock is not None
            self.lock.release()
            released.append(True)

    async with running() as system:
        ref, other = system.spawn(Cancels), system.spawn(Fine)
        for message in messages:
            await ref.ask(message)
            await go_round()
            assert await other.ask("fine") == "fine"
        await ref.stop()
        assert released == [True]


@pytest.mark.parametrize("ask", [True, False])
async def test_h05_on_stop_has_the_lock_and_the_variables_of_a_message_that_left_a_scope_open(
    ask: bool,
) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    seen: list[str] = []

    class Leaves(Actor):
        lock: anyio.Lock | None = None

        async def on_start(self) -> None:
            self.context.spawn_child(SlowStop)

        async def receive(self, message: str) -> None:
            self.lock = anyio.Lock()
            await self.lock.acquire()
            variable.set("the actor's")
            anyio.CancelScope().__enter__()

        async def on_stop(self) -> None:
            assert self.lock is not None
            self.lock.release()
            seen.append(variable.get())

    async with running() as system:
        for _ in range(3):
            ref, other = system.spawn(Leaves), system.spawn(Fine)
            if ask:
                with pytest.raises(RuntimeError, match="own_task"):
                    await ref.ask("leave")
            else:
                await ref.tell("leave")
            await ref.stop()
            assert await other.ask("fine") == "fine"
    assert seen == ["the actor's"] * 3


@pytest.mark.parametrize("own", [True, False])
async def test_h07_a_variable_set_in_init_is_seen_after_a_restart_in_another_task(own: bool) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")

    class Sets(Actor):
        own_task = own

        def __init__(self) -> None:
            variable.set("the actor's")

        async def receive(self, message: str) -> str:
            if message == "take":
                self.lock = anyio.Lock()
                await self.lock.acquire()
            if message == "fail":
                raise ValueError(message)
            return variable.get()

    async with running() as system:
        ref, other = system.spawn(Sets, name="sets"), system.spawn(Fine)
        if not own:
            await ref.ask("take")
        assert await ref.ask("look") == "the actor's"
        with pytest.raises(ValueError, match="fail"):
            await ref.ask("fail")
        assert await ref.ask("look") == "the actor's"
        assert await other.ask("fine") == "fine"
