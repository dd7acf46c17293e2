"""Guarantees 1 and 2: tell, backpressure, and actors that stop."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    DeadLetter,
    MailboxClosed,
    PapyraError,
    SupervisorDecision,
)

from .support import Echo, Gated, Runs, go_round, letters, running, same, wait_until


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

    async def job(actor: Runs) -> None:
        for number in range(0, 30, 3):
            await sink.tell(number)
            assert await sink.ask(number + 1) == number + 1
            await sink.proxy().receive.defer(number + 2)

    async with running() as system:
        sink = system.spawn(Runs, got, mailbox_capacity=2)
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

    sent = 0
    async with running() as system:
        ref = system.spawn(Runs, got, mailbox_capacity=None)
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
    """Senders that wait for room when the actor stops: each gets an error, each leaves one dead letter."""
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
            assert actor.got == [], "they get it at once, not when the mailbox is worked off"
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


async def test_a_send_for_which_no_worker_can_be_started_leaves_the_system_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_home: object) -> None:
        raise MemoryError

    async with running() as system:
        core = system._core
        assert core is not None
        with monkeypatch.context() as patch:
            patch.setattr(core.rt, "start_worker", fail)
            with pytest.raises(MemoryError):
                system.spawn(Echo, name="first")
        assert core.rt.awake == 0
        assert await system.spawn(Echo, name="second").ask(1) == 1


async def test_the_signal_of_a_stop_is_not_counted_as_a_message_that_waits() -> None:
    class Notes(Gated):
        async def receive(self, message: Any) -> Any:
            await super().receive(message)
            self.got[-1] = (message, self.context.mailbox_depth)

    async with running() as system:
        actor = Notes()
        ref = system.spawn(same, actor)
        for number in range(3):
            await ref.tell(number)
        await actor.busy.wait()
        shown: list[int] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ref.stop)
            await wait_until(lambda: not ref.is_alive())
            info, audit, panel = system.actor_info(ref), system.audit(), system.control_panel()
            shown += [info.mailbox_depth if info else -1, audit.mailbox_depth.sum]
            shown += [each["depth"] for each in panel["longest_mailboxes"]]
            actor.gate.set()
        assert actor.got == [(0, 2), (1, 1), (2, 0)]
        assert shown == [2, 2, 2]
