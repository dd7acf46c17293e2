"""Guarantees 1 to 4 and 7: tell, backpressure, ask, dead letters, one message at a time."""

from __future__ import annotations

import random
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import (
    Actor,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    MailboxClosed,
    PapyraError,
    SupervisorDecision,
)

from .support import Echo, Gated, Runs, go_round, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra import ActorRef, DeadLetter

pytestmark = pytest.mark.anyio


def same(actor: Gated) -> Gated:
    return actor


def letters(system: ActorSystem) -> list[tuple[object, bool]]:
    return [(letter.message, letter.expects_reply) for letter in system.dead_letters.messages]


async def waiting_tells(
    group: anyio.abc.TaskGroup, ref: ActorRef[Any, Any], messages: list[Any], done: list[Any]
) -> None:
    """Start a sender for each message, in this order."""

    async def send(message: Any) -> None:
        await ref.tell(message)
        done.append(message)

    for message in messages:
        group.start_soon(send, message)
        await go_round(3)


# -- 1: tell


async def test_g01_tell_returns_before_the_message_is_handled() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor)
        await ref.tell(1)
        await actor.busy.wait()
        await ref.tell(2)
        assert actor.got == []
        actor.gate.set()
    assert actor.got == [1, 2]


@pytest.mark.parametrize("capacity", [1, 2, 7, None])
async def test_g01_messages_of_each_sender_arrive_once_and_in_order(capacity: int | None) -> None:
    got: list[tuple[int, int]] = []

    class Sink(Actor):
        async def receive(self, message: tuple[int, int]) -> None:
            if message[1] % 5 == 0:
                await anyio.lowlevel.checkpoint()
            got.append(message)

    async def send(ref: ActorRef[Any, Any], sender: int) -> None:
        for number in range(100):
            await ref.tell((sender, number))

    async with running() as system:
        ref = system.spawn(Sink, mailbox_capacity=capacity)
        async with anyio.create_task_group() as group:
            for sender in range(5):
                group.start_soon(send, ref, sender)
    assert len(got) == 500
    for sender in range(5):
        assert [number for who, number in got if who == sender] == list(range(100))


async def test_g01_one_actor_keeps_the_order_of_tells_and_asks_to_another() -> None:
    got: list[int] = []

    class Sink(Actor):
        async def receive(self, message: int) -> int:
            got.append(message)
            return message

    async def job(actor: Runs) -> None:
        for number in range(0, 30, 3):
            await sink.tell(number)
            assert await sink.ask(number + 1) == number + 1
            await sink.proxy().receive.defer(number + 2)

    async with running() as system:
        sink = system.spawn(Sink, mailbox_capacity=2)
        await system.spawn(Runs).ask(job)
    assert got == list(range(30))


@pytest.mark.parametrize("capacity", [1, 3])
async def test_g01_a_full_mailbox_makes_the_sender_wait(capacity: int) -> None:
    actor = Gated()
    done: list[int] = []
    async with running() as system:
        ref = system.spawn(lambda: actor, mailbox_capacity=capacity)
        await ref.tell(0)
        await actor.busy.wait()
        async with anyio.create_task_group() as group:
            await waiting_tells(group, ref, list(range(1, capacity + 3)), done)
            assert done == list(range(1, capacity + 1)), "as many as there is room for"
            actor.gate.set()
        assert sorted(done) == list(range(1, capacity + 3))
    assert sorted(actor.got) == list(range(capacity + 3))


@pytest.mark.parametrize("capacity", [1, 2, 4])
async def test_g01_waiting_senders_are_served_first_come_first_served(capacity: int) -> None:
    for _ in range(5):  # trio wakes the tasks of one round in a random order
        actor = Gated()
        async with running() as system:
            ref = system.spawn(partial(same, actor), mailbox_capacity=capacity)
            async with anyio.create_task_group() as group:
                await waiting_tells(group, ref, list(range(25)), [])
                actor.gate.set()
        assert actor.got == list(range(25))


async def test_g01_no_sender_overtakes_those_that_wait() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor, mailbox_capacity=1)
        await ref.tell(0)
        await actor.busy.wait()
        async with anyio.create_task_group() as group:
            await waiting_tells(group, ref, [1, 2, 3], [])
            actor.gate.set()
            await wait_until(lambda: len(actor.got) > 0)
            await ref.tell("late")
    assert actor.got.index("late") > actor.got.index(2)


async def test_g01_a_sender_cancelled_while_it_waits_has_sent_nothing() -> None:
    actor = Gated()
    done: list[int] = []
    async with running() as system:
        ref = system.spawn(lambda: actor, mailbox_capacity=1)
        await ref.tell(0)
        await actor.busy.wait()
        await ref.tell(1)
        async with anyio.create_task_group() as group:
            await waiting_tells(group, ref, [2], done)
            async with anyio.create_task_group() as doomed:
                await waiting_tells(doomed, ref, [3, 4], done)
                doomed.cancel_scope.cancel()
            await waiting_tells(group, ref, [5], done)
            assert done == []
            actor.gate.set()
    assert sorted(done) == [2, 5]
    assert actor.got == [0, 1, 2, 5]
    assert letters(system) == []


async def test_g01_cancelled_senders_give_their_place_back() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor, mailbox_capacity=2)
        await ref.tell(0)
        await actor.busy.wait()
        await ref.tell(1)
        await ref.tell(2)
        for _ in range(10):
            with anyio.move_on_after(0):
                await ref.tell("never")
            async with anyio.create_task_group() as doomed:
                await waiting_tells(doomed, ref, ["never"], [])
                doomed.cancel_scope.cancel()
        actor.gate.set()
        for number in range(3, 40):
            await ref.tell(number)
        await ref.ask(40)
    assert actor.got == list(range(41))


@pytest.mark.parametrize("seed", range(8))
async def test_g01_what_was_sent_is_exactly_what_arrives_under_random_cancellation(seed: int) -> None:
    rng = random.Random(seed)
    got: list[int] = []
    sent: list[int] = []

    class Sink(Actor):
        async def receive(self, message: int) -> None:
            for _ in range(rng.randrange(4)):
                await anyio.lowlevel.checkpoint()
            got.append(message)

    async def send(ref: ActorRef[Any, Any], number: int) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await ref.tell(number)
            sent.append(number)

    async with running() as system:
        ref = system.spawn(Sink, mailbox_capacity=rng.choice([1, 2, 5]))
        scopes: list[anyio.CancelScope] = []
        async with anyio.create_task_group() as group:
            for number in range(150):
                group.start_soon(send, ref, number)
                if rng.random() < 0.5:
                    await anyio.lowlevel.checkpoint()
                if scopes and rng.random() < 0.7:
                    rng.choice(scopes).cancel()
        # There is room again, and for as many as before.
        for number in range(1000, 1020):
            await ref.tell(number)
            sent.append(number)
    assert sorted(got) == sorted(sent)
    assert letters(system) == []


async def test_g01_a_cancelled_tell_has_sent_nothing_also_where_it_only_yields() -> None:
    """`tell` without waiting lets the loop go round now and then; it must not send and raise."""
    got: list[int] = []

    class Sink(Actor):
        async def receive(self, message: int) -> None:
            got.append(message)

    sent = 0
    async with running() as system:
        ref = system.spawn(Sink, mailbox_capacity=None)
        await ref.ask(-1)
        del got[:]
        with anyio.CancelScope() as scope:
            scope.cancel()
            for number in range(5000):
                await ref.tell(number)
                sent += 1
    assert got == list(range(sent))


async def test_g01_no_limit_takes_everything_at_once() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor, mailbox_capacity=None)
        for number in range(5000):
            await ref.tell(number)
        actor.gate.set()
    assert actor.got == list(range(5000))


@pytest.mark.parametrize("capacity", [1, 2])
async def test_g01_senders_that_wait_for_a_new_actor_get_in(capacity: int) -> None:
    """The smallest mailboxes, used at once after the spawn, while `on_start` still runs."""
    started = anyio.Event()
    got: list[int] = []

    class Slow(Actor):
        async def on_start(self) -> None:
            await started.wait()

        async def receive(self, message: int) -> int:
            got.append(message)
            return message

    async with running(shutdown_timeout=1) as system:
        ref = system.spawn(Slow, mailbox_capacity=capacity)
        async with anyio.create_task_group() as group:
            await waiting_tells(group, ref, [1, 2, 3, 4], [])
            started.set()
        assert await ref.ask(5) == 5
    assert sorted(got) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", [None, "named"])
async def test_g01_one_place_is_enough_right_after_the_spawn(name: str | None) -> None:
    async with running(shutdown_timeout=1) as system:
        ref = system.spawn(Echo, mailbox_capacity=1, name=name)
        await ref.tell(1)
        await ref.tell(2)
        assert await ref.ask(3) == 3


@pytest.mark.parametrize("capacity", [1, 2])
async def test_g01_senders_that_wait_while_the_actor_fails_get_in(capacity: int) -> None:
    got: list[int | str] = []
    gate = anyio.Event()

    class Fails(Actor):
        async def receive(self, message: int | str) -> None:
            await gate.wait()
            got.append(message)
            if message == "boom":
                raise ValueError(message)

    async with running(shutdown_timeout=1) as system:
        ref = system.spawn(Fails, mailbox_capacity=capacity, name="fails")
        async with anyio.create_task_group() as group:
            await waiting_tells(group, ref, ["boom", 1, "boom", 2, "boom", 3, 4], [])
            gate.set()
    assert sorted(map(str, got)) == sorted(["boom", "1", "boom", "2", "boom", "3", "4"])


async def test_g01_senders_that_wait_while_a_parent_decides_get_in() -> None:
    decide = anyio.Event()
    got: list[str] = []

    class Child(Actor):
        async def receive(self, message: str) -> None:
            got.append(message)
            if message == "boom":
                raise ValueError(message)

    class Parent(Runs):
        async def on_start(self) -> None:
            children.append(self.context.spawn_child(Child, mailbox_capacity=1))

        async def on_child_failure(self, child_ref: ActorRef[Any, Any], exc: Exception) -> SupervisorDecision:
            await decide.wait()
            return SupervisorDecision.RESUME

    children: list[ActorRef[Any, Any]] = []
    async with running(shutdown_timeout=1) as system:
        system.spawn(Parent)
        await wait_until(lambda: bool(children))
        async with anyio.create_task_group() as group:
            await waiting_tells(group, children[0], ["boom", "a", "b", "c"], [])
            decide.set()
    assert sorted(got) == ["a", "b", "boom", "c"]


# -- 2: stopped and stopping


@pytest.mark.parametrize("send", ["tell", "ask", "proxy", "defer"])
async def test_g02_a_stopped_actor_refuses_and_leaves_one_dead_letter(send: str) -> None:
    heard: list[DeadLetter] = []
    async with running(on_dead_letter=heard.append) as system:
        ref = system.spawn(Echo)
        await system.stop(ref)
        sends: dict[str, Callable[[], Awaitable[Any]]] = {
            "tell": lambda: ref.tell("late"),
            "ask": lambda: ref.ask("late"),
            "proxy": lambda: ref.proxy().receive("late"),
            "defer": lambda: ref.proxy().receive.defer("late"),
        }
        with pytest.raises(ActorStopped):
            await sends[send]()
        (letter,) = system.dead_letters.messages
        assert letter.target == ref
        assert letter.expects_reply is (send in ("ask", "proxy"))
        if send in ("tell", "ask"):
            assert letter.message == "late"
        assert heard == [letter]


@pytest.mark.parametrize("expects_reply", [False, True])
async def test_g02_a_stopping_actor_refuses_at_once(expects_reply: bool) -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor)
        await ref.tell(1)
        await actor.busy.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(system.stop, ref)
            await wait_until(lambda: not ref.is_alive())
            with pytest.raises(ActorStopped):
                await (ref.ask("late") if expects_reply else ref.tell("late"))
            assert letters(system) == [("late", expects_reply)]
            actor.gate.set()
        assert letters(system) == [("late", expects_reply)]
    assert actor.got == [1]


async def test_g02_actor_stopped_is_mailbox_closed_and_names_the_actor() -> None:
    async with running(system_id="plant") as system:
        ref = system.spawn(Echo, name="pump")
        await system.stop(ref)
        with pytest.raises(MailboxClosed, match=r"plant:1 .*pump") as caught:
            await ref.tell(1)
        assert isinstance(caught.value, PapyraError)


async def test_g02_a_full_mailbox_does_not_hide_the_stop() -> None:
    """Senders that wait for room when the actor stops: each is told, each leaves one dead letter."""
    actor = Gated()
    errors: list[BaseException] = []
    async with running() as system:
        ref = system.spawn(lambda: actor, mailbox_capacity=1)
        await ref.tell("first")
        await actor.busy.wait()
        await ref.tell("queued")

        async def send(message: str, *, ask: bool) -> None:
            try:
                await (ref.ask(message) if ask else ref.tell(message))
            except ActorStopped as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(lambda: send("tell", ask=False))
            await go_round(3)
            group.start_soon(lambda: send("ask", ask=True))
            await go_round(3)
            group.start_soon(system.stop, ref)
            await wait_until(lambda: len(errors) == 2)
            assert actor.got == [], "they are told at once, not when the mailbox is worked off"
            actor.gate.set()
        assert sorted(letters(system), key=str) == [("ask", True), ("tell", False)]
    assert actor.got == ["first", "queued"]


async def test_g02_use_after_the_system_closed() -> None:
    async with ActorSystem() as system:
        ref = system.spawn(Echo)
    with anyio.fail_after(5):
        with pytest.raises(ActorStopped):
            await ref.tell(1)
        with pytest.raises(ActorStopped):
            await ref.ask(2, timeout=1)
        with pytest.raises(ActorStopped):
            await ref.proxy().receive(3)
        assert not ref.is_alive()
        assert len(system.dead_letters) == 3


# -- 3: ask


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

    class Slow(Actor):
        async def on_start(self) -> None:
            await go_round()
            order.append("on_start")

        async def receive(self, message: str) -> None:
            order.append(message)

    async with running() as system:
        await system.spawn(Slow).ask("first")
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
    # Exactly one each; the one that ran is no dead letter.
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

    class Parent(Actor):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Child)

        async def receive(self, message: str) -> str:
            if message == "fail":
                await self.child.tell("go")
                await asking.wait()
                await go_round()
                raise ValueError
            return message

    async with running(shutdown_timeout=1) as system:
        parent = system.spawn(Parent, name="parent")
        await parent.tell("fail")
        assert await parent.ask("still there") == "still there"
    assert len(results) == 1


async def test_g03_a_child_that_tells_its_full_parent_does_not_block_the_parents_restart() -> None:
    blocked = anyio.Event()

    class Child(Actor):
        async def receive(self, message: str) -> None:
            blocked.set()
            await parent.tell("from the child")

    class Parent(Actor):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Child)

        async def receive(self, message: str) -> str:
            if message == "fail":
                await self.child.tell("go")
                await blocked.wait()
                await go_round()
                raise ValueError
            return message

    async with running(shutdown_timeout=1) as system:
        parent = system.spawn(Parent, name="parent", mailbox_capacity=1)
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


# -- 4: what is left over


async def test_g04_queued_messages_become_dead_letters_in_order() -> None:
    go = anyio.Event()

    class Stops(Actor):
        async def receive(self, message: int) -> None:
            await go.wait()
            if message == 2:
                self.context.stop_self()

    heard: list[DeadLetter] = []
    async with running(on_dead_letter=heard.append) as system:
        ref = system.spawn(Stops)

        async def ask(message: int) -> None:
            with pytest.raises(ActorStopped):
                await ref.ask(message)

        async with anyio.create_task_group() as group:
            for number in range(8):
                if number == 5:
                    group.start_soon(ask, number)
                    await go_round()
                else:
                    await ref.tell(number)
            go.set()
        await system.stop(ref)
        expected = [(number, number == 5) for number in range(3, 8)]
        assert letters(system) == expected
        assert [(letter.message, letter.expects_reply) for letter in heard] == expected
        assert {letter.target for letter in heard} == {ref}
    assert letters(system) == expected


async def test_g04_a_failure_makes_dead_letters_of_the_rest_but_not_of_the_failed_message() -> None:
    go = anyio.Event()

    class Fails(Actor):
        async def receive(self, message: int) -> None:
            await go.wait()
            raise ValueError(message)

    async with running() as system:
        ref = system.spawn(Fails)
        for number in range(5):
            await ref.tell(number)
        go.set()
        await system.stop(ref)
    assert letters(system) == [(number, False) for number in range(1, 5)]


async def test_g04_a_restart_keeps_the_mailbox_and_does_not_repeat_the_failed_message() -> None:
    handled: list[tuple[int, int]] = []
    instances = 0
    go = anyio.Event()

    class Fails(Actor):
        def __init__(self) -> None:
            nonlocal instances
            instances += 1
            self.number = instances

        async def receive(self, message: int) -> None:
            await go.wait()
            handled.append((self.number, message))
            if message in (1, 3):
                raise ValueError(message)

    async with running() as system:
        ref = system.spawn(Fails, name="fails")
        for number in range(6):
            await ref.tell(number)
        go.set()
    assert handled == [(1, 0), (1, 1), (2, 2), (2, 3), (3, 4), (3, 5)]
    assert letters(system) == []


async def test_g04_a_forced_stop_makes_dead_letters_in_order() -> None:
    actor = Gated()
    async with running() as system:
        ref = system.spawn(lambda: actor)
        for number in range(5):
            await ref.tell(number)
        await actor.busy.wait()
        await system.stop(ref, timeout=0)
        assert letters(system) == [(number, False) for number in range(1, 5)]
    assert letters(system) == [(number, False) for number in range(1, 5)]


async def test_g04_a_mailbox_of_an_actor_that_never_started() -> None:
    class Broken(Actor):
        async def on_start(self) -> None:
            await go_round()
            raise OSError

    async with running() as system:
        ref = system.spawn(Broken)
        await ref.tell(1)
        await ref.tell(2)
        await wait_until(lambda: system.ref_for(ref.address) is None)
        assert letters(system) == [(1, False), (2, False)]


# -- 7: one at a time, and nobody else's variables


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
    """Say what it sees, and set what it is told."""

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
