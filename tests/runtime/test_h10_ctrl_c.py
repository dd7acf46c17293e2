"""H10: Ctrl-C interrupts an actor that computes; a second one cancels what runs; a third is the signal's own.

Real processes with real signals.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, SupervisorDecision
from papyra._runtime.containment.frames import actor_frame, holds_loop
from papyra._runtime.process.interrupts import AGAIN_SIGNAL, Interrupts
from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import PersistedRecord

from .support import Echo, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .signalled import Program

    Start = Callable[[str], "Program"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

PROGRAM = """
    import sys
    import anyio
    from papyra import Actor, ActorSystem

    def say(text):
        print(text, flush=True)

    class Worker(Actor):
        async def on_stop(self):
            say("on_stop")

        async def receive(self, message):
            if message == "compute":
                say("ready")
                while True:
                    pass
            elif message == "call":
                say("ready")
                while True:
                    self.context.self_ref.is_alive()
            elif message == "once more":
                try:
                    say("ready")
                    while True:
                        pass
                except KeyboardInterrupt:
                    say("ignored")
                while True:
                    pass
            elif message == "never":
                caught = said = 0
                ready = False
                while True:
                    try:
                        while True:
                            if not ready:
                                ready = True
                                say("ready")
                            if said < caught:
                                said += 1
                                say("ignored")
                    except BaseException:
                        caught += 1
            elif message == "child":
                async with anyio.create_task_group() as group:
                    group.start_soon(self.compute)
            elif message == "background":
                self.context.start_soon(self.compute)
            else:
                await anyio.sleep_forever()

        async def compute(self):
            say("ready")
            while True:
                pass

    async def main():
        async with ActorSystem(persistence="json:./facts.ndjson", shutdown_timeout=600) as system:
            worker = system.spawn(Worker)
            if sys.argv[2] == "host":
                say("ready")
                while True:
                    pass
            await worker.tell(sys.argv[2])
            try:
                if sys.argv[2] == "wait":
                    await anyio.wait_all_tasks_blocked()
                    say("ready")
                await anyio.sleep_forever()
            except BaseException:
                if sys.argv[2] != "wait":  # its host goes on, to a close that waits for the actor
                    raise
            finally:
                say("host ends")

    anyio.run(main, backend=sys.argv[1])
"""


@pytest.fixture
def start(start_program: Callable[[str, str], Program]) -> Start:
    return partial(start_program, PROGRAM)


@pytest.mark.parametrize("what", ["compute", "call"])
def test_h10_the_first_interrupts_an_actor_that_computes(start: Start, what: str, tmp_path: Path) -> None:
    program = start(what)
    program.interrupt()
    status, out, errors = program.end()
    assert status == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert sorted(out) == ["host ends", "on_stop"]
    assert '"SystemStopped"' in (tmp_path / "facts.ndjson").read_text()  # an orderly end, on record


@pytest.mark.sweep
@pytest.mark.parametrize("what", ["child", "background"])
def test_h10_the_first_interrupts_a_task_of_an_actor_that_computes(
    start: Start, what: str, tmp_path: Path
) -> None:
    """asyncio lets a `KeyboardInterrupt` out of a task, and out of the loop, half-way through the close."""
    program = start(what)
    program.interrupt()
    status, out, errors = program.end()
    assert status == -signal.SIGINT
    assert sorted(out) == ["host ends", "on_stop"]
    assert "KeyboardInterrupt" in errors
    stopped = [
        line for line in (tmp_path / "facts.ndjson").read_text().splitlines() if "SystemStopped" in line
    ]
    assert [json.loads(line)["payload"]["facts_dropped"] for line in stopped] == [0]


@pytest.mark.sweep
def test_h10_the_first_interrupts_a_host_that_computes(start: Start) -> None:
    program = start("host")
    program.interrupt()
    status, _, errors = program.end()
    assert status == -signal.SIGINT
    assert "KeyboardInterrupt" in errors


@pytest.mark.sweep
def test_h10_the_second_interrupts_an_actor_that_ignored_the_first(start: Start) -> None:
    program = start("once more")
    program.interrupt()
    program.read("ignored")
    program.interrupt()
    status, out, errors = program.end()
    assert status == -signal.SIGINT
    assert "on_stop" in out
    assert "KeyboardInterrupt" in errors


@pytest.mark.sweep
def test_h10_the_second_cancels_what_waits(start: Start) -> None:
    program = start("wait")
    program.interrupt()
    program.read("host ends")
    program.interrupt()
    status, out, _ = program.end()
    assert status in (0, -signal.SIGINT)  # 0 if the close had begun: the host has had the first one
    assert out == ["on_stop"]


@pytest.mark.sweep
def test_h10_the_third_is_pythons_own_and_a_fourth_kills(start: Start) -> None:
    program = start("never")
    for _ in range(3):
        program.interrupt()
        program.read("ignored")
    program.interrupt()
    status, out, _ = program.end()
    assert (status, out) == (-signal.SIGINT, [])


async def test_h10_the_handler_goes_with_the_last_system() -> None:
    before = signal.default_int_handler
    signal.signal(signal.SIGINT, before)
    async with ActorSystem():
        async with ActorSystem():
            during = signal.getsignal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == during != before
    assert signal.getsignal(signal.SIGINT) is before


async def test_h10_the_hook_of_what_python_cannot_raise_goes_with_the_last_system(
    handler: Interrupts,
) -> None:
    before = sys.unraisablehook
    async with ActorSystem():
        async with ActorSystem():
            during = sys.unraisablehook
        assert sys.unraisablehook == during != before
    assert sys.unraisablehook is before


def _work_of_the_runtime() -> Callable[[list[str]], None]:
    """Return a function that counts as the runtime's: it sends SIGINT, and notes that it went on."""
    space: dict[str, object] = {"__name__": "papyra.fake", "signal": signal}
    exec("def work(done):\n    signal.raise_signal(signal.SIGINT)\n    done.append('work')", space)
    work = space["work"]
    assert callable(work)
    return work


@pytest.mark.parametrize("taken", [False, True], ids=["own signal", "signal of the program"])
async def test_h10_the_runtimes_work_for_a_host_is_not_interrupted(
    handler: Interrupts, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """trio and Python raise at once, also half-way through a `tell`.

    The handler looks again with a SIGINT of its own if the program handles the other signal.
    """
    if taken:
        monkeypatch.setattr("papyra._runtime.process.interrupts.AGAIN_SIGNAL", None)
    work, done = _work_of_the_runtime(), list[str]()
    async with ActorSystem():
        with suppress(KeyboardInterrupt):
            work(done)
            while True:  # it comes as soon as the host runs its own code
                pass
        assert handler._count == 1
    assert done


async def test_h10_a_task_that_an_actor_has_started_is_interrupted(handler: Interrupts) -> None:
    """In its own code, and after the runtime's work for it; the system ends with `KeyboardInterrupt`."""
    work, done = _work_of_the_runtime(), list[str]()

    class Groups(Actor):
        async def receive(self, message: str) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(self.compute, message)

        async def compute(self, message: str) -> None:
            if message == "own":
                signal.raise_signal(signal.SIGINT)
            else:
                work(done)
                while True:
                    pass
            done.append("went on")

    for message in ("own", "runtime"):
        with pytest.raises(KeyboardInterrupt):
            async with ActorSystem() as system:
                await system.spawn(Groups).ask(message)
    assert done == ["work"]


async def test_h10_the_second_ends_a_host_that_goes_on_after_each(handler: Interrupts) -> None:
    system = ActorSystem()

    async def host() -> None:
        async with system:
            await _interrupt_host()
            assert system.state == "running"
            await _interrupt_host()
            await anyio.sleep_forever()

    with anyio.fail_after(60), pytest.raises(KeyboardInterrupt):
        await host()
    assert system.state == "closed"


async def test_h10_a_handler_of_the_program_is_left_alone() -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGINT, mine)
    try:
        async with ActorSystem() as system:
            await system.spawn(Actor).tell(1)
            assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


async def test_h10_a_handler_that_the_program_gave_to_the_loop_is_left_alone() -> None:
    """It is a function of asyncio or trio that calls the program, unlike the loop's own handler."""
    with anyio.open_signal_receiver(signal.SIGINT) as received:
        before = signal.getsignal(signal.SIGINT)
        async with ActorSystem():
            assert signal.getsignal(signal.SIGINT) == before
            signal.raise_signal(signal.SIGINT)
            with anyio.fail_after(60):
                async for number in received:
                    assert number == signal.SIGINT
                    break


IDLE_PROGRAM = """
    import asyncio
    import signal
    import threading

    from papyra import ActorSystem

    def interrupt():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return "interrupted"

    loop = asyncio.new_event_loop()
    system = ActorSystem()
    loop.run_until_complete(system.start())
    during = signal.getsignal(signal.SIGINT)
    print([interrupt() for _ in range(5)])
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()  # one would interrupt once more
    print(signal.getsignal(signal.SIGINT) == during)
    loop.run_until_complete(system.aclose())
    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    loop.close()
"""


def test_h10_a_program_whose_loop_pauses_is_interrupted_as_often_as_it_was_asked_to(tmp_path: Path) -> None:
    """As between two calls of ``run_until_complete``, or two lines at a prompt."""
    (tmp_path / "program.py").write_text(textwrap.dedent(IDLE_PROGRAM))
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(["interrupted"] * 5), "True", "True"]


async def _interrupt_host() -> None:
    """Send SIGINT to code that catches `KeyboardInterrupt`, as a prompt does."""
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    await anyio.lowlevel.checkpoint()


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupts]:
    """A handler of this test's own, in front of Python's."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts = Interrupts()
    monkeypatch.setattr("papyra._runtime.running_system.INTERRUPTS", interrupts)
    monkeypatch.setattr("papyra.system.INTERRUPTS", interrupts)
    yield interrupts
    signal.signal(signal.SIGINT, before)


async def test_h10_a_program_that_went_on_is_not_closed_by_a_later_one(
    handler: Interrupts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("papyra._runtime.process.interrupts.FORGET_SECONDS", -1.0)
    async with ActorSystem() as system:
        echo = system.spawn(Echo)
        for number in range(4):
            await _interrupt_host()
            assert await echo.ask(number) == number


async def test_h10_after_the_third_the_handler_goes_with_the_system_too(handler: Interrupts) -> None:
    before = signal.getsignal(signal.SIGINT)
    found: list[object] = []
    with suppress(KeyboardInterrupt):  # the second one ends the system
        async with ActorSystem():
            for _ in range(3):
                with suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
            handler._overdue = []  # the loop has not answered
            handler._look_again(0, sys._getframe())  # from now on the signal is the program's alone
            found.append(handler._overdue)
    assert found == [[]]
    assert signal.getsignal(signal.SIGINT) == before


def _main_thread() -> int:
    main = threading.main_thread().ident
    assert main is not None
    return main


async def test_h10_one_that_comes_with_a_retry_of_the_last_counts(handler: Interrupts) -> None:
    """Python has one flag for each number of a signal: two that come together are one."""
    async with ActorSystem():

        def send_both() -> None:
            handler._call_again()
            signal.pthread_kill(_main_thread(), signal.SIGINT)  # no other thread runs between the two

        with suppress(KeyboardInterrupt):
            thread = threading.Thread(target=send_both)
            thread.start()
            thread.join()
        assert handler._count == 1


async def test_h10_a_loop_that_is_slow_is_not_interrupted_in_its_own_work(handler: Interrupts) -> None:
    async with ActorSystem():
        handler._overdue = []  # the loop has not answered
        frames: list[object] = []

        class Looks(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                frame = sys._getframe().f_back
                frames.append(frame)
                assert not holds_loop(frame)  # the standard library calls it, on behalf of the runtime
                handler._look_again(0, frame)

        looks = Looks()
        space: dict[str, object] = {"__name__": "asyncio.fake", "looks": looks}
        exec("def run(record): looks.handle(record)", space)
        run = space["run"]
        assert callable(run)
        run(logging.makeLogRecord({}))
        assert frames
        assert handler._overdue == []  # it looks again
        with pytest.raises(KeyboardInterrupt):
            handler._look_again(0, sys._getframe())  # this test, which does hold the loop
        handler._overdue = None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_h10_a_task_of_another_system_is_known_as_the_runtimes_own(
    handler: Interrupts, anyio_backend: str
) -> None:
    """A store that gets `CancelledError` does not end the program."""

    def ask_each_system(seen: set[type[BaseException]]) -> None:
        seen.update(type(core.rt.loop.interruption(object())) for core in handler._running)

    seen_by_store: set[type[BaseException]] = set()

    class Asking(InMemoryPersistence):
        async def record_batch(
            self, records: Sequence[PersistedRecord], *, batch_id: str | None = None
        ) -> None:
            ask_each_system(seen_by_store)
            await super().record_batch(records, batch_id=batch_id)

    async with ActorSystem(), ActorSystem(persistence=Asking()) as system:
        assert len(handler._running) == 2
        system.spawn(Echo)
        await system.flush()
        seen: set[type[BaseException]] = set()
        task = asyncio.get_running_loop().create_task(_call(lambda: ask_each_system(seen)))
        await task
    assert seen_by_store == {KeyboardInterrupt}
    assert seen == {asyncio.CancelledError}  # of a task of the program: its exception would end nothing


async def _call(function: Callable[[], None]) -> None:
    function()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_h10_a_task_of_an_actor_of_another_system_is_cancelled(
    handler: Interrupts, anyio_backend: str
) -> None:
    """On a loop whose main task is not known."""

    class Groups(Actor):
        async def receive(self, message: object) -> object:
            seen: list[object] = []

            async def compute() -> None:
                handler._overdue = []  # the loop has not answered
                try:
                    handler._look_again(0, sys._getframe())
                except BaseException as error:
                    seen.append(type(error))

            async with anyio.create_task_group() as group:
                group.start_soon(compute)
            return seen

    async with ActorSystem() as one, ActorSystem() as other:
        for system in (one, other):
            assert await system.spawn(Groups).ask(0) == [asyncio.CancelledError]


async def test_h10_a_handler_of_the_program_for_the_other_signal_is_left_alone() -> None:
    def mine(*_: object) -> None: ...

    assert AGAIN_SIGNAL is not None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    other = signal.signal(AGAIN_SIGNAL, mine)
    try:
        async with ActorSystem():
            assert signal.getsignal(AGAIN_SIGNAL) is mine
        signal.signal(AGAIN_SIGNAL, signal.SIG_DFL)
        async with ActorSystem():
            assert signal.getsignal(AGAIN_SIGNAL) is not signal.SIG_DFL
        assert signal.getsignal(AGAIN_SIGNAL) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(AGAIN_SIGNAL, other)


def _would_be_interrupted() -> bool:
    return actor_frame(sys._getframe()) is not None


class Places(Actor):
    """Notes where a SIGINT would interrupt its code."""

    def __init__(self, seen: dict[str, bool]) -> None:
        self.seen = seen
        seen["factory"] = _would_be_interrupted()

    def note(self, place: str) -> None:
        self.seen[place] = _would_be_interrupted()

    async def on_start(self) -> None:
        self.note("on_start")
        self.context.timers.start_single("tick", 0.0, call=lambda: self.note("timer"))
        self.context.pipe_to_self(self.work, then=lambda _: self.note("then"))

    async def work(self) -> None:
        self.note("background")

    async def method(self) -> None:
        self.note("proxy")

    async def receive(self, message: str) -> None:
        self.note(message)

    async def on_stop(self) -> None:
        self.note("on_stop")

    def on_child_failure(self, child_ref: ActorRef, exc: BaseException) -> SupervisorDecision | None:
        self.note("on_child_failure")
        return None


class _Store(InMemoryPersistence):
    def __init__(self, seen: dict[str, bool]) -> None:
        super().__init__()
        self.seen = seen

    async def record_batch(self, records: Sequence[PersistedRecord], *, batch_id: str | None = None) -> None:
        self.seen["store"] = _would_be_interrupted()
        await super().record_batch(records, batch_id=batch_id)


async def test_h10_an_actor_is_interrupted_in_its_own_code_only() -> None:
    seen: dict[str, bool] = {}
    async with ActorSystem(
        persistence=_Store(seen), on_dead_letter=lambda _: seen.update(hook=_would_be_interrupted())
    ) as system:
        places = system.spawn(Places, seen)
        await places.tell("tell")
        await places.ask("ask")
        await places.proxy().method()
        await wait_until(lambda: {"timer", "then", "background"} <= seen.keys())
        await places.ask("ask")
        child = system.spawn(Echo, parent=places)
        await child.tell("boom")
        await wait_until(lambda: "on_child_failure" in seen)
        await system.stop(places)
        with suppress(ActorStopped):
            await places.tell("dead letter")
        await system.flush()
    assert {place for place, own in seen.items() if not own} == {"store", "hook"}
    assert len(seen) == 12
