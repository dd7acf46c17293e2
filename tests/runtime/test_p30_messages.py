"""Promises 30 to 32 and 42 to 47: stash, behaviours, sends that do not wait, requests, replies, unhandled
messages.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    AskDeadlock,
    AskTimeout,
    MailboxFull,
    Reply,
    ReplyDropped,
    StashOverflow,
    UnhandledMessage,
    ask_all,
)
from papyra.testing import ManualClock, Probe

from .support import RESTART, Runs, begin, running, stuck, wait_until


class Gated(Actor):
    """Stashes until a message opens it."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.open = False

    async def receive(self, message: Any) -> Any:
        if message == "open":
            self.open = True
            return self.context.unstash_all()
        if message == "fail":
            raise ValueError(message)
        if message == "stashed":
            return self.context.stashed
        if isinstance(message, tuple):
            with pytest.raises(AskDeadlock):
                await message[1].ask("back")
            return "deadlock"
        if not self.open:
            return self.context.stash(message)
        self.log.append(message)
        return f"did {message}"


async def stashed(ref: ActorRef[Any, Any], count: int) -> None:
    await wait_until(lambda: (mine := ref._cell.resources) is not None and len(mine.stash or ()) == count)


# -- 30, 31: the stash


async def test_p30_what_was_stashed_comes_before_the_mailbox_and_an_ask_keeps_its_asker() -> None:
    log: list[Any] = []
    answers: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Gated(log))

        async def ask(message: str) -> None:
            answers.append(await ref.ask(message))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "first")
            await stashed(ref, 1)
            await ref.tell("second")
            await ref.tell("open")
            await ref.tell("third")
        assert answers == ["did first"]
        await ref.ask("fourth")
        assert log == ["first", "second", "third", "fourth"]
    assert system.dead_letters.count == 0


async def test_p30_a_stashed_ask_keeps_its_time_out_and_its_wait() -> None:
    clock = ManualClock()
    async with running(time_fn=clock) as system:
        ref = system.spawn(lambda: Gated([]))
        asker = system.spawn(Runs)

        async def ask() -> None:
            with pytest.raises(AskTimeout):
                await ref.ask("first", timeout=1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await stashed(ref, 1)
            clock.advance(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asker.ask, lambda _: ref.ask("second"))
            await stashed(ref, 2)
            # The asker waits for this actor, so this actor can't ask it back.
            assert await ref.ask(("ask", asker)) == "deadlock"
            await ref.ask("open")


async def test_p30_it_goes_behind_a_stop_that_was_asked_for_and_a_draining_actor_may_unstash() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Gated(log))
        await ref.tell("first")
        await ref.tell("open")
        await ref.stop()  # drains: stashes the first, opens, handles it
        assert log == ["first"]
        other = system.spawn(lambda: Gated(log))
        await other.tell("lost")
        await other.stop()
        assert [letter.message for letter in system.dead_letters.messages] == ["lost"]

        def halt(actor: Gated) -> Any:
            actor.context.stop_self()
            return actor.context.unstash_all()

        class Halts(Gated):
            async def receive(self, message: Any) -> Any:
                return halt(self) if message == "halt" else await super().receive(message)

        third = system.spawn(lambda: Halts(log))
        await third.tell("stashed first")
        assert await third.ask("halt") == 1
        await third.stop()
        assert [letter.message for letter in system.dead_letters.messages] == ["lost", "stashed first"]


async def test_p31_over_a_restart_nothing_is_lost_or_reordered() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Gated(log), policy=RESTART)
        await ref.tell("first")
        await ref.tell("second")
        with pytest.raises(ValueError, match="fail"):
            await ref.ask("fail")
        await ref.tell("third")
        assert await ref.ask("open") == 3  # stashed again by the new instance
        await ref.ask("fourth")
        assert log == ["first", "second", "third", "fourth"]
    assert system.dead_letters.count == 0


async def test_p31_one_more_than_the_capacity_is_an_overflow_in_the_actor() -> None:
    class Small(Gated):
        stash_capacity = 2

    async with running() as system:
        ref = system.spawn(lambda: Small([]), policy=RESTART)
        await ref.tell("first")
        await ref.tell("second")
        with pytest.raises(StashOverflow, match="2 messages"):
            await ref.ask("third")

    class Endless(Gated):
        stash_capacity = None

    async with running() as system:
        other = system.spawn(lambda: Endless([]), mailbox_capacity=None)
        for n in range(2_000):
            await other.tell(n)
        assert await other.ask("stashed") == 2_000
        assert other.pending() >= 2_000


# -- 32: behaviours


class Switches(Actor):
    def __init__(self, log: list[Any], from_start: bool = False) -> None:
        self.log = log
        self.from_start = from_start

    async def on_start(self) -> None:
        if self.from_start:
            self.become(self.other)

    async def receive(self, message: Any) -> Any:
        self.log.append(("receive", message))
        if message == "switch":
            self.become(self.other)
        elif message == "fail":
            raise ValueError(message)
        return "receive"

    async def other(self, message: Any) -> Any:
        self.log.append(("other", message))
        if message == "switch":
            self.unbecome()
        elif message == "fail":
            raise ValueError(message)
        elif message == "tick":
            self.context.timers.start_single("tick", 1, send="ticked")
        return "other"


async def test_p32_a_behaviour_counts_from_the_next_message_on_for_tells_asks_and_ticks() -> None:
    clock, log = ManualClock(), []
    async with running(time_fn=clock) as system:
        ref = system.spawn(lambda: Switches(log))
        for message in ("switch", 1, "tick", 2):
            await ref.tell(message)
        assert await ref.ask(3) == "other"
        clock.advance(1)
        assert await ref.ask("switch") == "other"
        assert await ref.ask(4) == "receive"
        assert [name for name, _ in log] == ["receive", *["other"] * 6, "receive"]
        assert ("other", "ticked") in log


async def test_p32_in_on_start_it_counts_from_the_first_message() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Switches(log, from_start=True))
        await ref.tell(1)
        assert await ref.ask(2) == "other"
        assert log == [("other", 1), ("other", 2)]


async def test_p32_a_restart_goes_back_to_receive_and_proxies_are_not_touched() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Switches(log), policy=RESTART)
        await ref.ask("switch")
        assert await ref.proxy().other("by proxy") == "other"
        with pytest.raises(ValueError, match="fail"):
            await ref.ask("fail")
        assert await ref.ask(1) == "receive"


async def test_p32_switching_a_million_times_grows_nothing() -> None:
    async with running() as system:
        ref = system.spawn(Runs)

        def switch(actor: Runs) -> None:
            for _ in range(1_000):
                actor.become(actor.receive)
                actor.unbecome()

        await ref.ask(switch)
        assert await ref.ask(1) == 1
        assert ref.pending() == 0 or await ref.ask(2) == 2


async def test_p32_become_refuses_anything_but_a_function() -> None:
    async with running() as system:
        ref = system.spawn(Runs)
        with pytest.raises(TypeError, match="async function"):
            await ref.ask(lambda actor: actor.become("receive"))
    with pytest.raises(RuntimeError, match="on_start"):
        Runs().become(Runs().receive)


# -- 42: sends that do not wait


async def test_p42_tell_nowait_is_in_the_mailbox_or_raises() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Runs(log), mailbox_capacity=2)
        ref.tell_nowait(1)
        ref.tell_nowait(2)
        with pytest.raises(MailboxFull, match="2 messages wait"):
            ref.tell_nowait(3)
        assert system.dead_letters.count == 0
        await ref.stop()
        assert log == [1, 2]
        with pytest.raises(ActorStopped):
            ref.tell_nowait(4)
        assert [letter.message for letter in system.dead_letters.messages] == [4]
        assert ref.pending() == 0


async def test_p42_it_overtakes_nobody_who_waits_for_room() -> None:
    log: list[Any] = []
    async with running() as system:
        gate = anyio.Event()
        ref: ActorRef[Any, Any] = system.spawn(lambda: Runs(log), mailbox_capacity=1)

        async def hold(_actor: Runs) -> None:
            await gate.wait()

        await begin(ref, hold)
        await ref.tell("first")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ref.tell, "waits")
            await wait_until(lambda: ref._cell.senders)
            with pytest.raises(MailboxFull):
                ref.tell_nowait("overtakes")
            gate.set()
            refused = 0
            while "waits" not in log:
                try:
                    ref.tell_nowait("late")
                except MailboxFull:
                    refused += 1
                await anyio.lowlevel.checkpoint()
        assert log.index("waits") < (log.index("late") if "late" in log else len(log))


async def test_a_tell_after_the_start_overtakes_nobody_who_waits_since_before_it() -> None:
    found: list[tuple[bool, bool]] = []

    async def overtake(actor: Runs) -> None:
        ref = actor.context.self_ref
        waits = len(ref._cell.senders or ()) > 1  # one has room now; the others have none
        sent = False
        with suppress(AskDeadlock), anyio.move_on_after(0):
            await ref.tell("too early")
            sent = True
        found.append((waits, sent))

    async with ActorSystem() as system:
        for _ in range(40):  # trio wakes the tasks in any order
            runs: list[ActorRef[Any, Any]] = []

            async def send(runs: list[ActorRef[Any, Any]], message: Any) -> None:
                if not runs:
                    runs.append(system.spawn(Runs, mailbox_capacity=2))
                    await runs[0].tell(overtake)
                await runs[0].tell(message)

            async with anyio.create_task_group() as tasks:
                for n in range(5):
                    tasks.start_soon(send, runs, n)
            await runs[0].ask("last")
    assert (True, False) in found
    assert (True, True) not in found


@pytest.mark.parametrize("how", ["tell", "ask"])
async def test_p42_an_actor_that_refuses_makes_nobody_wait(how: str) -> None:
    async with running() as system:
        gate = anyio.Event()
        ref: ActorRef[Any, Any] = system.spawn(Runs, mailbox_capacity=1, on_full="refuse")
        await begin(ref, lambda _: gate.wait())
        await ref.tell(1)
        with pytest.raises(MailboxFull):
            await getattr(ref, how)(2)
        assert ref.pending() == 2
        gate.set()
        await ref.stop()
        assert system.dead_letters.count == 0
        with pytest.raises(ValueError, match="on_full"):
            system.spawn(Runs, on_full="block")  # type: ignore[arg-type]  # on purpose


# -- 43: ask_all


async def test_p43_results_are_in_order_and_all_are_sent_first() -> None:
    async with running() as system:
        gate = anyio.Event()

        async def slow(_actor: Runs) -> str:
            await gate.wait()
            return "slow"

        first, second = system.spawn(Runs), system.spawn(Runs)
        assert await ask_all() == []
        assert await ask_all(first.request(slow), second.request(lambda _: gate.set() or "quick")) == [
            "slow",
            "quick",
        ]
        request = first.request(7)
        assert [await request, await request] == [7, 7]
        with pytest.raises(TypeError, match="takes requests"):
            await ask_all(first)  # type: ignore[call-overload]  # on purpose


async def test_p43_the_first_error_in_order_is_raised_or_all_are_returned() -> None:
    def fail(text: str) -> Any:
        def job(_actor: Runs) -> None:
            raise ValueError(text)

        return job

    async with running() as system:
        refs = [system.spawn(Runs, policy=RESTART) for _ in range(3)]
        stopped = system.spawn(Runs)
        await stopped.stop()
        with pytest.raises(ValueError, match="one"):
            await ask_all(refs[0].request(1), refs[1].request(fail("one")), refs[2].request(fail("two")))
        found = await ask_all(
            refs[0].request(1), refs[1].request(fail("one")), stopped.request(2), return_exceptions=True
        )
        assert [type(each) for each in found] == [int, ValueError, ActorStopped]
        assert [letter.message for letter in system.dead_letters.messages] == [2]


async def test_p43_each_request_has_its_time_out() -> None:
    async with running() as system:
        ref, other = system.spawn(Runs), system.spawn(Runs)
        gate = anyio.Event()
        found = await ask_all(
            ref.request(lambda _: gate.wait(), timeout=0.05), other.request(2), return_exceptions=True
        )
        assert isinstance(found[0], AskTimeout)
        assert found[1] == 2
        gate.set()


async def test_p43_an_actor_whose_wait_cannot_end_gets_a_deadlock() -> None:
    async with running() as system:
        a, b, c = (system.spawn(Runs) for _ in range(3))

        async def ring(_actor: Runs) -> Any:
            async def back(_actor: Runs) -> Any:
                return await ask_all(c.request(1), a.request(1))

            return await ask_all(c.request(2), b.request(back), return_exceptions=True)

        found = await a.ask(ring)
        assert found[0] == 2
        assert isinstance(found[1], AskDeadlock)
        assert isinstance(
            (await a.ask(lambda _: ask_all(a.request(1), return_exceptions=True)))[0], AskDeadlock
        )
        assert await a.ask(1) == 1  # the wait has ended


async def test_p43_a_plain_ask_into_a_fork_is_found_too() -> None:
    async with running() as system:
        a, b, c = (system.spawn(Runs) for _ in range(3))

        async def back(_actor: Runs) -> Any:
            return await a.ask(1)

        found = await a.ask(lambda _: ask_all(c.request(1), b.request(back), return_exceptions=True))
        assert found[0] == 1
        assert isinstance(found[1], AskDeadlock)


# -- 44: forward


async def test_p44_the_target_answers_the_asker_directly() -> None:
    async with running() as system:
        target, between = system.spawn(Runs), system.spawn(Runs)

        async def forward(actor: Runs) -> Any:
            return await actor.context.forward(target, "passed on")

        assert await between.ask(forward) == "passed on"
        await between.tell(forward)
        await between.ask("behind it")
        await target.ask(1)
        assert await target.proxy().log == ["passed on", "passed on", 1]


async def test_p44_a_ring_through_a_forward_is_found() -> None:
    async with running() as system:
        a, b = system.spawn(Runs, policy=RESTART), system.spawn(Runs)

        async def forward(actor: Runs) -> Any:
            return await actor.context.forward(a, "back to the asker")

        with pytest.raises(AskDeadlock):
            await a.ask(lambda _: b.ask(forward))
        assert await ask_all(a.request(1), b.request(2)) == [1, 2]


async def test_p44_if_the_target_refuses_the_asker_gets_the_error_and_the_forwarder_continues() -> None:
    async with running() as system:
        target, between = system.spawn(Runs), system.spawn(Runs)
        await target.stop()
        went_on: list[str] = []

        async def forward(actor: Runs) -> Any:
            handed_on = await actor.context.forward(target, "refused")
            went_on.append("on")
            return handed_on

        with pytest.raises(ActorStopped):
            await between.ask(forward)
        await between.tell(forward)
        assert await between.ask(1) == 1
        assert went_on == ["on", "on"]
        assert [(letter.message, letter.expects_reply) for letter in system.dead_letters.messages] == [
            ("refused", True),
            ("refused", False),
        ]


async def test_p44_a_full_target_makes_the_forwarder_wait_not_the_asker_hang() -> None:
    async with running() as system:
        gate = anyio.Event()
        target: ActorRef[Any, Any] = system.spawn(Runs, mailbox_capacity=1)
        between = system.spawn(Runs)
        await begin(target, lambda _: gate.wait())
        await target.tell("fills")
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await between.ask(lambda actor: actor.context.forward(target, "passed on")))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await wait_until(lambda: target._cell.senders)
            gate.set()
        assert answers == ["passed on"]


async def test_p44_the_asker_waits_for_the_target_of_a_forward() -> None:
    async with running() as system:
        asker, between, target = (system.spawn(Runs, policy=RESTART) for _ in range(3))

        async def back(_actor: Runs) -> str:
            with pytest.raises(AskDeadlock):
                await asker.ask("in a ring")
            return "no ring"

        async def forward(actor: Runs) -> Any:
            return await actor.context.forward(target, back)

        assert await asker.ask(lambda _: between.ask(forward)) == "no ring"


@pytest.mark.parametrize("asks", [True, False])
async def test_p44_a_target_that_refuses_since_it_is_full_fails_the_asker_or_the_forwarder(
    asks: bool,
) -> None:
    async with running() as system:
        target: ActorRef[Any, Any] = system.spawn(Runs, mailbox_capacity=1, on_full="refuse")
        between = system.spawn(Runs)
        await begin(target, stuck)
        await target.tell("fills")
        found: list[str] = []

        async def forward(actor: Runs) -> Any:
            try:
                handed_on = await actor.context.forward(target, "refused")
            except MailboxFull:
                found.append("refused")
                return None
            found.append("went on")
            return handed_on

        if asks:
            with pytest.raises(MailboxFull):
                await between.ask(forward)
        else:
            await between.tell(forward)
        assert await between.ask(1) == 1
        assert found == ["went on" if asks else "refused"]
        await target.stop(timeout=0)


async def test_p44_a_forwarder_that_is_cancelled_while_it_waits_for_room_fails_the_asker() -> None:
    async with running() as system, anyio.create_task_group() as tasks:
        target: ActorRef[Any, Any] = system.spawn(Runs, mailbox_capacity=1)
        between = system.spawn(Runs)
        await begin(target, stuck)
        await target.tell("fills")

        async def ask() -> None:
            with pytest.raises(ActorStopped, match="the actor that forwarded the message was cancelled"):
                await between.ask(lambda actor: actor.context.forward(target, "passed on"))

        tasks.start_soon(ask)
        await wait_until(lambda: target._cell.senders)
        await between.stop(timeout=0)
        await target.stop(timeout=0)
        assert [letter.message for letter in system.dead_letters.messages] == ["fills"]


async def test_p44_a_forwarded_tell_whose_room_would_never_come_is_a_dead_letter() -> None:
    async with running() as system:
        ref: ActorRef[Any, Any] = system.spawn(Runs, mailbox_capacity=1)

        async def forward(actor: Runs) -> Any:
            actor.context.self_ref.tell_nowait("fills")
            return await actor.context.forward(ref, "to itself")

        await ref.tell(forward)
        await wait_until(lambda: system.dead_letters.messages)
        assert await ref.proxy().log == ["fills"]
        assert [(letter.message, letter.reason) for letter in system.dead_letters.messages] == [
            ("to itself", "dropped")
        ]


# -- 45, 46: replies that come later


class Owes(Runs):
    async def receive(self, message: Any) -> Any:
        if message == "later":
            handle = self.context.reply_later()
            self.log.append(handle)
            return handle.later
        if message == "drop":
            self.context.reply_later()
            return None
        return await super().receive(message)


@asynccontextmanager
async def owing(system: ActorSystem) -> AsyncIterator[tuple[ActorRef[Any, Any], list[Any], list[Any]]]:
    """Spawn an actor that owes an answer; yield it, its log and the answers. The ask ends first."""
    log: list[Any] = []
    answers: list[Any] = []
    ref = system.spawn(lambda: Owes(log), policy=RESTART)

    async def ask() -> None:
        try:
            answers.append(await ref.ask("later"))
        except Exception as error:
            answers.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await wait_until(lambda: log)
        yield ref, log, answers


async def test_p45_an_asker_that_has_gone_is_owed_nothing() -> None:
    """So a stop, which waits for the answers that are owed, ends."""
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Owes(log))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ref.ask, "later")
            await wait_until(lambda: log)
            tasks.cancel_scope.cancel()
        await ref.stop()
        assert not ref.is_alive()


async def test_p45_the_first_answer_counts_and_other_messages_are_handled_meanwhile() -> None:
    async with running() as system:
        async with owing(system) as (ref, log, answers):
            assert await ref.ask(1) == 1
            handle: Reply[Any] = log[0]
            assert not handle.done
            assert handle.send("answer") is True
            assert handle.done
            assert handle.send("again") is False
            assert handle.fail(ValueError()) is False
        assert answers == ["answer"]
        with pytest.raises(TypeError, match="exception"):
            handle.fail("no exception")  # type: ignore[arg-type]  # on purpose


async def test_p45_fail_raises_in_the_asker_and_not_in_the_actor() -> None:
    async with running() as system:
        async with owing(system) as (ref, log, answers):
            error = KeyError("no such thing")
            log[0].fail(error)
        assert answers == [error]
        assert await ref.proxy().log == log
        assert all(type(event).__name__ != "ActorCrashed" for event in system.events())


async def test_p45_a_dropped_handle_answers() -> None:
    async with running() as system:
        ref = system.spawn(Owes)
        with pytest.raises(ReplyDropped):
            await ref.ask("drop")
        async with owing(system) as (_, log, answers):
            held = [log.pop()]

            def collect() -> None:
                held.clear()
                gc.collect()

            thread = threading.Thread(target=collect)
            thread.start()
            while thread.is_alive():
                await anyio.lowlevel.checkpoint()
            thread.join()
        assert isinstance(answers[0], ReplyDropped)


async def test_p45_for_a_tell_nobody_waits() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Owes(log))
        await ref.tell("later")
        await wait_until(lambda: log)
        assert log[0].send(1) is False
        await ref.stop()


async def test_p45_an_asker_that_gave_up_gets_nothing_and_is_owed_nothing() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Owes(log))
        with pytest.raises(AskTimeout):
            await ref.ask("later", timeout=0.01)
        await ref.stop()  # not held up by a reply that nobody waits for
        assert log[0].send(1) is False


async def test_p45_the_asker_waits_for_the_actor_until_it_is_answered() -> None:
    log: list[Any] = []
    async with running() as system:
        ref, asker = system.spawn(lambda: Owes(log), policy=RESTART), system.spawn(Runs)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asker.ask, lambda _: ref.ask("later"))
            await wait_until(lambda: log)
            handle = log[0]

            async def asks_back(_actor: Runs) -> None:
                with pytest.raises(AskDeadlock):
                    await asker.ask(1)

            await ref.ask(asks_back)
            handle.send(1)
        assert await ref.ask(lambda _: asker.ask(2)) == 2


async def test_p46_a_stop_is_not_over_while_a_reply_is_owed_and_its_own_ticks_go_on() -> None:
    async with running() as system:
        async with owing(system) as (ref, log, answers), anyio.create_task_group() as tasks:
            ticks: list[int] = []
            await ref.ask(
                lambda actor: actor.context.timers.start_fixed_delay("a", 0.001, call=lambda: ticks.append(1))
            )
            tasks.start_soon(ref.stop)
            await wait_until(lambda: not ref.is_alive())
            seen = len(ticks)
            await wait_until(lambda: len(ticks) >= seen + 3)
            assert answers == []
            with pytest.raises(ActorStopped):
                await ref.tell("refused")
            log[0].send("at last")
        assert answers == ["at last"]


async def test_p46_a_periodic_timer_alone_keeps_no_drain_open() -> None:
    clock = ManualClock()
    async with running(time_fn=clock) as system:
        ref = system.spawn(Runs)

        async def busy(actor: Runs) -> None:
            actor.context.timers.start_fixed_rate("a", 1, call=lambda: clock.advance(5))
            clock.advance(1)

        await ref.ask(busy)
        await ref.stop()


async def test_p46_past_the_time_out_and_at_a_restart_the_asker_gets_actor_stopped() -> None:
    async with running() as system:
        async with owing(system) as (ref, log, answers):
            await ref.stop(timeout=0.01)
        assert isinstance(answers[0], ActorStopped)
        async with owing(system) as (ref, log, answers):

            def fail(_actor: Runs) -> None:
                raise ValueError("why")

            with pytest.raises(ValueError, match="why"):
                await ref.ask(fail)
        assert isinstance(answers[0], ActorStopped)
        assert isinstance(answers[0].__cause__, ValueError)
        assert log[0].send(1) is False


# -- 47: unhandled


async def test_p47_an_unhandled_message_is_one_dead_letter_and_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Picky(Actor):
        async def receive(self, message: Any) -> Any:
            match message:
                case int():
                    return message
                case _:
                    return self.context.unhandled(message)

    async with running() as system:
        ref = system.spawn(Picky)
        with pytest.raises(UnhandledMessage, match="type str"):
            await ref.ask("what")
        await ref.tell("this")
        assert await ref.ask(1) == 1
        letters = [
            (letter.message, letter.expects_reply, letter.reason) for letter in system.dead_letters.messages
        ]
        assert letters == [("what", True, "unhandled"), ("this", False, "unhandled")]
        assert all(type(event).__name__ != "ActorCrashed" for event in system.events())
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2


async def test_spawn_or_get_never_makes_two() -> None:
    async with running() as system:
        first = system.spawn_or_get(Runs, name="one")
        assert system.spawn_or_get(Runs, name="one") == first

        def nested() -> Runs:
            system.spawn_or_get(Runs, name="two")
            return Runs()

        second = system.spawn_or_get(nested, name="two")
        assert system.ref_for_name("two") == second
        await first.stop()
        assert system.spawn_or_get(Runs, name="one") != first


async def test_pending_counts_to_zero() -> None:
    async with running() as system:
        probe = Probe(system)
        await probe.ref.tell(1)
        assert probe.ref.pending() >= 1
        await probe.expect(1)
        await wait_until(lambda: probe.ref.pending() == 0)
