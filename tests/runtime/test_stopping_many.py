"""An actor, or a system, that stops with many children: idle ones go without a turn of their own, and nobody
can tell.
"""

from __future__ import annotations

import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, ActorTerminated, SystemHooks
from papyra import events as ev
from papyra.testing import explore

from .support import Echo, Turns

CHILDREN = 200


class Busy(Actor):
    """Has mail when it is stopped."""

    done: list[int]

    async def receive(self, message: int) -> None:
        await anyio.lowlevel.checkpoint()
        self.done.append(message)


class Cleaning(Echo):
    """Does something when it stops."""

    cleaned: list[int]

    async def on_stop(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.cleaned.append(self.context.self_ref.address.actor_id)


class Watcher(Actor):
    seen: list[int]

    async def receive(self, message: Any) -> None:
        if isinstance(message, ActorTerminated):
            self.seen.append(message.ref.address.actor_id)
        else:
            await self.context.watch(message)


class Parent(Actor):
    kinds: list[type[Actor]]

    async def on_start(self) -> None:
        for kind in self.kinds:
            self.context.spawn_child(kind)

    async def receive(self, message: Any) -> Any:
        return tuple(self.context.children)


def number(ref: ActorRef[Any, Any]) -> int:
    return ref.address.actor_id


async def scenario(by: str) -> None:
    busy = type("B", (Busy,), {"done": []})
    cleaning = type("C", (Cleaning,), {"cleaned": []})
    watcher = type("W", (Watcher,), {"seen": []})
    # Long rows of idle ones, and the others among them.
    kinds = [busy if n % 31 == 7 else cleaning if n % 23 == 5 else Echo for n in range(CHILDREN)]
    system = ActorSystem()
    async with system:
        watching = system.spawn(watcher)
        top = system.spawn(type("P", (Parent,), {"kinds": kinds}))
        children = await top.ask("children")
        newest_first = [number(child) for child in reversed(children)]
        for child in children:
            await child.ask(-1)
            await watching.tell(child)
        await watching.ask(top)
        mail = [child for child, kind in zip(children, kinds, strict=True) if kind is busy]
        for child in mail:
            await child.tell(number(child))
        if by == "stop":
            await system.stop(top)
            assert [number(ref) for ref in system.refs()] == [number(watching)]
            with pytest.raises(ActorStopped):
                await children[0].tell(1)
            await watching.ask(
                children[0]
            )  # one that has stopped: it hears of that once more, and is through
            assert watcher.seen[: CHILDREN + 1] == [*newest_first, number(top)]
    stopped = [event for event in system.events() if isinstance(event, ev.ActorStopped)]
    order = [event.address["actor_id"] for event in stopped if event.address["actor_id"] != number(watching)]
    assert order == [*newest_first, number(top)]
    assert {event.reason for event in stopped[:CHILDREN]} == {"stopped" if by == "stop" else "shutdown"}
    assert sorted(busy.done) == [-1] * len(mail) + [number(child) for child in mail]
    first = newest_first[-1]
    assert cleaning.cleaned == [child for child in newest_first if kinds[child - first] is cleaning]
    assert system.list_actors() == []


@pytest.mark.parametrize("by", ["stop", "aclose"])
async def test_g09_idle_children_stop_in_their_order_among_the_others(by: str) -> None:
    await scenario(by)


@pytest.mark.parametrize("by", ["stop", "aclose"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_g09_idle_children_stop_in_their_order_whatever_the_interleaving(by: str, loop: Any) -> None:
    explore(scenario, by, seeds=range(20), backend=loop)


async def test_g06_a_system_that_stops_many_idle_actors_lets_other_tasks_go_on() -> None:
    turns = Turns()
    async with anyio.create_task_group() as group:
        system = ActorSystem()
        await system.start()
        refs = [system.spawn(Echo) for _ in range(20_000)]
        await refs[-1].ask(1)
        group.start_soon(turns.run)
        await system.aclose()
        group.cancel_scope.cancel()
    assert turns.count > 20  # 40 ms of work, a pause each half a millisecond


async def test_g06_a_slow_hook_lets_other_tasks_go_on_between_the_ends_of_idle_actors() -> None:
    turns = Turns()
    seen: list[int] = []  # the turn in which each end was reported

    def on_event(event: ev.ActorEvent) -> None:
        if isinstance(event, ev.ActorStopped):
            seen.append(turns.count)
            time.sleep(0.001)

    async with anyio.create_task_group() as group:
        system = ActorSystem(hooks=SystemHooks(on_event=on_event))
        await system.start()
        refs = [system.spawn(Echo) for _ in range(CHILDREN)]
        await refs[-1].ask(1)
        group.start_soon(turns.run)
        await system.aclose()
        group.cancel_scope.cancel()
    assert len(seen) == CHILDREN
    settled = seen[CHILDREN // 2 :]  # until then the worker learns that it must look at the clock each time
    # There may be two workers, and trio goes on in any order.
    assert max(settled.count(turn) for turn in settled) < 10


@pytest.mark.parametrize("by", ["stop", "aclose"])
async def test_g08_an_on_stop_that_cannot_even_be_looked_up_keeps_nobody_from_stopping(
    by: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Echo):
        @property
        def on_stop(self) -> Any:
            raise OSError("can't")

    watcher = type("W", (Watcher,), {"seen": []})
    system = ActorSystem()
    async with system:
        watching = system.spawn(watcher)
        top = system.spawn(type("P", (Parent,), {"kinds": [Echo, Broken, Echo]}))
        children = await top.ask("children")
        await children[1].ask(1)
        await watching.tell(children[1])
        await watching.ask(top)
        if by == "stop":
            await system.stop(top)
            await watching.ask(children[1])  # it hears of that once more, and is through
            assert watcher.seen[:2] == [number(children[1]), number(top)]
    stopped = [event.address["actor_id"] for event in system.events() if isinstance(event, ev.ActorStopped)]
    expected = [*(number(child) for child in reversed(children)), number(top)]
    assert [actor for actor in stopped if actor != number(watching)] == expected
    assert caplog.text.count("OSError: can't") == 1
