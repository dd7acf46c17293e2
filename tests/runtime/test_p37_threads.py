"""Promises 37 to 41: blocking code, background work, and calls from other threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import (
    ActorRef,
    ActorStopped,
    ActorSystem,
    AskDeadlock,
    AskTimeout,
    Portal,
    Settings,
    SupervisorDecision,
)
from papyra._runtime.process.threads import BlockingJob
from papyra.exceptions import SystemNotRunning

from . import support
from .support import RESTART, running


class Runs(support.Runs):
    """Notes also that it stops."""

    async def on_stop(self) -> None:
        self.log.append("on_stop")


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - other threads change what it waits for
        await anyio.sleep(0.001)


# -- 37: blocking code


async def test_p37_run_blocking_takes_no_token_of_the_default_limiter() -> None:
    async with running(settings=Settings(blocking_threads=2)) as system:
        ref = system.spawn(Runs)
        before = anyio.to_thread.current_default_thread_limiter().borrowed_tokens
        seen: list[float] = []

        def work(number: int) -> int:
            seen.append(system.control_panel()["threads"])
            return number + 1

        async def job(actor: Runs) -> Any:
            result = await actor.context.run_blocking(work, 1)
            assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == before
            return result

        assert await ref.ask(job) == 2
        assert seen == [1]
        assert system.control_panel()["threads"] == 0

        def fail() -> None:
            raise KeyError("in the thread")

        async def fails(actor: Runs) -> None:
            with pytest.raises(KeyError, match="in the thread"):
                await actor.context.run_blocking(fail)

        await ref.ask(fails)


async def test_p37_cancelled_before_it_has_a_token_nothing_ran() -> None:
    async with running(settings=Settings(blocking_threads=1)) as system:
        first, second = system.spawn(Runs), system.spawn(Runs)
        gate, ran = threading.Event(), []
        await first.tell(lambda actor: actor.context.run_blocking(gate.wait, 10))
        await until(lambda: system.control_panel()["threads"] == 1)

        async def waits(actor: Runs) -> str:
            with anyio.move_on_after(0.01):
                await actor.context.run_blocking(ran.append, 1)
            return "cancelled"

        assert await second.ask(waits) == "cancelled"
        gate.set()
        await first.ask(1)
        assert ran == []


@pytest.mark.parametrize("abandon", [True, False])
async def test_p37_cancelled_later_it_waits_or_leaves_the_thread(abandon: bool) -> None:
    async with running() as system:
        ref = system.spawn(Runs)
        gate, begun = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            gate.wait(10)

        async def job(actor: Runs) -> float:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:

                    async def cancel() -> None:
                        await until(begun.is_set)
                        scope.cancel()
                        if not abandon:
                            gate.set()

                    tasks.start_soon(cancel)
                    await actor.context.run_blocking(work, abandon_on_cancel=abandon)
            return float(system.control_panel()["threads"])

        assert await ref.ask(job) == (1 if abandon else 0)
        gate.set()
        await until(lambda: system.control_panel()["threads"] == 0)


async def test_p37_a_job_that_was_left_before_its_thread_began_runs_nothing() -> None:
    ran: list[int] = []
    async with running() as system:
        core = system._core
        assert core is not None
        job = BlockingJob(core.rt.threads, None, ran.append, (1,))
        assert not job.leave()
        assert job() is None
    assert ran == []


async def test_p37_a_thread_that_goes_on_does_not_slow_down_a_stop() -> None:
    gate = threading.Event()
    async with running(shutdown_timeout=1.0) as system:
        ref = system.spawn(Runs)
        await ref.tell(lambda actor: actor.context.run_blocking(gate.wait, 20))
        await until(lambda: system.control_panel()["threads"] == 1)
        began = time.monotonic()
        await ref.stop(timeout=0.1)
        assert time.monotonic() - began < 8
        gate.set()


async def test_p37_the_thread_sees_a_copy_of_the_context_variables() -> None:
    variable = contextvars.ContextVar("variable", default="default")

    def work() -> str:
        seen = variable.get()
        variable.set("set in the thread")
        return seen

    async def job(actor: Runs) -> list[str]:
        variable.set("set in the actor")
        return [await actor.context.run_blocking(work), variable.get()]

    async with running() as system:
        assert await system.spawn(Runs).ask(job) == ["set in the actor", "set in the actor"]


# -- 38: background work


async def test_p38_then_runs_in_the_actor_and_catch_gets_the_error() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Runs(log))

        async def value() -> str:
            await anyio.lowlevel.checkpoint()
            return "value"

        async def fail() -> None:
            raise ValueError("why")

        async def later(error: Exception) -> None:
            await anyio.lowlevel.checkpoint()
            log.append(repr(error))

        def start(actor: Runs) -> None:
            actor.context.pipe_to_self(
                value, lambda found: log.append((found, system is actor.context.system))
            )
            actor.context.pipe_to_self(value(), log.append)  # an awaitable will do
            actor.context.pipe_to_self(fail, log.append, catch=later)

        await ref.ask(start)
        await until(lambda: len(log) == 3)
        assert sorted(map(str, log)) == sorted(["('value', True)", "value", "ValueError('why')"])


@pytest.mark.parametrize("how", ["pipe", "start_soon"])
async def test_p38_an_error_without_catch_is_a_failure_of_the_actor(how: str) -> None:
    log: list[Any] = []

    async def fail(text: str = "why") -> None:
        raise ValueError(text)

    class Parent(Runs):
        async def on_child_failure(self, child_ref: Any, exc: Exception) -> SupervisorDecision:
            self.log.append(repr(exc))
            return SupervisorDecision.RESUME

    async with running() as system:
        parent = system.spawn(lambda: Parent(log))
        ref = await parent.ask(lambda actor: actor.context.spawn_child(Runs))
        if how == "pipe":
            await ref.ask(lambda actor: actor.context.pipe_to_self(fail, print) and None)
        else:
            await ref.ask(lambda actor: actor.context.start_soon(fail, "soon", name="mine").name)
        await until(lambda: log)
        assert log == [f"ValueError('{'why' if how == 'pipe' else 'soon'}')"]
        assert await ref.ask(1) == 1


@pytest.mark.parametrize("end", ["restart", "stop", "cancel"])
async def test_p38_it_is_cancelled_and_over_before_on_stop(end: str) -> None:
    log: list[Any] = []

    async def work() -> None:
        try:
            log.append("begun")
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
            log.append("over")

    async with running() as system:
        ref = system.spawn(lambda: Runs(log), policy=RESTART)
        pipes: list[Any] = []
        await ref.ask(lambda actor: pipes.append(actor.context.start_soon(work)))
        await until(lambda: "begun" in log)

        def fail(_actor: Runs) -> None:
            raise ValueError("restart")

        if end == "restart":
            with pytest.raises(ValueError, match="restart"):
                await ref.ask(fail)
            assert await ref.ask("next") == "next"
            assert log == ["begun", "over", "on_stop", "next"]
        elif end == "stop":
            await ref.stop()
            assert log == ["begun", "over", "on_stop"]
        else:
            pipes[0].cancel()
            await until(lambda: "over" in log)
            assert await ref.ask("next") == "next"  # a cancellation does not count as a failure


async def test_p38_a_result_that_was_queued_for_an_old_instance_is_not_run() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Runs(log), policy=RESTART)

        async def busy(actor: Runs) -> None:
            async def quick() -> str:
                return "stale"

            actor.context.pipe_to_self(quick, log.append)
            await until(lambda: actor._papyra_cell.resources.queued)  # type: ignore[union-attr]  # it is spawned
            raise ValueError("restart")

        with pytest.raises(ValueError, match="restart"):
            await ref.ask(busy)
        assert await ref.ask("next") == "next"
        assert log == ["on_stop", "next"]


async def test_p38_its_asks_are_a_tasks_own_and_stash_is_refused_there() -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Runs(log))

        async def work(actor: Runs) -> None:
            log.append(await ref.ask("asked itself"))
            try:
                actor.context.reply_later()
            except RuntimeError as error:
                log.append(str(error))

        await ref.ask(lambda actor: actor.context.start_soon(work, actor) and None)
        await until(lambda: len(log) == 3)
        assert log[:2] == ["asked itself", "asked itself"]
        assert "background task" in log[2]


# -- 39 to 41: the portal


async def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in threads, while the event loop goes on."""
    errors: list[BaseException] = []

    def main(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=main, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    await until(lambda: not any(thread.is_alive() for thread in threads))
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("capacity", [1, 1024])
async def test_p39_tell_keeps_the_order_of_each_thread_full_mailbox_or_not(capacity: int) -> None:
    log: list[Any] = []
    async with running() as system:
        ref = system.spawn(lambda: Runs(log), mailbox_capacity=capacity)
        portal = system.portal(window=8)
        await in_threads(4, lambda number: [portal.tell(ref, (number, n)) for n in range(200)] and None)
        await until(lambda: not portal._under_way)
        await ref.stop()
        order: dict[int, list[int]] = defaultdict(list)
        for number, n in log[:-1]:
            order[number].append(n)
        assert dict(order) == {number: list(range(200)) for number in range(4)}
    assert system.dead_letters.count == 0


async def test_p39_a_tell_to_a_stopped_actor_raises_and_is_one_dead_letter() -> None:
    async with running() as system:
        ref, full = system.spawn(Runs), system.spawn(Runs, mailbox_capacity=1, on_full="refuse")
        portal = system.portal()
        await ref.stop()

        def work(_number: int) -> None:
            with pytest.raises(ActorStopped):
                portal.tell(ref, "late")

        await in_threads(1, work)
        await until(lambda: system.dead_letters.count)
        gate = anyio.Event()
        await full.tell(lambda _: gate.wait())
        await until(lambda: not full._cell.box)
        await in_threads(1, lambda _: [portal.tell(full, n) for n in range(3)] and None)
        await until(lambda: system.dead_letters.count == 3)
        gate.set()
        reasons = [(letter.message, letter.reason) for letter in system.dead_letters.messages]
        assert reasons == [("late", "stopped"), (1, "dropped"), (2, "dropped")]


async def test_p40_ask_returns_raises_and_never_hangs() -> None:
    async with running() as system:
        ref, stopped, slow = (system.spawn(Runs, policy=RESTART) for _ in range(3))
        await stopped.stop()
        portal = system.portal()
        gate = anyio.Event()

        def fail(_actor: Runs) -> None:
            raise ValueError("from the actor")

        def work(_number: int) -> None:
            assert portal.ask(ref, "question") == "question"
            with pytest.raises(ValueError, match="from the actor"):
                portal.ask(ref, fail)
            with pytest.raises(ActorStopped):
                portal.ask(stopped, 1)
            with pytest.raises(AskTimeout):
                portal.ask(slow, lambda _: gate.wait(), timeout=0.01)
            assert portal.call(anyio.sleep, 0) is None

            async def broken() -> None:
                raise KeyError("called")

            with pytest.raises(KeyError, match="called"):
                portal.call(broken)

        await in_threads(1, work)
        gate.set()

    def closed(_number: int) -> None:
        for call in (
            lambda: portal.ask(ref, 1),
            lambda: portal.tell(ref, 1),
            lambda: portal.call(anyio.sleep, 0),
        ):
            with pytest.raises((SystemNotRunning, ActorStopped)):
                call()

    with anyio.fail_after(20):
        await in_threads(1, closed)


async def test_p40_on_the_loops_own_thread_every_call_names_the_awaitable_one() -> None:
    async with running() as system:
        ref, portal = system.spawn(Runs), system.portal()
        with pytest.raises(RuntimeError, match=r"await ref\.tell"):
            portal.tell(ref, 1)
        with pytest.raises(RuntimeError, match=r"await ref\.ask"):
            portal.ask(ref, 1)
        with pytest.raises(RuntimeError, match="await the function"):
            portal.call(anyio.sleep, 0)
        with pytest.raises(ValueError, match="window"):
            system.portal(window=0)
        async with ActorSystem(system_id="other") as other:
            stranger = other.spawn(Runs)

            def work(_number: int) -> None:
                with pytest.raises(ValueError, match="a different actor system"):
                    portal.tell(stranger, 1)

            await in_threads(1, work)


async def test_p40_from_a_thread_that_an_actor_waits_for_it_counts_as_its_wait() -> None:
    async with running() as system:
        ref, other = system.spawn(Runs), system.spawn(Runs)
        portal = system.portal()

        def work() -> str:
            with pytest.raises(AskDeadlock):
                portal.ask(ref, 1)

            async def back(_actor: Runs) -> str:
                try:
                    return str(await ref.ask(2))
                except AskDeadlock:
                    return "deadlock"

            return portal.ask(other, back)

        assert await ref.ask(lambda actor: actor.context.run_blocking(work)) == "deadlock"


async def test_p40_calls_that_wait_when_the_system_closes_get_an_error() -> None:
    found: list[Any] = []
    async with running(shutdown_timeout=0.1) as system:
        ref, portal = system.spawn(Runs), system.portal()

        def ask() -> None:
            try:
                portal.ask(ref, lambda _: anyio.sleep_forever())
            except ActorStopped as error:
                found.append(error)

        def call() -> None:
            try:
                portal.call(anyio.sleep_forever)
            except SystemNotRunning as error:
                found.append(error)

        threads = [threading.Thread(target=ask), threading.Thread(target=call)]
        for thread in threads:
            thread.start()
        await until(lambda: portal._calls and ref._cell.answering)
    await until(lambda: not any(thread.is_alive() for thread in threads))
    assert len(found) == 2


async def test_p40_a_call_that_comes_with_the_close_is_cancelled() -> None:
    found: list[str] = []

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        found.append("went on")

    def call() -> None:
        try:
            portal.call(work)
        except SystemNotRunning:
            found.append("not running")

    async with running() as system:
        portal = system.portal()
        thread = threading.Thread(target=call)
        thread.start()
        while not portal._inbox:  # the loop is held meanwhile, so the call has not begun
            thread.join(0.001)
        await portal.close()
        await until(lambda: not thread.is_alive())
    assert found == ["not running"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_p40_a_call_whose_task_is_cancelled_from_outside_ends(anyio_backend: str) -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.lowlevel.checkpoint()

    async with running() as system:
        portal = system.portal()

        def call(_number: int) -> None:
            with pytest.raises(SystemNotRunning):
                portal.call(work)

        await in_threads(1, call)
        assert portal._calls == set()


@pytest.mark.usefixtures("_collects_its_loop")
def test_p40_a_thread_learns_that_the_loop_has_ended_without_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it waits for an answer or for room, or calls later."""
    monkeypatch.setattr("papyra.portal.LOOK_EVERY_SECONDS", 0.001)

    async def start() -> tuple[ActorSystem, ActorRef[Any, Any], Portal, Portal]:
        system = ActorSystem()
        await system.start()
        return system, system.spawn(Runs), system.portal(window=1), system.portal()

    loop = asyncio.new_event_loop()
    system, ref, used, unused = loop.run_until_complete(start())
    used_too = Portal(used._rt)
    found: list[str] = []

    def note(call: Callable[..., Any], *args: Any) -> None:
        with pytest.raises(SystemNotRunning) as caught:
            call(*args)
        found.append(str(caught.value))

    def tell() -> None:
        used.tell(ref, "on its way")
        note(used.tell, ref, "waits for room")

    waiting = [threading.Thread(target=tell), threading.Thread(target=note, args=(used_too.ask, ref, "ask"))]
    for thread in waiting:
        thread.start()
    while not (used._waiting and used_too._inbox):
        waiting[0].join(0.01)
    loop.close()
    late = threading.Thread(target=lambda: [note(unused.tell, ref, 1), note(unused.call, anyio.sleep, 0)])
    for thread in waiting:
        thread.join()
    late.start()
    late.join()
    assert found == [str(SystemNotRunning(system.system_id, "take messages from threads", closed=True))] * 4
    anyio.run(system.aclose)


def _under_fire(
    system: ActorSystem, portal: Portal, refs: list[ActorRef[Any, Any]], seed: int
) -> Callable[[int], None]:
    def work(number: int) -> None:
        rng = random.Random(seed * 10 + number)
        for n in range(rng.randrange(1, 25)):
            ref = rng.choice(refs)
            try:
                if rng.random() < 0.2:
                    portal.ask(ref, (number, n, refs.index(ref)), timeout=5)
                else:
                    portal.tell(ref, (number, n, refs.index(ref)))
            except ActorStopped:
                pass
            except (SystemNotRunning, AskTimeout):
                unsent[number, n] += 1

    unsent: Counter[tuple[int, int]] = Counter()
    work.unsent = unsent  # type: ignore[attr-defined]  # for the test to read
    return work


async def _fire(seed: int) -> None:
    rng = random.Random(seed)
    log: list[Any] = []
    async with ActorSystem(shutdown_timeout=5) as system:
        refs = [system.spawn(lambda: Runs(log), mailbox_capacity=rng.choice([1, 3, None])) for _ in range(3)]
        portal = system.portal(window=rng.choice([1, 4, 1024]))
        work = _under_fire(system, portal, refs, seed)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_threads, 4, work)
            for _ in range(rng.randrange(0, 30)):
                await anyio.lowlevel.checkpoint()
            await rng.choice(refs).stop()
    handled = Counter(each for each in log if each != "on_stop")
    letters = Counter(letter.message for letter in system.dead_letters.messages)
    for number in range(4):
        draws = random.Random(seed * 10 + number)
        for n in range(draws.randrange(1, 25)):
            target = draws.choice(range(3))
            draws.random()
            count = handled[number, n, target] + letters[number, n, target]
            assert count == 1 or (number, n) in work.unsent, (seed, number, n, count)  # type: ignore[attr-defined]  # see there
    for number in range(4):
        for target in range(3):
            order = [
                n
                for who, n, ref in (each for each in log if each != "on_stop")
                if (who, ref) == (number, target)
            ]
            assert order == sorted(order)


async def test_p39_stop_under_fire_sent_is_handled_plus_dead_letters() -> None:
    for seed in range(15):
        with anyio.fail_after(30):
            await _fire(seed)


@pytest.mark.sweep
async def test_p39_a_thousand_stops_under_fire() -> None:
    for seed in range(1_000):
        with anyio.fail_after(30):
            await _fire(seed)


# -- 41: what a portal touches off the event loop's thread

OF_THE_PORTAL = {"papyra.portal", "papyra._runtime.envelope", "papyra._runtime._eventloop", "threading"}
"""The modules whose code a call may run in the caller's thread, beside those that wake the event loop up."""
WAKES_ITS_LOOP = ("papyra._runtime._eventloop.", "asyncio.", "trio._core.", "contextlib", "socket")


async def test_p41_off_the_loop_a_portal_touches_its_inbox_a_lock_and_the_wake_up() -> None:
    ran: set[str] = set()
    with suppress(RuntimeError):  # on trio
        asyncio.get_running_loop().set_debug(False)  # it notes the stack of each call

    def note(frame: Any, event: str, _arg: object) -> None:
        if event == "call":
            ran.add(frame.f_globals.get("__name__", ""))

    def work(_number: int) -> None:
        gc.disable()  # a finalizer is not code of the portal
        sys.setprofile(note)
        try:
            for n in range(20):
                portal.tell(ref, n)
                assert portal.ask(ref, n, timeout=5) == n
            assert portal.call(anyio.sleep, 0) is None
        finally:
            sys.setprofile(None)
            gc.enable()

    async with running() as system:
        log: list[Any] = []
        ref = system.spawn(Runs, log, mailbox_capacity=1)
        portal = system.portal(window=2)
        await in_threads(3, work)
    ours = {name for name in ran if not name.startswith(WAKES_ITS_LOOP)}
    assert "papyra.portal" in ours
    assert ours - OF_THE_PORTAL - {__name__} == set()


async def test_p41_a_tell_in_a_batch_wakes_nobody_and_calls_nothing_else() -> None:
    calls: list[str] = []

    def note(frame: Any, event: str, _arg: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    def work() -> None:
        portal.tell(ref, -1)  # it wakes the loop
        sys.setprofile(note)
        try:
            for n in range(50):
                portal.tell(ref, n)
        finally:
            sys.setprofile(None)

    async with running() as system:
        log: list[Any] = []
        ref, portal = system.spawn(Runs, log), system.portal()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()  # the loop is held meanwhile, so it is one batch
        assert calls == ["tell"] * 50
        await until(lambda: len(log) == 51)
        assert log == [-1, *range(50)]


def test_p41_no_object_of_an_event_loop_is_in_its_api() -> None:
    for name in ("tell", "ask", "call", "close"):
        method = getattr(Portal, name, None)
        if method is not None:
            hints = str(inspect.signature(method))
            assert "asyncio" not in hints
            assert "trio" not in hints
