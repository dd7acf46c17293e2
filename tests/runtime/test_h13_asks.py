"""H13, H17 to H20: references, asks that nobody waits for, errors that are replies, and names."""

from __future__ import annotations

import logging
import pickle
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from papyra import (
    Actor,
    ActorContext,
    ActorRef,
    ActorSystem,
    AskTimeout,
    Reject,
    Strategy,
    SupervisionPolicy,
    SupervisorDecision,
    ask_all,
)
from papyra import events as ev

from .support import Runs


def held(gate: anyio.Event) -> Callable[[Runs], Awaitable[None]]:
    """Return a message that holds an actor until ``gate`` is set."""

    async def hold(_: Runs) -> None:
        await gate.wait()

    return hold


async def test_h13_the_own_reference_is_made_once_and_is_cheap() -> None:
    async def own(actor: Runs) -> tuple[ActorRef[Any, Any], bool, float]:
        context = actor.context
        best = float("inf")
        for _ in range(20):
            began = time.process_time()
            for _ in range(2_000):
                actor.context.self_ref  # noqa: B018 - it is measured
            best = min(best, time.process_time() - began)
        return context.self_ref, context.self_ref is context.self_ref, best / 2_000

    async with ActorSystem() as system:
        ref = system.spawn(Runs)
        mine, same, seconds = await ref.ask(own)
        assert mine == ref
        assert same
        assert seconds < 0.5e-6  # measured at 0.06 us; the promise is 0.1 us


async def test_h13_a_context_is_made_once_for_each_instance_of_an_actor() -> None:
    assert Actor.__dict__["context"] is Actor.context
    with pytest.raises(RuntimeError, match=r"Runs\.context does not exist yet: the actor is not spawned"):
        Runs().context  # noqa: B018 - reading it raises

    async def fail(actor: Runs) -> None:
        raise ValueError("again")

    async def own(actor: Runs) -> ActorContext:
        assert actor.context is actor.context
        return actor.context

    async with ActorSystem() as system:
        ref = system.spawn(Runs, policy=SupervisionPolicy(Strategy.RESTART))
        first = await ref.ask(own)
        with pytest.raises(ValueError, match="again"):
            await ref.ask(fail)
        second = await ref.ask(own)
        assert first is not second
        assert first.self_ref == second.self_ref == ref


async def test_h13_the_own_reference_cannot_be_set() -> None:
    async def replace(actor: Runs) -> None:
        with pytest.raises(AttributeError, match="'self_ref' of an actor's context can't be set"):
            actor.context.self_ref = actor.context.self_ref
        with pytest.raises(AttributeError):
            del actor.context.self_ref

    async with ActorSystem() as system:
        await system.spawn(Runs).ask(replace)


async def test_h17_references_of_two_systems_are_never_equal() -> None:
    async with ActorSystem() as one, ActorSystem() as other:
        assert one.system_id == other.system_id == "local"
        mine, theirs = one.spawn(Runs), other.spawn(Runs)
        assert mine.address == theirs.address
        assert mine != theirs
        assert len({mine, theirs}) == 2
        again = one.ref_for(mine.address)
        assert again is not mine
        assert again == mine
        assert hash(again) == hash(mine)
        assert weakref.ref(mine)() is mine


async def test_h18_asks_that_timed_out_are_skipped_and_counted() -> None:
    gate = anyio.Event()
    async with ActorSystem() as system:
        ref = system.spawn(Runs)
        await ref.tell(held(gate))

        async def give_up(number: int) -> None:
            with pytest.raises(AskTimeout):
                await ref.ask(number, timeout=0.01)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(give_up, number)
        gate.set()
        assert await ref.ask("now") == "now"

        async def look(actor: Runs) -> list[Any]:
            return actor.log

        assert await ref.ask(look) == ["now"]
        assert system.control_panel()["expired_asks"] == 20
        assert system.dead_letters.messages == []
        (info,) = system.list_actors()
        assert info.processed <= 3  # the message that held it, "now" and perhaps the look


async def test_h18_an_ask_that_was_cancelled_is_skipped_and_a_told_message_is_not() -> None:
    gate = anyio.Event()
    async with ActorSystem() as system:
        ref = system.spawn(Runs)
        await ref.tell(held(gate))
        with anyio.move_on_after(0.01):
            await ref.ask("cancelled")
        with anyio.move_on_after(0.01):
            await ask_all(ref.request("first"), ref.request("second"))
        await ref.tell("told")
        await ref.proxy().log.append.defer("deferred")
        gate.set()
        assert await ref.proxy().log == ["told", "deferred"]
        assert system.control_panel()["expired_asks"] == 3


async def test_h18_at_a_stop_an_expired_ask_is_not_a_dead_letter() -> None:
    async def wait_forever(_: Runs) -> None:
        await anyio.sleep_forever()

    async with ActorSystem() as system:
        ref = system.spawn(Runs)
        await ref.tell(wait_forever)
        with pytest.raises(AskTimeout):
            await ref.ask("gone", timeout=0.01)
        await ref.tell("left")
        await system.stop(ref, timeout=0.01)
        assert [letter.message for letter in system.dead_letters.messages] == ["left"]
        assert system.control_panel()["expired_asks"] == 1


async def test_h18_a_message_whose_handling_has_begun_is_finished() -> None:
    seen: list[bool] = []
    gate, done = anyio.Event(), anyio.Event()

    async def work(actor: Runs) -> None:
        seen.append(actor.context.reply_expected)
        await gate.wait()
        seen.append(actor.context.reply_expected)
        done.set()

    async with ActorSystem() as system:
        ref = system.spawn(Runs)
        with pytest.raises(AskTimeout):
            await ref.ask(work, timeout=0.05)
        gate.set()
        await done.wait()
        assert seen == [True, False]
        assert system.control_panel()["expired_asks"] == 0
        seen.clear()
        await ref.tell(work)
        await ref.ask("behind it")
        assert seen == [False, False]
        seen.clear()
        await ask_all(ref.request(work), ref.request(work))
        assert seen == [True] * 4


async def test_h18_a_late_answer_to_one_of_several_asks_arrives() -> None:
    """The second of several asks had no waiter yet: its `Reply` took it for one that nobody waits for."""

    async def later(actor: Runs) -> Any:
        handle = actor.context.reply_later()
        actor.context.start_soon(answer, handle)
        return handle.later

    async def answer(handle: Any) -> None:
        await anyio.lowlevel.checkpoint()
        assert handle.send("late")

    async with ActorSystem() as system:
        ref = system.spawn(Runs)
        with anyio.fail_after(10):
            assert await ask_all(ref.request(later), ref.request(later)) == ["late", "late"]


@pytest.mark.parametrize("policy", [None, SupervisionPolicy(Strategy.RESTART)])
async def test_h19_a_rejection_answers_the_asker_and_is_not_a_failure(
    policy: SupervisionPolicy | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def reject(_: Runs) -> None:
        raise Reject(LookupError("no such order"))

    class Strict(Runs):
        async def look_up(self) -> None:
            await reject(self)

    caplog.set_level(logging.INFO)
    async with ActorSystem() as system:
        ref = system.spawn(Strict, policy=policy)
        await ref.ask("state")
        with pytest.raises(LookupError, match="no such order"):
            await ref.ask(reject)
        with pytest.raises(LookupError, match="no such order"):
            await ref.proxy().look_up()
        await ref.tell(reject)
        await ref.proxy().look_up.defer()
        assert await ref.proxy().log == ["state"]  # the same instance, and it goes on
        assert [type(event) for event in system.events()] == [ev.ActorStarted]
        assert system.dead_letters.messages == []
    assert caplog.messages == []


async def test_h19_reject_takes_an_exception_and_is_a_failure_outside_of_receive() -> None:
    with pytest.raises(TypeError, match="takes an exception"):
        Reject("no")  # type: ignore[arg-type]  # the mistake
    copy = pickle.loads(pickle.dumps(Reject(ValueError("x"))))
    assert isinstance(copy.error, ValueError)

    class Bad(Actor):
        async def on_start(self) -> None:
            raise Reject(ValueError("x"))

    async with ActorSystem() as system:
        system.spawn(Bad)
        await system.wait_for_event(ev.ActorCrashed, timeout=10)


async def test_h20_names_with_their_addresses_oldest_first() -> None:
    async with ActorSystem() as system:
        b, a = system.spawn(Runs, name="b"), system.spawn(Runs, name="a")
        names = system.list_names()
        assert names == {"b": b.address, "a": a.address}
        assert list(names) == ["b", "a"]
        names.clear()
        assert len(system.list_names()) == 2


def test_h20_strategies_and_decisions_are_strings() -> None:
    assert Strategy.RESTART == "restart"
    assert f"{SupervisorDecision.IGNORE}" == "ignore"
    assert Strategy("stop") is Strategy.STOP
