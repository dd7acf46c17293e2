"""Guarantee 7: one message at a time, and no variables of others."""

from __future__ import annotations

import random
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorRef, ActorStopped, SupervisorDecision

from .support import go_round, running


@pytest.mark.parametrize("seed", range(4))
async def test_g07_one_message_at_a_time_under_random_suspension(seed: int) -> None:
    rng = random.Random(seed)
    inside: dict[int, int] = {}

    class Careful(Actor):
        async def receive(self, depth: int) -> int:
            me = self.context.self_ref.address.actor_id
            assert inside.get(me, 0) == 0, "two at once"
            inside[me] = 1
            try:
                choice = rng.randrange(6)
                if choice == 0:
                    await anyio.sleep(rng.random() * 0.002)
                elif choice == 1:
                    await anyio.to_thread.run_sync(lambda: None)
                elif choice == 2 and depth:
                    other = rng.choice(refs)
                    if other.address.actor_id > me:
                        await other.ask(depth - 1)
                elif choice == 3 and depth:
                    other = rng.choice(refs)
                    if other.address.actor_id > me:
                        with anyio.move_on_after(0.001):
                            await other.tell(depth - 1)
                elif choice == 4:
                    v.set(me)
                    await anyio.lowlevel.checkpoint()
            except ActorStopped:
                pass  # at the end, the newest stop first
            finally:
                inside[me] = 0
            return me

    v: ContextVar[int] = ContextVar("v")
    async with running() as system:
        refs = [system.spawn(Careful, mailbox_capacity=rng.choice([2, 8, None])) for _ in range(8)]

        async def send() -> None:
            for _ in range(40):
                ref = rng.choice(refs)
                if rng.random() < 0.5:
                    assert await ref.ask(2) == ref.address.actor_id
                else:
                    await ref.tell(2)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(send)
    assert all(count == 0 for count in inside.values())
    assert len(inside) == 8
    crashes = [event for event in system.events() if type(event).__name__ == "ActorCrashed"]
    assert crashes == []


async def test_g07_on_start_receive_and_on_stop_never_overlap() -> None:
    inside = 0
    steps = 0

    class Careful(Actor):
        async def step(self) -> None:
            nonlocal inside, steps
            assert inside == 0
            inside += 1
            await go_round(5)
            inside -= 1
            steps += 1

        async def on_start(self) -> None:
            await self.step()

        async def receive(self, message: str) -> None:
            await self.step()
            if message == "boom":
                raise ValueError

        async def on_stop(self) -> None:
            await self.step()

    async with running() as system:
        ref = system.spawn(Careful, name="careful")
        for message in ("a", "boom", "b", "boom", "c"):
            await ref.tell(message)
    # 3 instances start and stop, 5 messages
    assert steps == 11


mark: ContextVar[object] = ContextVar("mark", default="clean")


class Marks(Actor):
    """Say what it sees, and set the value of the message."""

    async def receive(self, message: object) -> object:
        seen = mark.get()
        if isinstance(message, str) and message == "boom":
            mark.set("boom")
            raise ValueError
        if message is not None:
            mark.set(message)
        return seen


async def test_g07_a_variable_set_in_receive_stays_with_its_actor() -> None:
    async with running() as system:
        refs = [system.spawn(Marks) for _ in range(10)]
        for number, ref in enumerate(refs):
            assert await ref.ask(number) == "clean"
        for number, ref in enumerate(refs):
            assert await ref.ask(None) == number, "it keeps its own"
        assert await system.spawn(Marks).ask(None) == "clean"
        assert mark.get() == "clean"


async def test_g07_a_variable_set_in_on_start_stays_with_its_actor() -> None:
    class Sets(Marks):
        async def on_start(self) -> None:
            assert mark.get() == "clean"
            mark.set(self)
            await anyio.lowlevel.checkpoint()

    async with running() as system:
        actors: list[Sets] = []

        def factory() -> Sets:
            actors.append(Sets())
            return actors[-1]

        refs = [system.spawn(factory) for _ in range(5)]
        plain = system.spawn(Marks)
        for ref, actor in zip(refs, actors, strict=True):
            assert await ref.ask(None) is actor
        assert await plain.ask(None) == "clean"


async def test_g07_a_variable_set_without_any_await_stays_with_its_actor() -> None:
    async with running() as system:
        first, second = system.spawn(Marks), system.spawn(Marks)
        await first.ask(None)
        await second.ask(None)
        for number in range(5):
            await first.tell(number)
            await second.tell(None)
        assert await first.ask(None) == 4
        assert await second.ask(None) == "clean"


async def test_g07_a_variable_set_in_a_cancelled_receive_stays_with_its_actor() -> None:
    inside = anyio.Event()
    seen: list[object] = []

    class Stuck(Actor):
        async def receive(self, message: str) -> None:
            mark.set("stuck")
            inside.set()
            await anyio.sleep_forever()

        async def on_stop(self) -> None:
            seen.append(mark.get())

    async with running() as system:
        ref = system.spawn(Stuck)
        await ref.tell("x")
        await inside.wait()
        await system.stop(ref, timeout=0)
        for _ in range(5):
            assert await system.spawn(Marks).ask(None) == "clean"
    assert seen == ["stuck"]


async def test_g07_a_variable_set_in_a_failing_receive_stays_with_its_actor() -> None:
    async with running() as system:
        ref, other = system.spawn(Marks, name="restarts"), system.spawn(Marks)
        await ref.tell("boom")
        assert await other.ask(None) == "clean"
        assert await ref.ask(None) == "boom"


async def test_g07_a_variable_set_in_a_child_is_not_seen_by_its_parents_decision() -> None:
    seen: list[tuple[str, object]] = []

    class Child(Marks):
        async def receive(self, message: object) -> object:
            if message == "look":
                seen.append(("child", mark.get()))
                return None
            return await super().receive(message)

    class Parent(Actor):
        async def receive(self, message: object) -> None:
            # The child fails while this waits for it, so the decision is taken meanwhile.
            child = self.context.spawn_child(Child)
            await child.tell("boom")
            await child.ask("look")

        async def on_child_failure(self, child_ref: ActorRef[Any, Any], exc: Exception) -> SupervisorDecision:
            seen.append(("parent", mark.get()))
            mark.set("parent")
            return SupervisorDecision.RESUME

    async with running() as system:
        await system.spawn(Parent).ask(1)
    assert seen == [("parent", "clean"), ("child", "boom")]


async def test_g07_a_variable_set_in_on_child_failure_is_not_seen_by_the_child() -> None:
    class Parent(Actor):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Marks)

        async def receive(self, message: object) -> Any:
            if message == "child":
                return self.child
            return mark.get()

        async def on_child_failure(self, child_ref: ActorRef[Any, Any], exc: Exception) -> SupervisorDecision:
            assert mark.get() == "clean"
            mark.set("parent")
            return SupervisorDecision.RESUME

    async with running() as system:
        parent = system.spawn(Parent)
        child = await parent.ask("child")
        await child.tell("boom")
        assert await child.ask(None) == "boom"
        assert await parent.ask(None) == "parent"


async def test_g07_a_variable_set_to_an_equal_value_stays_with_its_actor() -> None:
    """Equal is not the same: an empty list of one actor must not become another's."""
    mine: list[int] = []

    class Lists(Actor):
        async def receive(self, message: str) -> object:
            if message == "set":
                mark.set([])
            return mark.get()

    token = mark.set(mine)
    try:
        async with running() as system:
            first, second = system.spawn(Lists), system.spawn(Lists)
            private = await first.ask("set")
            assert private is not mine
            assert await second.ask("get") is mine
            assert await first.ask("get") is private
    finally:
        mark.reset(token)


async def test_g07_a_variable_whose_values_cannot_be_compared() -> None:
    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None  # type: ignore[assignment]  # unhashable, like an array

    token = mark.set(Array())
    try:
        async with running() as system:
            ref = system.spawn(Marks)
            await ref.ask(Array())
            kept = Array()
            await ref.ask(kept)
            assert await ref.ask(None) is kept
    finally:
        mark.reset(token)


async def test_g07_variables_of_the_host_are_there_and_a_proxy_runs_in_the_actors() -> None:
    class Kept(Actor):
        def set(self, value: object) -> None:
            mark.set(value)

        def get(self) -> object:
            return mark.get()

    token = mark.set("host")
    try:
        async with running() as system:
            first, second = system.spawn(Kept).proxy(), system.spawn(Kept).proxy()
            assert await first.get() == "host"
            await first.set("first")
            assert await first.get() == "first"
            assert await second.get() == "host"
            assert mark.get() == "host"
    finally:
        mark.reset(token)
