"""Promises 24 to 29: timers of actors and the receive timeout."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorRef, ActorSystem, MailboxFull, Strategy, SupervisionPolicy, SupervisorDecision
from papyra.testing import ManualClock, run_seeded

from .support import Runs, running


async def settled(ref: Any) -> None:
    """Return when everything that was queued is handled."""
    while ref.pending():
        await anyio.lowlevel.checkpoint()


async def advance(clock: ManualClock, ref: Any, *steps: float) -> None:
    for step in steps:
        clock.advance(step)
        await settled(ref)


def timers(do: Callable[[Any], Any]) -> Callable[[Actor], Any]:
    return lambda actor: do(actor.context.timers)


@asynccontextmanager
async def ticking() -> AsyncIterator[tuple[ManualClock, list[Any], ActorRef[Any, Any]]]:
    """Run an actor that notes its messages; yield its clock, its notes and its reference."""
    clock, log = ManualClock(), []
    async with running(time_fn=clock) as system:
        yield clock, log, system.spawn(lambda: Runs(log))


# -- 24: one timer for each key


async def test_p24_a_key_that_is_started_again_forgets_the_tick_that_was_queued() -> None:
    async with ticking() as (clock, log, ref):

        async def busy(actor: Runs) -> None:
            actor.context.timers.start_single("a", 1, send="old")
            actor.context.timers.start_single("b", 1, send="cancelled")
            clock.advance(1)  # both are queued now, behind this message
            actor.context.timers.start_single("a", 1, send="new")
            assert actor.context.timers.cancel("b") is True
            assert actor.context.timers.cancel("b") is False

        await ref.ask(busy)
        await settled(ref)
        assert log == []
        await advance(clock, ref, 1)
        assert log == ["new"]


async def test_p24_an_instance_sees_no_tick_of_the_one_before_it() -> None:
    clock, log = ManualClock(), []

    class Fails(Runs):
        async def on_stop(self) -> None:
            log.append(self.context.timers.keys())
            self.context.timers.start_single("late", 0, send="from on_stop")

    async with running(time_fn=clock) as system:
        ref = system.spawn(lambda: Fails(log), policy=SupervisionPolicy(Strategy.RESTART))

        async def fail(actor: Runs) -> None:
            actor.context.timers.start_fixed_rate("a", 1, send="old")
            clock.advance(1)
            raise ValueError("fails")

        with pytest.raises(ValueError, match="fails"):
            await ref.ask(fail)
        await settled(ref)
        await advance(clock, ref, 1, 1)
        assert log == [()]


async def test_p24_timers_stay_when_the_parent_says_resume() -> None:
    clock, log = ManualClock(), []

    class Parent(Actor):
        async def receive(self, message: Any) -> Any:
            return self.context.spawn_child(lambda: Runs(log))

        async def on_child_failure(self, child_ref: Any, exc: Exception) -> SupervisorDecision:
            return SupervisorDecision.RESUME

    async with running(time_fn=clock) as system:
        ref = await system.spawn(Parent).ask(None)

        def fail(actor: Runs) -> None:
            actor.context.timers.start_fixed_delay("a", 1, send="tick")
            raise ValueError("fails")

        with pytest.raises(ValueError, match="fails"):
            await ref.ask(fail)
        await ref.ask("resumed")
        await advance(clock, ref, 1, 1)
        assert log == ["resumed", "tick", "tick"]


# -- 25: at most one tick, and always room for it


async def test_p25_a_tick_needs_no_room_and_only_one_is_queued() -> None:
    clock, log = ManualClock(), []
    async with running(time_fn=clock) as system:
        ref = system.spawn(lambda: Runs(log), mailbox_capacity=1, on_full="refuse")

        def busy(actor: Runs) -> None:
            actor.context.timers.start_fixed_rate("a", 1, send="tick")
            ref.tell_nowait("fills the mailbox")
            for _ in range(5):
                clock.advance(1)
            with pytest.raises(MailboxFull):
                ref.tell_nowait("one too many")
            assert actor.context.mailbox_depth == 1

        await ref.ask(busy)
        await settled(ref)
        assert log == ["fills the mailbox", "tick"]
    assert system.dead_letters.count == 0


async def test_p25_a_tick_is_never_a_dead_letter() -> None:
    clock = ManualClock()
    async with running(time_fn=clock) as system:
        ref = system.spawn(Runs)

        def halt(actor: Runs) -> None:
            actor.context.timers.start_single("a", 1, send="tick")
            clock.advance(1)
            actor.context.stop_self()

        await ref.ask(halt)
        await ref.stop()
        assert system.dead_letters.count == 0


# -- 26: fixed delay and fixed rate


async def test_p26_fixed_delay_counts_from_the_end_of_handling() -> None:
    clock, log = ManualClock(0.0), []
    async with running(time_fn=clock) as system:
        ref = system.spawn(Runs)

        def slow() -> None:
            log.append(clock())
            clock.advance(5)  # longer than the delay

        await ref.ask(timers(lambda t: t.start_fixed_delay("a", 2, call=slow, initial_delay=1)))
        await advance(clock, ref, 1, 1, 1, 1)
        assert log == [1, 8]


async def test_p26_fixed_rate_holds_the_grid_and_skips_what_it_missed() -> None:
    clock, log = ManualClock(0.0), []
    async with running(time_fn=clock) as system:
        ref = system.spawn(Runs)
        await ref.ask(
            timers(lambda t: t.start_fixed_rate("a", 2, call=lambda: log.append(clock()), initial_delay=1))
        )
        await advance(clock, ref, 1, 1, 1, 10.5, 1, 0.5, 2)
        assert log == [1, 3, 13.5, 15, 17]  # 5 to 13 are one tick, and the grid is 1 + n x 2 again


async def test_p26_a_tick_that_comes_due_while_the_last_is_handled_comes_once_after_it() -> None:
    clock, log = ManualClock(0.0), []
    async with running(time_fn=clock) as system:
        ref = system.spawn(Runs)

        async def slow() -> None:
            log.append(clock())
            if len(log) == 1:
                for _ in range(3):
                    clock.advance(1.25)
                    await anyio.lowlevel.checkpoint()

        await ref.ask(timers(lambda t: t.start_fixed_rate("a", 1, call=slow)))
        await advance(clock, ref, 1)
        assert log == [1, 4.75]
        await advance(clock, ref, 0.25, 1)
        assert log == [1, 4.75, 5, 6]


# -- 27: the system's clock


async def test_p27_due_timers_come_in_order_of_time_and_ties_in_order_of_start() -> None:
    clock, log = ManualClock(), []
    async with running(time_fn=clock) as system:
        ref = system.spawn(lambda: Runs(log))

        def start(actor: Runs) -> None:
            own = actor.context.timers
            own.start_single("c", 3, send="c")
            own.start_single("a", 1, send="a")
            own.start_single("tie 1", 2, send="tie 1")
            own.start_single("late", 1, send="late")
            own.start_single("tie 2", 2, send="tie 2")
            own.start_single("late", 2, send="late")  # started after tie 2
            own.start_fixed_rate("every", 0.9, send="every")

        await ref.ask(start)
        await advance(clock, ref, 100)  # one jump is one pause: the period inside of it ticks once
        assert log == ["every", "a", "tie 1", "tie 2", "late", "c"]
        assert system.monotonic() == clock()


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, -math.inf])
async def test_p27_a_bad_delay_is_a_value_error(delay: float) -> None:
    async with running(time_fn=ManualClock()) as system:
        ref = system.spawn(Runs)

        def start(actor: Runs) -> None:
            own = actor.context.timers
            for bad in (
                lambda: own.start_single("a", delay, send=1),
                lambda: own.start_fixed_delay("a", delay, send=1),
                lambda: own.start_fixed_rate("a", delay, send=1),
                lambda: own.start_fixed_rate("a", 0, send=1),
                lambda: own.start_fixed_delay("a", 0, send=1),
                lambda: own.start_fixed_delay("a", 1, send=1, initial_delay=delay),
                lambda: actor.context.set_receive_timeout(delay, send=1),
                lambda: actor.context.set_receive_timeout(0, send=1),
            ):
                with pytest.raises(ValueError, match="0 seconds and finite"):
                    bad()
            assert own.keys() == ()

        await ref.ask(start)


async def test_p27_exactly_one_of_send_and_call() -> None:
    async with running(time_fn=ManualClock()) as system:
        ref = system.spawn(Runs)

        def start(actor: Runs) -> None:
            with pytest.raises(TypeError, match="exactly one of send= and call="):
                actor.context.timers.start_single("a", 1)
            with pytest.raises(TypeError, match="exactly one of send= and call="):
                actor.context.timers.start_single("a", 1, send=None, call=lambda: None)
            with pytest.raises(TypeError, match="exactly one of send= and call="):
                actor.context.set_receive_timeout(1)
            with pytest.raises(TypeError, match="takes neither send= nor call="):
                actor.context.set_receive_timeout(None, send=None)
            with pytest.raises(TypeError, match="must be a plain or async function"):
                actor.context.timers.start_single("a", 1, call="text")  # type: ignore[arg-type]  # on purpose
            actor.context.timers.start_single(("any", "key"), 1, send=None)
            assert actor.context.timers.is_active(("any", "key"))
            assert actor.context.timers.keys() == (("any", "key"),)
            assert repr(actor.context.timers) == "<timers of actor local:1 (Runs): [('any', 'key')]>"

        await ref.ask(start)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_p27_timers_run_in_virtual_time(backend: Any) -> None:
    async def main() -> list[Any]:
        log: list[Any] = []
        async with ActorSystem() as system:
            ref = system.spawn(lambda: Runs(log))
            began = system.monotonic()
            await ref.ask(timers(lambda t: t.start_fixed_rate("a", 3600, send="hour")))
            await anyio.sleep(3600 * 3 + 1)
            assert system.monotonic() - began == pytest.approx(3600 * 3 + 1)
        return log

    assert run_seeded(1, main, backend=backend) == ["hour"] * 3


# -- 28: the receive timeout


def idle_after(seconds: float | None, **what: Any) -> Callable[[Actor], Any]:
    return lambda actor: actor.context.set_receive_timeout(seconds, **what)


async def test_p28_it_comes_again_until_it_is_ended() -> None:
    async with ticking() as (clock, log, ref):
        await ref.ask(idle_after(2, send="idle"))
        await advance(clock, ref, 1, 1, 2, 1)
        assert log == ["idle", "idle"]
        await ref.ask(idle_after(None))
        await advance(clock, ref, 10)
        assert log == ["idle", "idle"]


async def test_p28_it_counts_from_the_end_of_the_last_handling() -> None:
    async with ticking() as (clock, log, ref):

        def slow(actor: Runs) -> None:
            actor.context.set_receive_timeout(2, send="idle")
            clock.advance(5)

        await ref.ask(slow)
        await settled(ref)
        await advance(clock, ref, 1)
        assert log == []
        await ref.ask(lambda actor: clock.advance(7))  # busy when it comes due
        await settled(ref)
        await advance(clock, ref, 1.5)
        assert log == []
        await advance(clock, ref, 0.5)
        assert log == ["idle"]


@pytest.mark.parametrize("what", ["tell", "ask", "proxy", "pipe"])
async def test_p28_all_but_its_own_ticks_is_activity(what: str) -> None:
    async with ticking() as (clock, log, ref):
        await ref.ask(idle_after(2, send="idle"))
        gate = anyio.Event()
        if what == "pipe":
            await ref.ask(
                lambda actor: actor.context.pipe_to_self(gate.wait, lambda _: log.append("piped")) and None
            )
        await settled(ref)
        await advance(clock, ref, 1)
        if what == "tell":
            await ref.tell("message")
        elif what == "ask":
            await ref.ask("message")
        elif what == "proxy":
            await ref.proxy().log
        else:
            gate.set()
            while "piped" not in log:
                await anyio.lowlevel.checkpoint()
        await settled(ref)
        await advance(clock, ref, 1.5)
        assert "idle" not in log
        await advance(clock, ref, 0.5)
        assert log[-1] == "idle"


@pytest.mark.parametrize("with_send", [True, False])
async def test_p28_ticks_of_its_own_timers_are_not_activity(with_send: bool) -> None:
    async with ticking() as (clock, log, ref):
        await ref.ask(idle_after(2.5, send="idle"))
        tick: dict[str, Any] = {"send": "tick"} if with_send else {"call": lambda: log.append("tick")}
        await settled(ref)
        await ref.ask(timers(lambda t: t.start_fixed_rate("a", 1, **tick)))
        await settled(ref)
        await advance(clock, ref, *[0.5] * 6)
        assert log == ["tick", "tick", "idle", "tick"]


async def test_p28_a_timeout_that_came_due_during_a_tick_comes_right_after_it() -> None:
    async with ticking() as (clock, log, ref):
        await ref.ask(idle_after(2, send="idle"))
        await ref.ask(
            timers(lambda t: t.start_single("a", 1, call=lambda: (clock.advance(1.5), log.append("tick"))))
        )
        await settled(ref)
        await advance(clock, ref, 1)
        assert log == ["tick", "idle"]


async def test_p28_it_and_a_behaviour_do_not_lose_each_other() -> None:
    clock, log = ManualClock(), []

    async def other(message: Any) -> Any:
        log.append(("other", message))

    async with running(time_fn=clock) as system:
        ref = system.spawn(lambda: Runs(log))
        await ref.ask(idle_after(2, send="idle"))
        await ref.ask(lambda actor: actor.become(other))
        await ref.tell(1)
        await settled(ref)
        await advance(clock, ref, 2)
        assert log == [("other", 1), ("other", "idle")]


# -- 29: cost


async def test_p29_no_call_moves_more_than_a_few_of_a_million() -> None:
    """A clean-up of all timers at once would show as a heap that shrinks by more than four entries in one
    call.
    """
    clock = ManualClock()
    async with running(time_fn=clock) as system:
        core = system._core
        assert core is not None
        before = len(core.timers)
        many = [core.timers.after(1000 + n % 97, lambda: None) for n in range(5_000)]
        sizes = [len(core.timers._heap)]
        for timer in many:
            timer.cancel()
            sizes.append(len(core.timers._heap))
        for _ in range(5_000):
            core.timers.after(5_000, lambda: None)
            sizes.append(len(core.timers._heap))
        steps = [new - old for old, new in pairwise(sizes) if new]
        assert max(steps) <= 5  # one new one, and four leaves
        assert len(core.timers) <= before + 2 * 5_000


async def test_p29_a_later_time_costs_no_push() -> None:
    clock, log = ManualClock(), []
    async with running(time_fn=clock) as system:
        core = system._core
        assert core is not None
        ref = system.spawn(lambda: Runs(log))

        def debounce(actor: Runs) -> None:
            for n in range(1_000):
                actor.context.timers.start_single("a", 1 + n / 1_000, send=n)

        before = len(core.timers)
        await ref.ask(debounce)
        assert len(core.timers) == before + 1
        await advance(clock, ref, 1.5, 1)
        assert log == [999]
