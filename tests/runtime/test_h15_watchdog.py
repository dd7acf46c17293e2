"""H15: an actor that holds the loop, a message that takes long and a close that waits are named."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorSystem
from papyra._runtime import running_system
from papyra._runtime.observation import watchdog
from papyra.testing import run_seeded


class Holder(Actor):
    async def receive(self, message: Callable[[], object]) -> object:
        return message()  # the line that holds


class Waiter(Actor):
    async def receive(self, message: anyio.Event) -> None:
        await message.wait()


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return [line for line in found if words in line]


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - a log line sets no event
            await anyio.sleep(0.005)


def watchdogs() -> int:
    return sum(thread.name == "papyra watchdog" for thread in threading.enumerate())


def hold_until(condition: Callable[[], object]) -> Callable[[], object]:
    def hold() -> None:
        end = time.monotonic() + 60
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)

    return hold


async def test_h15_an_actor_that_holds_the_loop_is_named_once_with_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ActorSystem() as system:
        till = system.spawn(Holder, name="till")
        await till.ask(hold_until(lambda: lines(caplog, "has held")))
        first = time.monotonic()
        await till.ask(hold_until(lambda: time.monotonic() > first + 0.6))  # the same place again
    (line,) = lines(caplog, "has held")
    assert re.fullmatch(
        r"actor local:1 \('till', Holder\) has held the event loop for \d\.\d\d s in "
        r"Holder\.receive test_h15_watchdog\.py:\d+, in \S+ test_h15_watchdog\.py:\d+\. "
        r"Nothing else runs meanwhile: await there, or do the work with context\.run_blocking\(\)",
        line,
    )


async def test_h15_a_computation_that_keeps_the_gil_is_named_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ActorSystem() as system:
        ref = system.spawn(Holder)
        await ref.ask(lambda: [sum(range(10_000_000)) for _ in range(200) if not lines(caplog, "has held")])
    assert len(lines(caplog, "has held")) == 1


async def test_h15_an_actor_that_awaits_holds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Busy(Actor):
        async def receive(self, message: float) -> None:
            end = time.monotonic() + message
            while time.monotonic() < end:
                await anyio.lowlevel.checkpoint()

    async with ActorSystem() as system:
        await system.spawn(Busy).ask(0.8)
    assert lines(caplog, "has held") == []


@pytest.mark.parametrize(
    ("count", "others"),
    [
        (1, ""),
        (2, " The same is true of 1 other actor."),
        (3, " The same is true of 2 other actors."),
    ],
)
async def test_h15_a_message_that_is_handled_for_long_is_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, count: int, others: str
) -> None:
    monkeypatch.setattr(watchdog, "LOOKS_FOR_LONG", 1)
    event = anyio.Event()
    async with ActorSystem() as system:
        for _ in range(count):
            await system.spawn(Waiter).tell(event)
        await until(lambda: len(system.busy()) == count)
        monkeypatch.setattr(watchdog, "LONG_SECONDS", 0.0)  # for all of them at once
        await until(lambda: lines(caplog, "has handled one message"))
        looks = system._core.watchdog  # type: ignore[union-attr]  # it runs
        for _ in range(3):
            looks._name_long(time.monotonic())
        event.set()
    (line,) = lines(caplog, "has handled one message")
    assert (
        "(Waiter) has handled one message for 0 s and waits in Waiter.receive test_h15_watchdog.py:" in line
    )
    assert line.endswith("use a time-out, or context.start_soon()." + others)


async def test_h15_the_thread_comes_with_the_first_actor_and_goes_with_the_system() -> None:
    before = watchdogs()
    async with ActorSystem() as system:
        assert watchdogs() == before
        await system.spawn(Waiter).tell(anyio.Event())
        assert watchdogs() == before + 1
        await system.aclose(deadline=0)
    assert watchdogs() == before


async def test_h15_an_idle_loop_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ActorSystem() as system:
        await system.spawn(Holder).ask(int)
        core = system._core
        assert core is not None
        asked: list[object] = []
        monkeypatch.setattr(core.watchdog, "_ask", asked.append)
        for _ in range(20):
            core.watchdog._look(1)
    assert asked == []


async def test_h15_an_answer_may_come_while_the_thread_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ActorSystem() as system:
        await system.spawn(Holder).ask(int)
        core = system._core
        assert core is not None
        core.watchdog.close()  # this test looks in its place
        dog = core.watchdog

        class Clock:
            monotonic = staticmethod(time.monotonic)

            @staticmethod
            def process_time() -> float:
                dog._answered()
                return time.process_time()

        monkeypatch.setattr(watchdog, "time", Clock)
        dog._asked, dog._asked_cpu = time.monotonic() - 60, time.process_time() - 60
        dog._planned = time.monotonic() - 30
        assert dog._look(1)
        assert dog._asked is None


async def test_h15_no_actor_is_blamed_if_the_whole_process_slept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ActorSystem() as system:
        await system.spawn(Holder).ask(int)
        core = system._core
        assert core is not None
        dog = core.watchdog
        dog.close()  # this test looks in its place
        began = time.monotonic()
        dog._asked, dog._asked_cpu, dog._planned = began - 60, time.process_time(), began - 30
        assert dog._look(1)
        assert dog._asked is not None
        assert dog._asked >= began  # it asks anew
    assert lines(caplog, "has held") == []


async def test_h15_a_look_at_what_changes_meanwhile_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.001)

    def look(_dog: watchdog.Watchdog, looks: int) -> bool:
        if looks < 3:
            raise RuntimeError("dictionary changed size during iteration")
        looked.set()
        return False

    monkeypatch.setattr(watchdog.Watchdog, "_look", look)
    async with ActorSystem() as system:
        await system.spawn(Holder).ask(int)
        await until(looked.is_set)


async def test_h15_a_platform_without_threads_runs_actors_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    caplog.set_level("DEBUG", "papyra")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    async with ActorSystem() as system:
        assert await system.spawn(Holder).ask(int) == 0
    assert "no thread can be started" in caplog.text


async def test_h15_a_message_that_is_handled_for_a_moment_is_not_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    event = anyio.Event()
    async with ActorSystem() as system:
        await system.spawn(Waiter).tell(event)
        await until(lambda: len(system.busy()) == 1)
        core = system._core
        assert core is not None
        core.watchdog._name_long(time.monotonic())
        event.set()
    assert lines(caplog, "has handled one message") == []


def test_h15_a_seeded_test_has_no_thread() -> None:
    async def main() -> None:
        async with ActorSystem() as system:
            await system.spawn(Holder).ask(int)
            assert watchdogs() == 0

    run_seeded(1, main)


def test_h15_a_thread_ends_with_a_loop_that_ended_before_its_system(
    monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str
) -> None:
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(watchdog, "LOOKS_FOR_LONG", 1)

    async def main() -> ActorSystem:
        system = ActorSystem()
        await system.start()
        await system.spawn(Holder).ask(int)
        return system

    system = anyio.run(main, backend=anyio_backend_name)
    thread = system._core.watchdog._thread  # type: ignore[union-attr]  # it ran
    assert thread is not None
    thread.join(60)
    assert not thread.is_alive()


# -- a close


async def test_h15_a_close_that_waits_says_for_whom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_system, "QUIET_CLOSE_SECONDS", 0.05)
    event = anyio.Event()
    async with anyio.create_task_group() as group, ActorSystem() as system:
        system.spawn(Holder)
        await system.spawn(Waiter, name="slow").tell(event)
        group.start_soon(system.aclose)
        await until(lambda: lines(caplog, "closing waits"))
        event.set()
    (line,) = lines(caplog, "closing waits")
    assert re.fullmatch(
        r"closing waits for local:2 \('slow', Waiter\) in Waiter\.receive test_h15_watchdog\.py:\d+, and 1 more",
        line,
    )


async def test_h15_a_close_that_waits_for_the_store_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_system, "QUIET_CLOSE_SECONDS", 0.05)

    class SlowHooks:
        async def on_event(self, event: object) -> None:
            await until(lambda: lines(caplog, "closing waits"))

    async with ActorSystem(hooks=SlowHooks()) as system:
        await system.spawn(Holder).ask(int)
    (line,) = lines(caplog, "closing waits")
    assert re.fullmatch(r"closing waits for the store \(\d+ facts\), the hooks and the instruments", line)


async def test_h15_a_quick_close_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with ActorSystem() as system:
        await system.spawn(Holder).ask(int)
    assert lines(caplog, "closing waits") == []
