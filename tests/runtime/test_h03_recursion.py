"""H3: a `RecursionError` at any depth, at any call into the API, harms the caller alone.

Each call is made with 0, 1, 2, ... frames left before Python's limit. Afterwards every actor answers, and the
close returns.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorStopped, ActorSystem, Strategy, SupervisionPolicy, ask_all

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.anyio,
    # A coroutine whose first step has no frame left is closed by Python, which reports it as never awaited.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
]

FRAMES_LEFT = (*range(1, 40), *range(40, 80, 5))
EVERY = [pytest.param(4, id="some_depths"), pytest.param(1, id="all_depths", marks=pytest.mark.sweep)]
"""Of the depths, each call gets every fourth, the next call the ones beside it; the sweep has them all."""
ROOM = 160
"""Frames above the caller in these tests: few, so that reaching the limit is quick."""


class Echo(Actor):
    async def receive(self, message: Any) -> Any:
        return message


class Owes(Actor):
    async def receive(self, message: Any) -> Any:
        message.append(self.context.reply_later())
        return message[-1].later


async def deeper(frames: int, call: Callable[[], Any]) -> Any:
    """Make a call ``frames`` frames deeper, and await what it returns."""
    if frames > 0:
        return await deeper(frames - 1, call)
    result = call()
    return await result if hasattr(result, "__await__") else result


def depth() -> int:
    frame, count = sys._getframe(1), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count


async def with_frames_left(left: int, call: Callable[[], Any]) -> type[BaseException] | None:
    """Make a call with ``left`` frames left. Return the class of what it raises."""
    before = sys.getrecursionlimit()
    here = depth()
    try:
        sys.setrecursionlimit(here + ROOM)
        with anyio.move_on_after(0.02):
            await deeper(ROOM - left - 2, call)
    except BaseException as error:
        if isinstance(error, anyio.get_cancelled_exc_class()):
            raise
        return type(error)
    finally:
        sys.setrecursionlimit(before)
    return None


class World:
    """A system with some actors, and calls that are tried on it."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system

    async def prepare(self) -> None:
        self.echo = self.system.spawn(Echo, name="echo", policy=SupervisionPolicy(Strategy.RESTART, 10**6))
        self.other = self.system.spawn(Echo)
        self.dead = self.system.spawn(Echo)
        await self.system.stop(self.dead)

    async def check(self) -> None:
        with anyio.fail_after(5):
            assert await self.echo.ask(1) == 1
            assert await self.other.ask(2) == 2
            assert await self.system.spawn(Echo).ask(3) == 3


def outside(world: World) -> dict[str, Callable[[], Any]]:
    """Return the calls that code outside of actors makes."""
    system, echo, dead = world.system, world.echo, world.dead
    return {
        "tell": lambda: echo.tell(1),
        "tell a dead actor": lambda: dead.tell(1),
        "tell_nowait": lambda: echo.tell_nowait(1),
        "ask": lambda: echo.ask(1),
        "ask with a time-out": lambda: echo.ask(1, timeout=60),
        "ask a dead actor": lambda: dead.ask(1),
        "request": lambda: echo.request(1).__await__(),
        "ask_all": lambda: ask_all(echo.request(1), world.other.request(1, timeout=60)),
        "proxy": lambda: echo.proxy().context,
        "proxy call": lambda: echo.proxy().receive(1),
        "defer": lambda: echo.proxy().receive.defer(1),
        "spawn": lambda: system.spawn(Echo),
        "spawn_or_get": lambda: system.spawn_or_get(Echo, name="echo"),
        "broadcast": lambda: system.broadcast(1),
        "statistics": system.statistics,
        "sample": system.sample,
        "audit": system.audit,
        "control_panel": system.control_panel,
        "list_actors": system.list_actors,
        "tree": system.tree,
        "events": system.events,
        "busy": system.busy,
        "refs_by_type": lambda: system.refs_by_type("Echo"),
        "wait_for_event": lambda: system.wait_for_event(lambda _: True),
        "wait for an event that never comes": lambda: system.wait_for_event(lambda _: False, timeout=0.001),
        "portal": system.portal,
        "flush": system.flush,
        "start": system.start,
        "repr": lambda: repr((system, echo, dead)),
    }


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("every", EVERY)
async def test_h03_a_recursion_error_outside_harms_the_caller_alone(part: int, every: int) -> None:
    with anyio.fail_after(100):
        async with ActorSystem(shutdown_timeout=5) as system:
            world = World(system)
            await world.prepare()
            calls = outside(world)
            raised = set()
            for number, name in enumerate(list(calls)[part::3]):
                for left in FRAMES_LEFT[number % every :: every]:
                    error = await with_frames_left(left, calls[name])
                    assert error in (None, RecursionError, ActorStopped, TimeoutError), (name, left)
                    raised.add(error)
                    if left % 5 == 0:
                        await world.check()
                await world.check()
            assert RecursionError in raised
            assert None in raised
        assert system.state == "closed"


async def test_h03_a_recursion_error_near_a_stop_harms_the_caller_alone() -> None:
    with anyio.fail_after(100):
        async with ActorSystem(shutdown_timeout=5) as system:
            for stop in (
                lambda ref: system.stop(ref),
                lambda ref: system.stop(ref, timeout=0.01),
                lambda ref: ref.stop(timeout=60),
            ):
                for left in FRAMES_LEFT:
                    ref = system.spawn(Echo)
                    await ref.ask(1)
                    error = await with_frames_left(left, partial(stop, ref))
                    assert error in (None, RecursionError), left
                    with anyio.fail_after(5):
                        if ref.is_alive():
                            assert await ref.ask(1) == 1
                            assert error is RecursionError
                        await system.stop(ref)
            assert system.refs(alive_only=False) == []


def inside(actor: Actor, other: Any, dead: Any) -> dict[str, Callable[[], Any]]:
    """Return the calls that an actor makes."""
    context = actor.context
    mine = context.self_ref

    async def nothing() -> None:
        pass

    return {
        "tell itself": lambda: mine.tell(1),
        "ask": lambda: other.ask(1),
        "spawn_child": lambda: context.spawn_child(Echo),
        "spawn_child by a function": lambda: context.spawn_child(lambda: Echo()),
        "watch": lambda: context.watch(other),
        "watch a dead actor": lambda: context.watch(dead),
        "unwatch": lambda: context.unwatch(other),
        "children": lambda: list(context.children),
        "start a timer": lambda: context.timers.start_single("key", 0.01, send=1),
        "start a timer again": lambda: context.timers.start_fixed_delay("key", 0.01, call=lambda: None),
        "cancel a timer": lambda: context.timers.cancel("key"),
        "set a receive timeout": lambda: context.set_receive_timeout(0.01, send=1),
        "end a receive timeout": lambda: context.set_receive_timeout(None),
        "pipe_to_self": lambda: context.pipe_to_self(nothing, lambda _: None),
        "start_soon": lambda: context.start_soon(nothing),
        "run_blocking": lambda: context.run_blocking(int),
        "become": lambda: actor.become(Answers.receive.__get__(actor)),
        "unbecome": actor.unbecome,
        "unstash_all": context.unstash_all,
        "audit": context.system.audit,
        "broadcast": lambda: context.system.broadcast(1, "Nobody"),
    }


class Answers(Actor):
    """Makes a call with few frames left, and answers what that raised."""

    calls: dict[str, Callable[[], Any]]

    async def receive(self, message: Any) -> Any:
        if type(message) is tuple:
            name, left = message
            return await with_frames_left(left, self.calls[name])
        if type(message) is list:
            self.calls = inside(self, *message)
            return list(self.calls)
        return message


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("every", EVERY)
async def test_h03_a_recursion_error_in_an_actor_harms_its_call_alone(
    part: int, every: int, caplog: pytest.LogCaptureFixture
) -> None:
    with anyio.fail_after(100):
        async with ActorSystem(shutdown_timeout=5) as system:
            world = World(system)
            await world.prepare()
            actor = system.spawn(Answers, mailbox_capacity=None)
            raised = set()
            for number, name in enumerate((await actor.ask([world.other, world.dead]))[part::3]):
                for left in FRAMES_LEFT[number % every :: every]:
                    error = await actor.ask((name, left), timeout=5)
                    assert error in (None, RecursionError), (name, left)
                    raised.add(error)
                    if left % 5 == 0:
                        assert await actor.ask(3, timeout=5) == 3
                        await world.check()
            assert raised == {None, RecursionError}
        assert system.state == "closed"
        assert "left behind" not in caplog.text
        assert "closing waits" not in caplog.text


async def test_h03_a_reply_that_was_not_given_can_be_given_again() -> None:
    class Owes(Actor):
        async def receive(self, message: Any) -> Any:
            owed.append(self.context.reply_later())
            return owed[-1].later

    owed: list[Any] = []
    replies: list[object] = []
    with anyio.fail_after(60):
        async with ActorSystem() as system, anyio.create_task_group() as asks:
            owes = system.spawn(Owes)

            async def ask() -> None:
                replies.append(await owes.ask(1))

            for count, left in enumerate(FRAMES_LEFT, 1):
                asks.start_soon(ask)
                while len(owed) < count:
                    await anyio.lowlevel.checkpoint()
                error = await with_frames_left(left, lambda: owed[-1].send(1))
                assert error in (None, RecursionError)
                assert error is None or owed[-1].send(1) or owed[-1].done
                while len(replies) < count:
                    await anyio.lowlevel.checkpoint()


def test_h03_in_debug_mode_a_recursion_error_costs_no_worker() -> None:
    """asyncio's debug mode, however it was turned on, notes the stack of each call that it schedules."""

    async def main() -> None:
        async with ActorSystem(shutdown_timeout=2) as system:
            echo = system.spawn(Echo)
            for left in range(8, 24):
                assert await with_frames_left(left, lambda: echo.ask(1)) in (None, RecursionError)
                assert await with_frames_left(left, lambda: system.spawn(Echo)) in (None, RecursionError)
                assert await echo.ask(2, timeout=5) == 2
            assert system._core is not None
            runtime = system._core.rt
            await anyio.wait_all_tasks_blocked()
            assert len(runtime.workers) == len(runtime.parked)

    anyio.run(main, backend_options={"debug": True})
