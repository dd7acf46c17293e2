"""H5: what user code leaves behind in a task of the runtime reaches no other code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from papyra import Actor, ActorSystem, SupervisorDecision
from papyra.instruments import Instrument
from papyra.testing import ManualClock

from .support import RESTART, Echo, Gated, Runs, boom, go_round, nothing, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Leave = Callable[..., Awaitable[None]]


async def leave_scope(*_: object) -> None:
    anyio.CancelScope().__enter__()


async def leave_group(*_: object) -> None:
    group = await anyio.create_task_group().__aenter__()
    group.start_soon(anyio.sleep_forever)


async def leave_expired_scope(*_: object) -> None:
    anyio.move_on_after(0).__enter__()
    await anyio.sleep_forever()


leaving = pytest.mark.parametrize("leave", [leave_scope, leave_group, leave_expired_scope])


def with_hook(name: str, leave: Leave) -> type[Runs]:
    return type("Leaves", (Runs,), {name: leave})


async def in_message(system: ActorSystem, leave: Leave) -> None:
    with pytest.raises(RuntimeError, match="own_task"):
        await system.spawn(Runs).ask(leave)
    failing = system.spawn(Runs)
    await failing.tell(leave)
    await wait_until(lambda: not failing.is_alive())


async def in_message_of_a_child(system: ActorSystem, leave: Leave) -> None:
    """The failure waits for a parent's decision, which awaits."""

    class Decides(Runs):
        async def on_child_failure(self, child_ref: Any, exc: Exception) -> SupervisorDecision:
            await go_round(2)
            return SupervisorDecision.RESTART

    async def ask_child(actor: Any) -> str:
        child = actor.context.spawn_child(Runs)
        with pytest.raises(RuntimeError, match="own_task"):
            await child.ask(leave)
        return str(await child.ask(nothing))

    assert await system.spawn(Decides).ask(ask_child) == "answer"


async def in_on_start(system: ActorSystem, leave: Leave) -> None:
    failing = system.spawn(with_hook("on_start", leave), policy=RESTART)
    await wait_until(lambda: not failing.is_alive())


async def in_on_stop(system: ActorSystem, leave: Leave) -> None:
    kind = with_hook("on_stop", leave)
    await system.spawn(kind).stop()
    await system.spawn(kind).stop(timeout=0)
    with pytest.raises(ValueError, match="boom"):
        await system.spawn(kind, policy=RESTART).ask(boom)  # its next life ends with the system
    with pytest.raises(ValueError, match="boom"):
        await system.spawn(kind).ask(boom)


async def in_on_child_failure(system: ActorSystem, leave: Leave) -> None:
    async def tell_child(actor: Any) -> None:
        await actor.context.spawn_child(Runs).tell(boom)

    async def ask_child(actor: Any) -> None:
        with pytest.raises(ValueError, match="boom"):
            await actor.context.spawn_child(Runs).ask(boom)

    for way in (tell_child, ask_child):
        await system.spawn(with_hook("on_child_failure", leave)).ask(way)
    await wait_until(lambda: not system.refs_by_type("Runs"))


async def in_background(system: ActorSystem, leave: Leave) -> None:
    def soon(actor: Any) -> None:
        actor.context.start_soon(leave)

    def pipe(actor: Any) -> None:
        actor.context.pipe_to_self(leave(), lambda _: None)

    def tick(actor: Any) -> None:
        actor.context.timers.start_single("key", 0, call=leave)

    for begin in (soon, pipe, tick):
        failing = system.spawn(Runs)
        await failing.ask(begin)
        await wait_until(lambda failing=failing: not failing.is_alive())


async def in_a_portals_call(system: ActorSystem, leave: Leave) -> None:
    portal = system.portal()

    def call() -> None:
        with pytest.raises(RuntimeError, match="left a cancel scope"):
            portal.call(leave)

    await anyio.to_thread.run_sync(call)


@leaving
@pytest.mark.parametrize(
    "place",
    [
        in_message,
        in_message_of_a_child,
        in_on_start,
        in_on_stop,
        in_on_child_failure,
        in_background,
        in_a_portals_call,
    ],
)
async def test_h05_a_scope_left_open_hurts_its_own_actor_alone(
    place: Callable[[ActorSystem, Leave], Awaitable[None]], leave: Leave
) -> None:
    async with running() as system:
        bystander = system.spawn(Echo)
        await place(system, leave)
        assert await bystander.ask("alive") == "alive"
    assert system.state == "closed"


@leaving
async def test_h02_a_hook_that_leaves_a_scope_open_is_counted_and_called_again(leave: Leave) -> None:
    class Hooks:
        async def on_event(self, event: object) -> None:
            await leave()

    async with running(hooks=Hooks()) as system:
        for n in range(3):
            assert await system.spawn(Echo).ask(n) == n
        await wait_until(lambda: system.control_panel()["hooks"][0]["failed"] == 3)


@leaving
async def test_h02_an_instrument_whose_run_leaves_a_scope_open_is_counted(leave: Leave) -> None:
    class Runner(Instrument):
        async def run(self, system: ActorSystem) -> None:
            await leave()

    async with running(instruments=[Runner()]) as system:
        await wait_until(lambda: system.control_panel()["instruments"][0]["failed"] == 1)
        assert await system.spawn(Echo).ask(1) == 1


# -- the count of cancellations


def cancel(_actor: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def swallow(actor: Any) -> None:
    cancel(actor)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)


async def count(_actor: Any) -> int:
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("leave", [cancel, swallow])
@pytest.mark.parametrize("own_task", [False, True])
async def test_h05_an_actor_that_cancels_its_task_cancels_no_other_actor(leave: Any, own_task: bool) -> None:
    async with running() as system:
        first = system.spawn(type("First", (Runs,), {"own_task": own_task}))
        others = [system.spawn(Runs) for _ in range(3)]
        for ref in (first, *others):
            await ref.ask(nothing)
        counts: list[int] = []
        async with anyio.create_task_group() as group:
            group.start_soon(first.ask, leave)

            async def ask(ref: Any) -> None:
                counts.append(await ref.ask(count))

            for ref in others:
                group.start_soon(ask, ref)
        assert counts == [0, 0, 0]
        if leave is swallow:
            assert await first.ask(nothing) == "answer"


# -- an actor that was left behind in its on_stop


class Stubborn(Actor):
    """Begins something in its on_stop, which ignores every cancellation."""

    def __init__(self, begin: Callable[[Any], object], gate: anyio.Event) -> None:
        self.begin = begin
        self.gate = gate

    async def on_stop(self) -> None:
        self.begin(self)
        with anyio.CancelScope(shield=True):
            await self.gate.wait()


def begins(gate: anyio.Event) -> list[Callable[[Any], object]]:
    async def work() -> None:
        with anyio.CancelScope(shield=True):
            await gate.wait()

    return [
        lambda actor: actor.context.timers.start_single("key", 100, send="tick"),
        lambda actor: actor.context.timers.start_fixed_rate("key", 100, send="tick"),
        lambda actor: actor.context.set_receive_timeout(100, send="tick"),
        lambda actor: actor.context.start_soon(work),
        lambda actor: actor.context.pipe_to_self(work, lambda _: None),
    ]


@pytest.mark.parametrize("number", range(5))
async def test_h01_what_an_abandoned_on_stop_began_ends_with_its_actor(number: int) -> None:
    clock, ended, gate = ManualClock(), anyio.Event(), anyio.Event()
    async with running(time_fn=clock) as system:
        ref, bystander = system.spawn(Stubborn, begins(ended)[number], gate), system.spawn(Echo)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: ref.stop(timeout=0))
            for _ in range(10):  # it is cancelled twice, and then left behind
                await go_round(5)
                clock.advance(1)
        assert not ref.is_alive()
        clock.advance(200)
        ended.set()
        await go_round()
        assert await bystander.ask("alive") == "alive"
        gate.set()


# -- background work


@pytest.mark.parametrize("way", ["start_soon", "pipe_to_self"])
async def test_g10_a_close_in_background_work_is_not_forced_by_the_end_of_that_work(way: str) -> None:
    gated = Gated()
    async with running() as system:
        other = system.spawn(lambda: gated)
        for n in range(3):
            await other.tell(n)

        def close(actor: Any) -> None:
            if way == "start_soon":
                actor.context.start_soon(system.aclose)
            else:
                actor.context.pipe_to_self(system.aclose, lambda _: None)

        await system.spawn(Runs).tell(close)
        await wait_until(lambda: len(system.list_actors()) == 1)  # the newest one has stopped
        gated.gate.set()
    assert gated.got == [0, 1, 2]
    assert system.dead_letters.count == 0


async def test_h05_a_system_in_background_work_of_an_actor_is_not_that_work() -> None:
    def later(actor: Any) -> Any:
        handle = actor.context.reply_later()
        handle.send("later")
        return handle.later

    async def nested() -> Any:
        async with ActorSystem() as inner:
            return await inner.spawn(Runs).ask(later)

    async with running() as system:
        replies: list[Any] = []
        await system.spawn(Runs).ask(
            lambda actor: actor.context.pipe_to_self(nested, replies.append) and None
        )
        await wait_until(lambda: replies)
        assert replies == ["later"]
