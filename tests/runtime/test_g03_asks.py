"""Guarantee 3: ask."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, AskTimeout, PapyraError

from .support import Echo, Gated, Runs, SlowStart, go_round, letters, running, wait_until


class FailsBesideItsChild(Actor):
    """Fail when the child is busy."""

    def __init__(self, kind: type[Actor], busy: anyio.Event) -> None:
        self.kind, self.busy = kind, busy

    async def on_start(self) -> None:
        self.child = self.context.spawn_child(self.kind)

    async def receive(self, message: str) -> str:
        if message == "fail":
            await self.child.tell("go")
            await self.busy.wait()
            await go_round()
            raise ValueError
        return message


async def test_g03_ask_returns_what_receive_returned() -> None:
    async with running() as system:
        ref = system.spawn(Echo)
        thing = object()
        assert await ref.ask(thing) is thing
        assert await ref.ask(None) is None
        error = ValueError("as a value")
        assert await ref.ask(error) is error


async def test_g03_ask_raises_the_very_exception() -> None:
    error = KeyError("mine")

    async def fail(_actor: Runs) -> None:
        raise error

    async with running() as system:
        for name in (None, "named"):
            with pytest.raises(KeyError) as caught:
                await system.spawn(Runs, name=name).ask(fail)
            assert caught.value is error


@pytest.mark.parametrize("error", [StopAsyncIteration("x"), TimeoutError("x"), AskTimeout("x", 1.0)])
async def test_g03_ask_raises_exceptions_that_others_use_as_signals(error: Exception) -> None:
    class Fails(Actor):
        def receive(self, message: Any) -> Any:
            async def inner() -> None:
                raise error

            return inner()

    async with running() as system:
        with pytest.raises((type(error), RuntimeError)) as caught:
            await system.spawn(Fails).ask(1, timeout=4)
        assert error in (caught.value, caught.value.__cause__)


async def test_g03_ask_in_progress_when_the_actor_is_cancelled() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor)

        async def ask() -> None:
            with pytest.raises(ActorStopped):
                await ref.ask(1)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await actor.busy.wait()
            await system.stop(ref, timeout=0)


async def test_g03_queued_asks_when_the_actor_stops_itself() -> None:
    go = anyio.Event()

    async def stop(actor: Runs) -> str:
        await go.wait()
        await actor.context.stop_self()
        return "bye"

    async def never(actor: Runs) -> None:
        raise AssertionError("it takes no further message")

    results: list[Any] = []

    async def ask(ref: ActorRef[Any, Any], job: Any) -> None:
        try:
            results.append(await ref.ask(job))
        except ActorStopped:
            results.append(ActorStopped)

    async with running() as system:
        ref = system.spawn(Runs)
        async with anyio.create_task_group() as group:
            group.start_soon(ask, ref, stop)
            await go_round(3)
            group.start_soon(ask, ref, never)
            group.start_soon(ask, ref, never)
            await go_round()
            go.set()
        assert sorted(results, key=str) == sorted(["bye", ActorStopped, ActorStopped], key=str)
        assert letters(system) == [(never, True), (never, True)]


async def test_g03_queued_asks_when_the_actor_fails_carry_the_cause() -> None:
    go = anyio.Event()

    async def fail(_actor: Runs) -> None:
        await go.wait()
        raise LookupError("cause")

    async def never(_actor: Runs) -> None:
        raise AssertionError

    caught: list[BaseException | None] = []
    async with running() as system:
        ref = system.spawn(Runs)
        await ref.tell(fail)

        async def ask() -> None:
            with pytest.raises(ActorStopped) as info:
                await ref.ask(never)
            caught.append(info.value.__cause__)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await go_round()
            go.set()
    assert [type(cause) for cause in caught] == [LookupError]


async def test_g03_asks_when_on_start_fails() -> None:
    class Broken(Actor):
        async def on_start(self) -> None:
            await anyio.lowlevel.checkpoint()
            raise OSError("no disk")

    async with running() as system:
        with pytest.raises(ActorStopped) as caught:
            await system.spawn(Broken).ask(1)
        assert isinstance(caught.value.__cause__, OSError)


async def test_g03_an_ask_waits_for_on_start() -> None:
    order: list[str] = []
    async with running() as system:
        await system.spawn(SlowStart, order).ask("first")
    assert order == ["on_start", "first"]


async def test_g03_asks_when_the_system_closes() -> None:
    actor = Gated()
    results: list[str] = []
    system = ActorSystem(shutdown_timeout=0.05)
    await system.start()
    ref = system.spawn(lambda: actor, mailbox_capacity=1)

    async def ask(message: str) -> None:
        try:
            await ref.ask(message)
        except ActorStopped:
            results.append(message)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, "running")
            await actor.busy.wait()
            group.start_soon(ask, "queued")
            await go_round()
            group.start_soon(ask, "waiting for room")
            await go_round()
            await system.aclose()
    assert sorted(results) == ["queued", "running", "waiting for room"]
    # Exactly one each; the one that ran leaves no dead letter.
    assert sorted(letters(system)) == [("queued", True), ("waiting for room", True)]


async def test_g03_a_queued_ask_survives_a_restart() -> None:
    go = anyio.Event()

    async def fail(_actor: Runs) -> None:
        await go.wait()
        raise ValueError

    async def answer(_actor: Runs) -> int:
        return 42

    results: list[int] = []
    async with running() as system:
        ref = system.spawn(Runs, name="phoenix")
        await ref.tell(fail)

        async def ask() -> None:
            results.append(await ref.ask(answer))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await go_round()
            go.set()
    assert results == [42]


async def test_g03_a_child_that_asks_its_parent_does_not_block_the_parents_restart() -> None:
    """The parent's restart stops the child, which waits for the parent: the ask has to end."""
    asking = anyio.Event()
    results: list[object] = []

    class Child(Actor):
        async def receive(self, message: str) -> None:
            asking.set()
            try:
                results.append(await parent.ask("question"))
            except PapyraError as error:
                results.append(type(error))

    async with running(shutdown_timeout=1) as system:
        parent = system.spawn(FailsBesideItsChild, Child, asking, name="parent")
        await parent.tell("fail")
        assert await parent.ask("still there") == "still there"
    assert len(results) == 1


async def test_g03_a_child_that_tells_its_full_parent_does_not_block_the_parents_restart() -> None:
    blocked = anyio.Event()

    class Child(Actor):
        async def receive(self, message: str) -> None:
            blocked.set()
            await parent.tell("from the child")

    async with running(shutdown_timeout=1) as system:
        parent = system.spawn(FailsBesideItsChild, Child, blocked, name="parent", mailbox_capacity=1)
        await system.wait_for_event(lambda event: event.address["actor_id"] == 1)
        await parent.tell("fail")
        await parent.tell("queued")
        assert await parent.ask("still there") == "still there"


async def test_g03_timeout_raises_ask_timeout_and_the_late_reply_is_dropped() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor)
        with pytest.raises(AskTimeout) as caught:
            await ref.ask("slow", timeout=0.02)
        assert isinstance(caught.value, TimeoutError)
        assert ref.is_alive()
        actor.gate.set()
        assert await ref.ask("next", timeout=4) == "next"
    assert actor.got == ["slow", "next"]
    assert letters(system) == []


async def test_g03_timeout_of_zero_asks_all_the_same() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor)
        with pytest.raises(AskTimeout):
            await ref.ask(1, timeout=0)
        actor.gate.set()


async def test_g03_a_late_failure_is_dropped_for_the_asker_but_fails_the_actor() -> None:
    go = anyio.Event()

    async def fail(_actor: Runs) -> None:
        await go.wait()
        raise ValueError("late")

    async with running() as system:
        ref = system.spawn(Runs)
        with pytest.raises(AskTimeout):
            await ref.ask(fail, timeout=0.02)
        go.set()
        await wait_until(lambda: not ref.is_alive())


async def test_g03_timeout_while_waiting_for_room_sends_nothing() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor, mailbox_capacity=1)
        await ref.tell(1)
        await actor.busy.wait()
        await ref.tell(2)
        for _ in range(3):
            with pytest.raises(AskTimeout):
                await ref.ask("no room", timeout=0.02)
        actor.gate.set()
        assert await ref.ask(3) == 3
    assert actor.got == [1, 2, 3]
    assert letters(system) == []


async def test_g03_a_cancelled_ask_leaves_the_actor_alone() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor)
        with anyio.move_on_after(0.02) as scope:
            await ref.ask(1)
        assert scope.cancelled_caught
        actor.gate.set()
        assert await ref.ask(2) == 2
    assert actor.got == [1, 2]


async def test_g03_many_asks_with_timeouts_all_end() -> None:
    ended: list[str] = []
    async with running() as system:
        echo = system.spawn(Echo)
        stuck = system.spawn(Gated, mailbox_capacity=5)

        async def ask(ref: ActorRef[Any, Any], timeout: float) -> None:
            try:
                await ref.ask(1, timeout=timeout)
                ended.append("answered")
            except AskTimeout:
                ended.append("timeout")

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(ask, echo, 4.0)
                group.start_soon(ask, stuck, 0.001 * (number % 7))
        await system.stop(stuck, timeout=0)
    assert ended.count("answered") == 100
    assert ended.count("timeout") == 100
