"""H12: nothing that a user may do n times costs more than O(log n) each.

Each scenario is run with n and with 4n. It does not compare times but the number of opcodes that Python
executes, so a loop over n things in each of n steps shows, on any machine.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from time import process_time
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest

from papyra import (
    Actor,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    GroupPolicy,
    MailboxFull,
    RestartStrategy,
    SystemHooks,
    ask_all,
)
from papyra.events import ActorStarted
from papyra_contrib.eventstream import EventStream
from papyra_contrib.receptionist import Receptionist, ServiceKey

MOST = 4.6
"""The most that four times as many may cost; a quadratic part would make it 16."""


class Opcodes:
    """Counts the opcodes of all code that runs in this thread, except those of the caller."""

    def __init__(self) -> None:
        self.count = 0

    def _trace(self, frame: Any, event: str, _arg: object) -> Any:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            self.count += 1
        return self._trace

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


class Idle(Actor):
    async def receive(self, message: Any) -> Any:
        return message


class Does(Actor):
    """Runs a function of the actor in the actor."""

    async def receive(self, message: Callable[[Any], Any]) -> Any:
        result = message(self)
        return await result if hasattr(result, "__await__") else result


class Waits(Actor):
    async def receive(self, message: Any) -> Any:
        await anyio.sleep_forever()


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - any state of any actor, and few looks: their opcodes count
            await anyio.sleep(0.003)


SCENARIOS: dict[str, Callable[[ActorSystem, int], AsyncIterator[None]]] = {}


def scenario(function: Any) -> Any:
    """Register a scenario. What it does between its two yields is measured."""
    SCENARIOS[function.__name__] = function
    return function


@scenario
async def watch_and_unwatch_of_dead_actors(system: ActorSystem, n: int) -> AsyncIterator[None]:
    dead = [system.spawn(Idle) for _ in range(n)]
    await system.stop_all()

    def watch(actor: Actor) -> None:
        for ref in dead:
            actor.context.watch(ref)
        for ref in dead[::2]:
            actor.context.unwatch(ref)

    class Watcher(Does):
        async def receive(self, message: Any) -> Any:
            return await super().receive(message) if callable(message) else None

    watcher = system.spawn(Watcher)
    yield
    await watcher.ask(watch)
    await watcher.ask(lambda _: None)
    yield


@scenario
async def watchers_of_one_actor(system: ActorSystem, n: int) -> AsyncIterator[None]:
    target, done = system.spawn(Idle), []

    class Watcher(Does):
        async def receive(self, message: Any) -> Any:
            return await super().receive(message) if callable(message) else done.append(message)

    watchers = [system.spawn(Watcher) for _ in range(n)]
    yield
    for watcher in watchers:
        await watcher.ask(lambda actor: actor.context.watch(target))
    await system.stop(target)
    await until(lambda: len(done) == n)
    yield


@scenario
async def senders_cancelled_at_a_full_mailbox(system: ActorSystem, n: int) -> AsyncIterator[None]:
    full = system.spawn(Waits, mailbox_capacity=1)
    await full.tell(0)
    await until(lambda: not full._cell.box)
    await full.tell(0)
    yield
    async with anyio.create_task_group() as senders:
        for number in range(n):
            senders.start_soon(full.tell, number)
        await until(lambda: len(full._cell.senders or ()) == n)
        senders.cancel_scope.cancel()
    yield
    await system.stop(full, timeout=0)


@scenario
async def asks_that_time_out_at_a_full_mailbox(system: ActorSystem, n: int) -> AsyncIterator[None]:
    full = system.spawn(Waits, mailbox_capacity=1)
    await full.tell(0)
    await until(lambda: not full._cell.box)
    await full.tell(0)

    async def ask() -> None:
        with pytest.raises(AskTimeout):
            await full.ask(1, timeout=0.05)

    yield
    async with anyio.create_task_group() as senders:
        for _ in range(n):
            senders.start_soon(ask)
    yield
    await system.stop(full, timeout=0)


@scenario
async def senders_that_take_turns_at_a_small_mailbox(system: ActorSystem, n: int) -> AsyncIterator[None]:
    small = system.spawn(Idle, mailbox_capacity=1)
    yield
    async with anyio.create_task_group() as senders:
        for number in range(n):
            senders.start_soon(small.tell, number)
    yield


@scenario
async def the_number_of_children(system: ActorSystem, n: int) -> AsyncIterator[None]:
    def grow(actor: Actor) -> None:
        while len(actor.context.children) < n:
            assert actor.context.spawn_child(Idle) in actor.context.children

    parent = system.spawn(Does)
    yield
    await parent.ask(grow)
    yield


@scenario
async def children_that_stop_oldest_first(system: ActorSystem, n: int) -> AsyncIterator[None]:
    parent = system.spawn(Does)
    children = await parent.ask(lambda actor: [actor.context.spawn_child(Idle) for _ in range(n)])
    await children[-1].ask(1)
    yield
    for child in children:
        await system.stop(child)
    yield


@scenario
async def concurrent_stops_with_a_timeout(system: ActorSystem, n: int) -> AsyncIterator[None]:
    refs = [system.spawn(Waits) for _ in range(n)]
    for ref in refs:
        await ref.tell(1)
    await until(lambda: not any(ref._cell.box for ref in refs))
    yield
    async with anyio.create_task_group() as stops:
        for ref in refs:
            stops.start_soon(partial(system.stop, ref, timeout=0.01))
    yield


@scenario
async def waits_for_events_that_are_cancelled(system: ActorSystem, n: int) -> AsyncIterator[None]:
    yield
    async with anyio.create_task_group() as waits:
        for _ in range(n):
            waits.start_soon(partial(system.wait_for_event, lambda _: False, timeout=None))
        await until(lambda: len(system._history._event_waiters) == n)
        waits.cancel_scope.cancel()
    yield


@scenario
async def a_wait_that_sees_many_events(system: ActorSystem, n: int) -> AsyncIterator[None]:
    seen: list[Any] = []

    def last(event: Any) -> bool:
        seen.append(event)
        return len(seen) == n

    yield
    async with anyio.create_task_group() as waits:
        waits.start_soon(partial(system.wait_for_event, last, timeout=None))
        while len(seen) < n:
            await system.spawn(Idle).ask(1)
            await anyio.lowlevel.checkpoint()
    yield


@scenario
async def descriptions_with_many_suspended(system: ActorSystem, n: int) -> AsyncIterator[None]:
    refs = [system.spawn(Waits) for _ in range(n)]
    for ref in refs:
        await ref.tell(1)
    await until(lambda: not any(ref._cell.box for ref in refs))
    yield
    assert sum(info.state == "running" for info in system.list_actors()) == n
    assert all(system.actor_info(ref).state == "running" for ref in refs)  # type: ignore[union-attr]  # it lives
    system.tree(fold=None)
    system.audit()
    system.statistics()
    system.refs_by_type(Waits)
    system.list_names()
    yield
    async with anyio.create_task_group() as stops:
        for ref in refs:
            stops.start_soon(partial(system.stop, ref, timeout=0))


@scenario
async def a_broadcast_to_full_mailboxes(system: ActorSystem, n: int) -> AsyncIterator[None]:
    gate = anyio.Event()

    class Gated(Actor):
        async def receive(self, message: Any) -> None:
            await gate.wait()

    refs = [system.spawn(Gated, mailbox_capacity=1) for _ in range(n)]
    for _ in range(2):
        for ref in refs:
            await ref.tell(1)
    yield
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(system.broadcast, "all")
        await until(lambda: all(ref._cell.senders for ref in refs))
        gate.set()
    yield


@scenario
async def dead_letters_that_make_dead_letters(system: ActorSystem, n: int) -> AsyncIterator[None]:
    dead = system.spawn(Idle)
    await system.stop(dead)

    async def again(letter: Any) -> None:
        await dead.tell("again")

    loud = ActorSystem(system_id="loud", on_dead_letter=again)
    async with loud:
        dead = loud.spawn(Idle)
        await loud.stop(dead)
        yield
        for _ in range(n):
            with pytest.raises(ActorStopped):
                await dead.tell(1)
            await until(lambda: not loud.control_panel()["hooks"][0]["pending"])
        yield


@scenario
async def timers_of_one_actor(system: ActorSystem, n: int) -> AsyncIterator[None]:
    def start(actor: Actor) -> None:
        for key in range(n):
            actor.context.timers.start_single(key, 60, send=1)
        for key in range(n):
            actor.context.timers.start_single(key, 30, send=1)
        for key in range(n):
            actor.context.timers.cancel(key)
            actor.context.set_receive_timeout(60, send=1)

    ref = system.spawn(Does)
    yield
    await ref.ask(start)
    yield


@scenario
async def timers_that_ring(system: ActorSystem, n: int) -> AsyncIterator[None]:
    rung: list[int] = []

    def start(actor: Actor) -> None:
        for key in range(n):
            actor.context.timers.start_single(key, 0.001, call=partial(rung.append, key))

    ref = system.spawn(Does)
    yield
    await ref.ask(start)
    await until(lambda: len(rung) == n)
    yield


@scenario
async def a_stash(system: ActorSystem, n: int) -> AsyncIterator[None]:
    class Stashes(Actor):
        open = False

        async def receive(self, message: int) -> int:
            if message == n:
                self.open = True
                self.context.unstash_all()
            elif not self.open:
                return self.context.stash(message)
            return message

    ref = system.spawn(Stashes, mailbox_capacity=None)
    replies: list[int] = []

    async def ask(number: int) -> None:
        replies.append(await ref.ask(number))

    yield
    async with anyio.create_task_group() as asks:
        for number in range(n):
            asks.start_soon(ask, number)
        await until(lambda: ref.pending() >= n)
        await ref.tell(n)
    yield
    assert len(replies) == n


@scenario
async def forwards_and_replies_that_are_owed(system: ActorSystem, n: int) -> AsyncIterator[None]:
    owed: list[Any] = []

    class Owes(Actor):
        async def receive(self, message: Any) -> Any:
            owed.append(self.context.reply_later())
            return owed[-1].later

    owes = system.spawn(Owes, mailbox_capacity=None)
    first = system.spawn(Does, mailbox_capacity=None)
    yield
    async with anyio.create_task_group() as asks:
        for _ in range(n):
            asks.start_soon(first.ask, lambda actor: actor.context.forward(owes, 1))
        await until(lambda: len(owed) == n)
        for handle in reversed(owed):
            assert handle.send(1)
    yield


@scenario
async def a_group_that_restarts(system: ActorSystem, n: int) -> AsyncIterator[None]:
    started: list[object] = []

    class Member(Actor):
        async def on_start(self) -> None:
            started.append(self)

        async def receive(self, message: Any) -> None:
            raise ValueError("boom")

    class Parent(Does):
        children_policy = GroupPolicy(RestartStrategy.ONE_FOR_ALL)

    parent = system.spawn(Parent)
    members = await parent.ask(lambda actor: [actor.context.spawn_child(Member) for _ in range(n)])
    await until(lambda: len(started) == n)
    yield
    await members[0].tell(1)
    await until(lambda: len(started) == 2 * n)
    yield


@scenario
async def names(system: ActorSystem, n: int) -> AsyncIterator[None]:
    yield
    for number in range(n):
        ref = system.spawn(Idle, name=f"actor {number}")
        assert system.spawn_or_get(Idle, name=f"actor {number}") == ref
        assert system.ref_for_name(f"actor {number}") == ref
        assert system.ref_for(ref.address) == ref
    yield


@scenario
async def subscriptions_of_an_event_stream(system: ActorSystem, n: int) -> AsyncIterator[None]:
    stream = EventStream.of(system)
    refs = [system.spawn(Idle) for _ in range(n)]
    yield
    for number, ref in enumerate(refs):
        stream.subscribe(ref, int, topic=number)
    for number in range(n):
        assert await stream.publish(1, topic=number) == 1
    for ref in refs:
        stream.unsubscribe(ref)
    yield


@scenario
async def services_of_a_receptionist(system: ActorSystem, n: int) -> AsyncIterator[None]:
    receptionist = Receptionist.of(system)
    refs = [system.spawn(Idle) for _ in range(n)]
    keys = [ServiceKey[Any, Any](f"key {number}") for number in range(n)]
    yield
    for key, ref in zip(keys, refs, strict=True):
        await receptionist.register(key, ref)
        assert receptionist.find(key) == (ref,)
    for key, ref in zip(keys, refs, strict=True):
        await receptionist.withdraw(key, ref)
    yield


@scenario
async def portals(system: ActorSystem, n: int) -> AsyncIterator[None]:
    ref = system.spawn(Idle, mailbox_capacity=None)

    def tell() -> None:
        for portal in made:
            portal.tell(ref, 1)

    yield
    made = [system.portal() for _ in range(n)]
    await anyio.to_thread.run_sync(tell)
    await until(lambda: ref._cell.processed == n)
    yield


@scenario
async def background_work(system: ActorSystem, n: int) -> AsyncIterator[None]:
    results: list[int] = []

    async def work() -> int:
        return 1

    def start(actor: Actor) -> None:
        for _ in range(n):
            actor.context.pipe_to_self(work, results.append)
            actor.context.start_soon(anyio.sleep_forever)

    ref = system.spawn(Does)
    yield
    await ref.ask(start)
    await until(lambda: len(results) == n)
    await system.stop(ref)
    yield


@scenario
async def several_asks_at_once(system: ActorSystem, n: int) -> AsyncIterator[None]:
    refs = [system.spawn(Idle) for _ in range(n)]
    ref = system.spawn(Does)
    yield
    assert await ref.ask(lambda _: ask_all(*(each.request(1, timeout=60) for each in refs))) == [1] * n
    yield


@scenario
async def blocking_calls_that_are_cancelled(system: ActorSystem, n: int) -> AsyncIterator[None]:
    async def start(actor: Actor) -> None:
        with anyio.move_on_after(0.02):
            async with anyio.create_task_group() as calls:
                for _ in range(n):
                    calls.start_soon(partial(actor.context.run_blocking, held.wait, abandon_on_cancel=True))

    held = threading.Event()
    ref = system.spawn(Does)
    yield
    await ref.ask(start)
    yield
    held.set()


@scenario
async def a_close_of_many(system: ActorSystem, n: int) -> AsyncIterator[None]:
    other = ActorSystem(system_id="other")
    await other.start()
    for _ in range(n):
        await other.spawn(Idle).tell(1)
    yield
    await other.aclose()
    yield


async def cost(name: str, n: int) -> int:
    async with ActorSystem() as system:
        steps = SCENARIOS[name](system, n)
        await anext(steps)
        with Opcodes() as opcodes:
            await anext(steps)
        async for _ in steps:
            raise AssertionError("two yields are enough")
    return opcodes.count


@pytest.mark.parametrize("name", SCENARIOS)
async def test_h12_four_times_as_many_cost_about_four_times_as_much(name: str) -> None:
    n = 16
    await cost(name, 2)  # imports, and what is made once
    few, many = await cost(name, n), await cost(name, 4 * n)
    assert many < MOST * few, f"{few} opcodes for {n}, {many} for {4 * n}: {many / few:.1f} times as many"


async def test_h12_one_full_actor_holds_up_no_broadcast() -> None:
    class Notes(Actor):
        async def receive(self, message: Any) -> None:
            told.append(message)

    told: list[Any] = []
    with anyio.fail_after(20):
        async with ActorSystem() as system, anyio.create_task_group() as tasks:
            full, small = system.spawn(Waits, mailbox_capacity=1), system.spawn(Notes, mailbox_capacity=1)
            refuses = system.spawn(Waits, mailbox_capacity=1, on_full="refuse")
            last = system.spawn(Notes)
            for ref in (full, refuses):
                await ref.tell(1)
                await until(lambda: not ref._cell.box)  # noqa: B023 - awaited at once
                await ref.tell(2)
            with pytest.raises(MailboxFull):
                refuses.tell_nowait(3)
            small.tell_nowait("first")
            found: list[int] = []

            async def broadcast() -> None:
                found.append(await system.broadcast("all"))

            tasks.start_soon(broadcast)
            await until(lambda: sorted(told) == ["all", "all", "first"])
            assert found == []
            assert [letter.reason for letter in system.dead_letters.messages] == ["dropped"]
            tasks.start_soon(partial(system.stop, full, timeout=0))
            await until(lambda: found)
            assert found == [2]
            await system.stop(refuses, timeout=0)
            assert last.is_alive()


async def test_h12_a_broadcast_that_is_cancelled_leaves_no_place_in_a_line() -> None:
    async with ActorSystem() as system:
        refs = [system.spawn(Waits, mailbox_capacity=1) for _ in range(3)]
        for _ in range(2):
            for ref in refs:
                await ref.tell(1)
        with anyio.move_on_after(0.01):
            await system.broadcast("all")
        assert [ref._cell.senders for ref in refs] == [None] * 3
        for ref in refs:
            await system.stop(ref, timeout=0)


@pytest.mark.parametrize("plain", [True, False])
async def test_h12_a_dead_letter_of_a_dead_letter_ends(plain: bool) -> None:
    calls: list[object] = []
    refs: list[Any] = []

    def again(letter: object) -> None:
        calls.append(letter)
        refs[0].tell_nowait("again")

    async def again_later(letter: object) -> None:
        calls.append(letter)
        await refs[0].tell("again")

    hook = again if plain else again_later
    with anyio.fail_after(20):
        async with ActorSystem(hooks=SystemHooks(on_dead_letter=hook)) as system:
            refs.append(system.spawn(Idle))
            await system.stop(refs[0])
            for count in (1, 2):
                with pytest.raises(ActorStopped):
                    await refs[0].tell("first")
                await until(lambda: not system.control_panel()["hooks"][0]["pending"])
                assert len(calls) == 8 * count
            assert system.dead_letters.count == 18
            assert system.control_panel()["hooks"][0]["dropped"] == 2


async def test_h12_children_are_those_of_the_moment() -> None:
    async with ActorSystem() as system:
        parent = system.spawn(Does)

        def look(actor: Actor) -> None:
            children = actor.context.children
            assert not children
            assert children == ()
            first, second = (actor.context.spawn_child(Idle) for _ in range(2))
            assert list(children) == [first, second] == list(reversed(list(reversed(children))))
            assert (children[0], children[-1], children[1:]) == (first, second, (second,))
            assert first in children
            assert parent not in children
            assert 1 not in children  # type: ignore[comparison-overlap]  # what this is about
            assert children == (first, second)
            assert children == actor.context.children
            assert repr(children) == repr((first, second))

        await parent.ask(look)
        await system.wait_for_event(ActorStarted)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("senders_cancelled_at_a_full_mailbox", 1_500),
        ("waits_for_events_that_are_cancelled", 1_500),
        ("children_that_stop_oldest_first", 2_000),
        ("concurrent_stops_with_a_timeout", 500),
    ],
)
async def test_h12_no_search_in_c_takes_longer_than_the_rest(name: str, n: int) -> None:
    """A search in a list is one opcode, so it shows in seconds alone: it would take 16 times as long."""

    async def seconds(n: int) -> float:
        async with ActorSystem() as system:
            steps = SCENARIOS[name](system, n)
            await anext(steps)
            began = process_time()
            await anext(steps)
            took = process_time() - began
            async for _ in steps:
                raise AssertionError("two yields are enough")
        return took

    few, many = min([await seconds(n) for _ in range(2)]), await seconds(4 * n)
    assert many < 14 * few
