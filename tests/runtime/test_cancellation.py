"""Cancellation at every await of the public API, with the actor in every state.

Guarantees 1, 3, 9, 11 and 12.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import ActorRef, ActorStopped, ActorSystem, Backoff, PapyraError, Strategy, SupervisionPolicy
from papyra import events as ev

from .support import Runs, boom, go_round, nothing, running, stuck, wait_until


class Slow(Runs):
    """Waits for the gates of its test in on_start and on_stop."""

    gate: anyio.Event
    where: str
    label = "plain"

    async def on_start(self) -> None:
        if self.where == "starting":
            await self.gate.wait()

    async def on_stop(self) -> None:
        if self.where in ("stopping", "restarting"):
            await self.gate.wait()


STATES = ["idle", "busy", "full", "starting", "stopping", "restarting", "backing off", "stopped"]


@contextlib.asynccontextmanager
async def an_actor(system: ActorSystem, state: str) -> AsyncIterator[tuple[ActorRef[Any, Any], anyio.Event]]:
    """Bring an actor into a state; the event lets it go on."""
    gate = anyio.Event()
    kind: type[Slow] = type("Kind", (Slow,), {"gate": gate, "where": state})
    backoff = Backoff(0.02, 0.02) if state == "backing off" else None
    policy = SupervisionPolicy(Strategy.RESTART, backoff=backoff)
    ref = system.spawn(kind, policy=policy, mailbox_capacity=1 if state == "full" else 8)

    async def wait(_actor: Any) -> None:
        await gate.wait()

    if state != "starting":
        await ref.ask(nothing)
    if state in ("busy", "full"):
        await ref.tell(wait)
        await go_round()
    if state == "full":
        await ref.tell(nothing)
    async with anyio.create_task_group() as group:
        if state == "stopping":
            group.start_soon(system.stop, ref)
            await wait_until(lambda: not ref.is_alive())
        elif state in ("restarting", "backing off"):
            await ref.tell(boom)
            await wait_until(lambda: any(isinstance(event, ev.ActorCrashed) for event in system.events()))
            await go_round()
        elif state == "stopped":
            await system.stop(ref)
        yield ref, gate
        gate.set()


CALLS: dict[str, Callable[[ActorSystem, ActorRef[Any, Any]], Awaitable[Any]]] = {
    "tell": lambda _system, ref: ref.tell(nothing),
    "ask": lambda _system, ref: ref.ask(nothing),
    "ask with a timeout": lambda _system, ref: ref.ask(nothing, timeout=60),
    "call": lambda _system, ref: ref.proxy().receive(nothing),
    "defer": lambda _system, ref: ref.proxy().receive.defer(nothing),
    "read": lambda _system, ref: ref.proxy().label,
    "set": lambda _system, ref: ref.proxy().label.set("new"),
    "broadcast": lambda system, _ref: system.broadcast(nothing),
    "stop": lambda system, ref: system.stop(ref),
    "stop with a timeout": lambda system, ref: system.stop(ref, timeout=60),
    "stop_all": lambda system, _ref: system.stop_all(),
    "flush": lambda system, _ref: system.flush(),
    "compact": lambda system, _ref: system.compact(),
    "wait_for_event": lambda system, _ref: system.wait_for_event(lambda _event: False, timeout=60),
    "aclose": lambda system, _ref: system.aclose(),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("call", CALLS)
async def test_g12_every_call_can_be_cancelled_in_every_state_and_nothing_hangs(
    call: str, state: str
) -> None:
    """Cancelled after 0, 1, 2 ... rounds of the loop; after that the system works and closes."""
    for rounds in (0, 1, 3):
        async with running(shutdown_timeout=60) as system, an_actor(system, state) as (ref, gate):
            other = system.spawn(Runs)

            async def act(system: ActorSystem = system, ref: ActorRef[Any, Any] = ref) -> None:
                with contextlib.suppress(ActorStopped):
                    await CALLS[call](system, ref)

            async with anyio.create_task_group() as group:
                group.start_soon(act)
                await go_round(rounds)
                if call == "aclose":
                    gate.set()
                group.cancel_scope.cancel()
            if call not in ("stop_all", "aclose"):
                assert await other.ask(nothing) == "answer"
            gate.set()
            if state != "stopping" and "stop" not in call and state != "stopped" and call != "aclose":
                assert await ref.ask(nothing) == "answer"
        assert system.list_actors() == []
        started = [event for event in system.events() if isinstance(event, ev.ActorStarted)]
        stopped = [event for event in system.events() if isinstance(event, ev.ActorStopped)]
        addresses = [event.address["actor_id"] for event in stopped]
        assert sorted(addresses) == sorted(set(addresses)), "each stops once"
        assert len(started) <= len(stopped)


@pytest.mark.parametrize("state", STATES)
async def test_g11_the_host_can_be_cancelled_in_every_state(state: str) -> None:
    stops: list[str] = []

    class Noted(Runs):
        async def on_stop(self) -> None:
            await go_round(3)
            stops.append("other")

    stuck_in_on_stop = state in ("stopping", "restarting")  # it uses up the time that the other one needs
    with anyio.fail_after(50):
        with anyio.CancelScope() as scope:
            async with ActorSystem(shutdown_timeout=1 if stuck_in_on_stop else 60) as system:
                other = system.spawn(Noted)
                await other.ask(nothing)
                async with an_actor(system, state):
                    scope.cancel()
                    await anyio.sleep_forever()
        assert scope.cancelled_caught
    assert stops == ["other"]
    ids = [event.address["actor_id"] for event in system.events() if isinstance(event, ev.ActorStopped)]
    assert sorted(ids) == [1, 2]


@pytest.mark.parametrize("state", STATES)
async def test_g09_a_stop_with_a_timeout_ends_every_state(state: str) -> None:
    async with running(shutdown_timeout=0.2) as system, an_actor(system, state) as (ref, _gate):
        await system.stop(ref, timeout=0.01)
        assert not ref.is_alive()
        assert system.ref_for(ref.address) is None
        with pytest.raises(ActorStopped):
            await ref.ask(nothing)


@pytest.mark.parametrize("state", STATES)
async def test_g03_asks_end_in_every_state_when_the_system_closes(state: str) -> None:
    ended: list[str] = []

    async def ask(ref: ActorRef[Any, Any]) -> None:
        try:
            ended.append(await ref.ask(nothing))
        except ActorStopped:
            ended.append("ActorStopped")

    with anyio.fail_after(5):
        async with (
            anyio.create_task_group() as group,
            ActorSystem(shutdown_timeout=0.05) as system,
            an_actor(system, state) as (ref, _gate),
        ):
            for _ in range(3):
                group.start_soon(ask, ref)
            await go_round()
            await system.aclose()
    assert len(ended) == 3


@pytest.mark.parametrize("where", ["ask", "tell", "stop", "thread", "group", "sleep", "event"])
async def test_g09_a_stuck_receive_can_be_cancelled_wherever_it_waits(where: str) -> None:
    """And the actor's own clean-up runs, with awaits behind a shield."""
    inside = anyio.Event()
    gate = anyio.Event()
    cleaned: list[str] = []

    async def wait(_actor: Any) -> None:
        await gate.wait()

    async def stuck(actor: Runs) -> None:
        try:
            inside.set()
            if where == "ask":
                await blocked.ask(nothing)
            elif where == "tell":
                while True:
                    await blocked.tell(nothing)
            elif where == "stop":
                await actor.context.stop(blocked)
            elif where == "thread":
                await anyio.to_thread.run_sync(released.wait, 5, abandon_on_cancel=True)
            elif where == "group":
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep_forever)
            elif where == "event":
                await actor.context.system.wait_for_event(lambda _event: False, timeout=60)
            else:
                await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await go_round(3)
                cleaned.append(where)

    import threading

    released = threading.Event()
    async with running(shutdown_timeout=1) as system:
        blocked = system.spawn(Runs, mailbox_capacity=1)
        await blocked.tell(wait)
        ref = system.spawn(Runs)
        await ref.tell(stuck)
        await inside.wait()
        await go_round()
        await system.stop(ref, timeout=0)
        assert cleaned == [where]
        gate.set()
        released.set()
        if where != "stop":
            assert await blocked.ask(nothing) == "answer"


async def test_g12_cancelling_one_actor_cancels_no_other() -> None:
    inside = 0
    release = anyio.Event()
    finished: list[int] = []

    def job(number: int) -> Callable[[Any], Awaitable[None]]:
        async def run(_actor: Any) -> None:
            nonlocal inside
            inside += 1
            await release.wait()
            finished.append(number)

        return run

    async with running() as system:
        refs = [system.spawn(Runs) for _ in range(20)]
        for number, ref in enumerate(refs):
            await ref.tell(job(number))
        await wait_until(lambda: inside == 20)
        async with anyio.create_task_group() as group:
            for ref in refs[::2]:
                group.start_soon(partial(system.stop, ref, timeout=0))
        release.set()
        for ref in refs[1::2]:
            assert await ref.ask(nothing) == "answer"
    assert sorted(finished) == list(range(1, 20, 2))


async def test_g12_a_cancelled_message_is_the_last_one_of_its_actor_and_of_no_other() -> None:
    """The worker that was cancelled goes on with others, as if nothing had been."""
    async with running() as system:
        other = system.spawn(Runs)

        for _ in range(20):
            ref = system.spawn(Runs)
            await ref.tell(stuck)
            await ref.tell(nothing)
            await go_round(3)
            await system.stop(ref, timeout=0)
            assert await other.ask(nothing) == "answer"
            assert await system.spawn(Runs).ask(nothing) == "answer"


async def test_g12_a_receive_that_ends_while_it_is_being_cancelled() -> None:
    """The cancellation comes when the code needs no more await: nothing of it reaches the next one."""
    gate = anyio.Event()

    async def wait(_actor: Any) -> str:
        await gate.wait()
        return "finished"

    answers: list[str] = []
    async with running() as system:
        ref, other = system.spawn(Runs), system.spawn(Runs)

        async def ask() -> None:
            with contextlib.suppress(ActorStopped):
                answers.append(await ref.ask(wait))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await go_round()
            group.start_soon(partial(system.stop, ref, timeout=0))
            gate.set()
        assert answers in ([], ["finished"])
        for _ in range(5):
            assert await other.ask(nothing) == "answer"


@pytest.mark.parametrize("seed", range(10))
async def test_g12_random_cancellation_of_everything_leaves_a_working_system(seed: int) -> None:
    rng = random.Random(seed)

    class Chaotic(Runs):
        async def on_start(self) -> None:
            if rng.random() < 0.3:
                await go_round(rng.randrange(5))

        async def on_stop(self) -> None:
            if rng.random() < 0.3:
                await go_round(rng.randrange(5))

    def job(depth: int) -> Callable[[Any], Awaitable[Any]]:
        async def run(actor: Runs) -> Any:
            choice = rng.randrange(6)
            if choice == 0:
                raise ValueError("chaos")
            if choice == 1:
                await go_round(rng.randrange(5))
            elif choice == 2 and depth:
                with contextlib.suppress(PapyraError):
                    return await rng.choice(refs).ask(job(depth - 1))
            elif choice == 3 and depth:
                with contextlib.suppress(PapyraError):
                    await actor.context.spawn_child(Chaotic).ask(job(depth - 1))
            elif choice == 4 and depth:
                with anyio.move_on_after(0.001), contextlib.suppress(PapyraError):
                    await rng.choice(refs).tell(job(depth - 1))
            return "done"

        return run

    async def disturb() -> None:
        with anyio.move_on_after(rng.choice([0, 0.001, 0.01])), contextlib.suppress(PapyraError, ValueError):
            index = rng.randrange(len(refs))
            choice = rng.randrange(4)
            if choice == 0:
                ref, refs[index] = refs[index], spawn()
                await system.stop(ref, timeout=rng.choice([0, 0.001, 1]))
            elif choice == 1:
                await refs[index].tell(job(3))
            else:
                await refs[index].ask(job(3), timeout=rng.choice([None, 0.001, 1]))

    def spawn() -> ActorRef[Any, Any]:
        policy = SupervisionPolicy(rng.choice(list(Strategy)), max_restarts=100)
        return system.spawn(Chaotic, policy=policy, mailbox_capacity=rng.choice([1, 2, None]))

    async with running(shutdown_timeout=5) as system:
        refs = [spawn() for _ in range(6)]
        async with anyio.create_task_group() as group:
            for _ in range(150):
                group.start_soon(disturb)
                if rng.random() < 0.3:
                    await anyio.lowlevel.checkpoint()
        assert await system.spawn(Runs).ask(nothing) == "answer"
        await system.stop_all()
        assert system.list_actors() == []
    stopped = [event.address["actor_id"] for event in system.events() if isinstance(event, ev.ActorStopped)]
    assert len(stopped) == len(set(stopped)) == max(stopped)


@pytest.mark.parametrize("force", ["stop", "cancel", "cancel aclose"])
@pytest.mark.parametrize("how", ["at the same time", "swallowed", "swallowed in a restart"])
async def test_g11_on_stop_runs_whole_after_an_on_start_that_ends_all_the_same(force: str, how: str) -> None:
    """The stop is forced during `on_start`, which returns: `on_stop` follows soon, and is not cut off."""
    gate, inside = anyio.Event(), anyio.Event()
    log: list[str] = []
    instances = 0

    class Stubborn(Runs):
        async def on_start(self) -> None:
            nonlocal instances
            instances += 1
            if how == "swallowed in a restart" and instances == 1:
                return
            inside.set()
            try:
                await gate.wait()
            except anyio.get_cancelled_exc_class():
                if how == "at the same time":
                    raise
            log.append("on_start")

        async def on_stop(self) -> None:
            await go_round()
            log.append("on_stop")

    with anyio.fail_after(50), anyio.CancelScope() as scope:
        async with ActorSystem(shutdown_timeout=60) as system:
            ref = system.spawn(Stubborn, name="stubborn")
            if how == "swallowed in a restart":
                await ref.tell(boom)
            await inside.wait()
            log.clear()
            if how == "at the same time":
                gate.set()
            if force == "stop":
                await system.stop(ref, timeout=0)
            elif force == "cancel":
                scope.cancel()
                await anyio.lowlevel.checkpoint()
            else:
                with anyio.CancelScope() as inner:
                    inner.cancel()
                    await system.aclose()
    if force == "stop" and how == "at the same time":
        return  # its on_stop may be what still ran when the time was over
    assert log[-1:] == ["on_stop"]
    assert log.count("on_stop") == 1
    if how != "at the same time":
        assert log == ["on_start", "on_stop"]


async def test_a_loop_of_flushes_lets_other_tasks_run() -> None:
    async with running() as system, anyio.create_task_group() as group:
        await system.flush()  # from here on there is nothing to wait for
        ran = anyio.Event()

        async def sets() -> None:
            ran.set()

        group.start_soon(sets)
        for _ in range(1_000):
            await system.flush()
            if ran.is_set():
                break
        assert ran.is_set()
