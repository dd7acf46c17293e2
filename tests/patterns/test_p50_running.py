"""P50: `run`, its signals and phases, in this process and in real ones."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from papyra import Actor, ActorSystem
from papyra.persistence import open_backend
from papyra_contrib.running import CLOSE, DRAIN, UNBIND, Phase, Shutdown, run, run_until_signal
from papyra_contrib.running._signals import ReceivedSignals

from .support import until

BACKENDS = ("asyncio", "trio")
PAPYRA = str(Path(sys.executable).with_name("papyra"))


class Slow(Actor):
    async def receive(self, message: float) -> None:
        await anyio.sleep(message)


@pytest.mark.parametrize("backend", BACKENDS)
def test_p50_main_returns_and_the_system_closes(backend: str):
    seen: list[object] = []

    async def main(system: ActorSystem) -> None:
        seen.append(await system.spawn(Slow).ask(0.0))
        Shutdown.of(system).add(CLOSE, lambda: seen.append(system.state))

    assert run(main, backend=backend, signals=()) == 0
    assert seen == [None, "closed"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("backend", BACKENDS)
def test_p50_what_main_raises_is_raised_after_the_close(backend: str, error: type[BaseException]):
    """A group hid ``sys.exit(3)`` and, on trio, Ctrl-C."""
    made = ActorSystem()

    async def main(system: ActorSystem) -> None:
        raise error("as planned")

    with pytest.raises(error, match="as planned"):
        run(main, system=made, backend=backend, signals=())
    assert made.state == "closed"


async def test_p50_run_until_signal_stops_a_system_in_a_loop_of_the_callers_own():
    before = signal.getsignal(signal.SIGTERM)
    ended: list[str] = []
    async with ActorSystem() as system, anyio.create_task_group() as tasks:
        await system.spawn(Slow).tell(0.01)
        Shutdown.of(system).add(CLOSE, lambda: ended.append(system.state))

        async def send() -> None:
            await until(lambda: signal.getsignal(signal.SIGTERM) != before)
            signal.raise_signal(signal.SIGTERM)

        tasks.start_soon(send)
        assert await run_until_signal(system, deadline=20.0) == 0
        assert Shutdown.of(system).deadline == 20.0
        assert ended == ["closed"]
        assert system.dead_letters.count == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_p50_a_third_signal_ends_process_1_of_a_container_too(monkeypatch: pytest.MonkeyPatch):
    """The kernel does not let process 1 kill itself: it has to exit."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("papyra_contrib.running._signals.os.getpid", lambda: 1)
    monkeypatch.setattr("papyra_contrib.running._signals.os.kill", lambda *given: killed.append(given))
    monkeypatch.setattr("papyra_contrib.running._signals.os._exit", sys.exit)
    with ReceivedSignals([signal.SIGUSR1]):
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGUSR1)
    assert ended.value.code == 128 + signal.SIGUSR1
    assert killed == [(1, signal.SIGUSR1)]


def test_p50_signals_outside_the_main_thread_are_a_clear_error():
    caught: list[BaseException] = []

    def call() -> None:
        try:
            run(None)  # type: ignore[arg-type]
        except TypeError as error:
            caught.append(error)

        async def main(system: ActorSystem) -> None: ...

        try:
            run(main)
        except RuntimeError as error:
            caught.append(error)
        caught.append(SystemExit(run(main, signals=())))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "async function that takes the system" in str(caught[0])
    assert "main thread only" in str(caught[1])
    assert caught[2].args == (0,)


async def test_p50_phases_run_in_order_and_a_failing_task_stops_nothing(caplog: pytest.LogCaptureFixture):
    order: list[str] = []
    audits: list[Any] = []
    async with ActorSystem() as system:
        shutdown = Shutdown.of(system)
        shutdown.add(DRAIN, partial(_note_audits, system, audits))
        assert Shutdown.of(system) is shutdown

        async def fail() -> None:
            order.append("failing")
            raise ValueError("no")

        shutdown.add(CLOSE, lambda: order.append(f"close {system.state}"))
        shutdown.add("drain", lambda: order.append("drain"))
        shutdown.add(UNBIND, fail)
        assert await shutdown.run("test") == 0
        assert await shutdown.run("again") == 0
    assert order == ["failing", "drain", "close closed"]
    assert "phase unbind" in caplog.text
    assert len(audits) == 1


async def _note_audits(system: ActorSystem, audits: list[Any]) -> None:
    await system.flush()
    audits += await system.persistence.list_audits()


async def test_p50_a_phase_gets_its_timeout_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture):
    async with ActorSystem() as system:
        shutdown = Shutdown(system, deadline=5.0)
        ended: list[str] = []
        shutdown.add(DRAIN, anyio.sleep_forever, timeout=0.05)
        shutdown.add(CLOSE, lambda: ended.append("close"))
        began = anyio.current_time()
        assert await shutdown.run("test") == 1
        assert anyio.current_time() - began < 5.0
    assert ended == ["close"]
    assert "did not end within 0.05 s" in caplog.text


async def test_p50_an_actor_that_is_cut_makes_the_status_1():
    async with ActorSystem() as system:
        await system.spawn(Slow).tell(60.0)
        assert await Shutdown(system, deadline=0.5).run("test") == 1


async def test_bad_arguments_of_a_shutdown():
    async with ActorSystem() as system:
        shutdown = Shutdown.of(system)
        with pytest.raises(ValueError, match="is not a valid Phase"):
            shutdown.add("later", print)
        with pytest.raises(ValueError, match="timeout must be more than 0"):
            shutdown.add(Phase.DRAIN, print, timeout=0)
        with pytest.raises(TypeError, match="expected a function"):
            shutdown.add(Phase.DRAIN, 7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="deadline must be more than 0"):
            Shutdown(system, deadline=0)
        await shutdown.run("test")
        with pytest.raises(RuntimeError, match="the shutdown has begun"):
            shutdown.add(DRAIN, print)


# -- real processes and signals

PROGRAM = """
    import os, sys, anyio
    from papyra import Actor, ActorSystem
    from papyra_contrib.running import Shutdown, run

    class Worker(Actor):
        async def on_stop(self):
            print("on_stop", flush=True)

        async def receive(self, seconds):
            if seconds < -2:
                print("computes", flush=True)
                while True:
                    pass
            if seconds < 0:
                while True:
                    try:
                        await anyio.sleep(60)
                    except BaseException:
                        if seconds < -1: continue
                        raise
            await anyio.sleep(seconds)
            print("handled", flush=True)

    async def main(system):
        worker = system.spawn(Worker, name="worker")
        for _ in range(int(os.environ["COUNT"])):
            await worker.tell(float(os.environ["SECONDS"]))
        Shutdown.of(system).add("unbind", lambda: print("unbind", flush=True))
        print("ready", flush=True)
        await anyio.sleep_forever()

    def make_system():
        return ActorSystem(persistence="json:./facts.ndjson")

    if __name__ == "__main__":
        sys.exit(run(main, system=make_system, backend=sys.argv[1], deadline=float(os.environ["DEADLINE"])))
"""


@pytest.fixture
def start(tmp_path: Path):
    (tmp_path / "service.py").write_text(textwrap.dedent(PROGRAM))
    started: list[subprocess.Popen[str]] = []

    def launch(
        *command: str, count: int = 3, seconds: float = 0.05, deadline: float = 20
    ) -> subprocess.Popen[str]:
        environment = os.environ | {"COUNT": str(count), "SECONDS": str(seconds), "DEADLINE": str(deadline)}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def service(backend: str) -> tuple[str, ...]:
    return sys.executable, "service.py", backend


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_p50_a_signal_works_off_the_mailboxes(start, tmp_path: Path, backend: str, number: int):
    process = start(*service(backend))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert sorted(out.split()) == ["handled"] * 3 + ["on_stop", "unbind"]
    assert out.split()[-1] == "on_stop"

    async def facts() -> tuple[list[str], int]:
        store = open_backend(f"json:{tmp_path}/facts.ndjson")
        events, audits = await store.list_events(), await store.list_audits()
        await store.aclose()
        return [event.event_type for event in events], len(audits)

    kinds, audits = anyio.run(facts)
    assert kinds.count("ActorStarted") == kinds.count("ActorStopped") == 1
    assert kinds[-1] == "SystemStopped"
    assert audits == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_p50_a_second_signal_cancels_and_on_stop_still_runs(start, backend: str):
    process = start(*service(backend), seconds=-1.0)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "unbind\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert out.split() == ["on_stop"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_h10_a_second_signal_interrupts_an_actor_that_computes(start, backend: str):
    process = start(*service(backend), seconds=-3.0)
    assert process.stdout is not None
    assert process.stdout.readline() == "computes\n"
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # two signals that wait at once are one
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert out.split() == ["on_stop"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_p50_a_third_signal_kills(start, backend: str):
    process = start(*service(backend), seconds=-2.0)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        signal_is_handled(process)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


def signal_is_handled(process: subprocess.Popen[str]) -> None:
    """Wait until no signal of the process is pending, so that the next one is one of its own."""
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if not int(re.search(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)[1], 16):
            time.sleep(0.1)  # Python runs its own handler a little later
            return
        time.sleep(0.01)


@pytest.mark.parametrize("backend", BACKENDS)
def test_p50_the_deadline_holds_for_a_stuck_actor(start, backend: str):
    process = start(*service(backend), seconds=-1.0, deadline=1.0)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1, err
    assert "on_stop" in out


@pytest.mark.parametrize("backend", BACKENDS)
def test_p50_papyra_run_needs_no_code(start, backend: str):
    process = start(PAPYRA, "run", "service:main", "--backend", backend, "--deadline", "20s")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.split()[-1] == "on_stop"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("service",), "Write module:function"),
        (("nowhere:main",), "module 'nowhere' was not found"),
        (("service:absent",), "has no function 'absent'"),
        (("service:main", "--deadline", "soon"), "expected seconds"),
    ],
)
def test_p50_papyra_run_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], problem: str):
    (tmp_path / "service.py").write_text(textwrap.dedent(PROGRAM))
    ran = subprocess.run(
        [PAPYRA, "run", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 2
    assert problem in " ".join(ran.stderr.split())


def test_p50_an_import_that_fails_inside_the_module_is_named(tmp_path: Path):
    (tmp_path / "service.py").write_text("import a_library_that_is_missing")
    ran = subprocess.run(
        [PAPYRA, "run", "service:main"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 1
    assert "No module named 'a_library_that_is_missing'" in ran.stderr


@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="a PID namespace needs root on Linux")
def test_p50_as_process_1_of_a_container(start):
    process = start("unshare", "--pid", "--fork", "--kill-child", *service("asyncio"))
    child = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.strip()
    os.kill(int(child), signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.split()[-1] == "on_stop"
