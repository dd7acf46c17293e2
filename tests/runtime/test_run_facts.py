"""SystemStarted and SystemStopped: from when to when a run was, in which process, and how it ended (promise
R3).
"""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import papyra
from papyra import Actor, ActorSystem
from papyra.persistence import InMemoryPersistence, processes
from papyra.persistence.models import PersistedEvent
from papyra.persistence.processes import how_run_ended, is_running, process_started

if TYPE_CHECKING:
    from papyra.cluster import LocalSystem


class Fragile(Actor):
    async def receive(self, message: object) -> None:
        if isinstance(message, BaseException):
            raise message


class Kept(InMemoryPersistence):
    """Keeps its events beyond the close of the system."""

    last: list[PersistedEvent]

    async def aclose(self) -> None:
        self.last = list(await self.list_events())
        await super().aclose()


async def test_r03_the_first_fact_names_the_process(anyio_backend_name: str) -> None:
    async with ActorSystem(system_id="shop") as system:
        await system.flush()
        (started,) = await system.persistence.list_events()
        assert (started.event_type, started.actor_address) == ("SystemStarted", "shop:0")
        assert started.run == system.run_id
        began: Any = started.payload["process_started"]
        assert abs(began - time.time()) < 86_400
        assert started.payload == {
            "pid": os.getpid(), "process_started": began, "host": socket.gethostname(),
            "python": platform.python_version(), "papyra": papyra.__version__, "loop": anyio_backend_name,
        }  # fmt: skip
        assert system.events() == []  # the events of actors


async def test_r03_the_last_fact_has_the_counts() -> None:
    store = Kept()
    async with ActorSystem(persistence=store) as system:
        ref = system.spawn(Fragile)
        await ref.tell(ValueError("bad"))
        with pytest.raises(papyra.ActorStopped):
            await ref.ask("late")
    stopped = store.last[-1]
    assert (stopped.event_type, stopped.actor_address) == ("SystemStopped", "local:0")
    seconds = stopped.payload.pop("seconds")
    assert isinstance(seconds, float)
    assert stopped.payload == {
        "reason": "closed", "actors": 1, "crashes": 1, "dead_letters": 1, "facts": 5, "facts_dropped": 0,
    }  # fmt: skip


async def end_of(error: BaseException | None, *, cancel: bool = False) -> object:
    store = Kept()
    try:
        with anyio.CancelScope() as scope:
            async with ActorSystem(persistence=store):
                if cancel:
                    scope.cancel()
                    await anyio.sleep_forever()
                if error is not None:
                    raise error
    except LookupError:
        pass
    return store.last[-1].payload["reason"]


async def test_r03_the_last_fact_says_how_it_ended() -> None:
    assert await end_of(None) == "closed"
    assert await end_of(LookupError("the host failed")) == "error"
    assert await end_of(None, cancel=True) == "cancelled"


async def test_r03_what_ends_the_system_from_inside_is_an_error() -> None:
    store = Kept()
    with pytest.raises(SystemExit):  # noqa: PT012 - it comes out of the block's end
        async with ActorSystem(persistence=store) as system:
            await system.spawn(Fragile).tell(SystemExit(3))
            await anyio.sleep_forever()
    assert store.last[-1].payload["reason"] == "error"


class NoCluster:
    """A cluster that nobody can join."""

    async def open(self, local: LocalSystem) -> None:
        raise ConnectionError("no server")


async def test_r03_a_start_that_fails_is_a_run_that_ended(caplog: pytest.LogCaptureFixture) -> None:
    store = Kept()
    cluster: Any = NoCluster()
    system = ActorSystem(persistence=store, cluster=cluster)
    with pytest.raises(ConnectionError, match="no server"):
        await system.start()
    await system.aclose()
    assert [(fact.event_type, fact.payload.get("reason")) for fact in store.last] == [
        ("SystemStarted", None),
        ("SystemStopped", "error"),
    ]
    assert caplog.records == []


def test_a_pid_is_a_process_only_with_its_start() -> None:
    pid, began = os.getpid(), process_started(os.getpid())
    assert is_running(pid, began)
    assert is_running(pid, None)
    if began is not None:
        assert not is_running(pid, began - 60)  # the pid was given again
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and a zombie
    assert not is_running(child.pid, None)
    child.communicate()
    assert not is_running(child.pid, None)


@pytest.mark.parametrize("with_ps", [True, False])
def test_without_proc_the_start_of_a_process_is_what_ps_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, with_ps: bool
) -> None:
    """As on macOS."""
    if with_ps:
        ps = tmp_path / "ps"
        ps.write_text('#!/bin/sh\n[ "$*" = "-o lstart= -p 1234" ] && echo "Sat Nov 28 04:24:38 2026"\n')
        ps.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(processes, "Path", lambda path: tmp_path / path.strip("/"))
    monkeypatch.setattr("os.kill", lambda _pid, _signal: None)
    began = time.mktime((2026, 11, 28, 4, 24, 38, 0, 0, -1)) if with_ps else None
    assert process_started(1234) == began
    assert process_started(4321) is None
    assert is_running(1234, began)
    assert is_running(1234, 60.0) is not with_ps  # else the pid decides


def test_the_process_of_another_user_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.kill", refuse)
    assert is_running(os.getpid(), process_started(os.getpid()))


def test_a_run_without_a_pid_ended_in_an_unknown_way() -> None:
    assert how_run_ended({"host": socket.gethostname(), "pid": None}, None) == "unknown"


PROGRAM = """
import sys, anyio
from papyra import Actor, ActorSystem

class Gateway(Actor):
    async def receive(self, message): raise ConnectionError("502")

class Mailer(Actor):
    async def receive(self, message): raise ConnectionError("smtp")

async def main():
    async with ActorSystem(persistence="json:./facts.ndjson") as system:
        for kind in (Gateway, Mailer) if sys.argv[1] == "first" else (Mailer, Gateway):
            ref = system.spawn(kind, name=kind.__name__.lower())
            try: await ref.ask("go")
            except ConnectionError: pass
        await system.flush()
        print("ready", flush=True)
        if sys.argv[1] == "first": await anyio.sleep_forever()

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_r03_two_runs_whose_actors_have_other_numbers_are_kept_apart(tmp_path: Path, loop: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py"]
    first = subprocess.Popen([*command, "first", loop], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    inspect = [sys.executable, "-m", "papyra_cli", "inspect", "runs", "--path", "facts.ndjson", "-o", "json"]
    live = json.loads(subprocess.check_output(inspect, cwd=tmp_path))
    assert [run["ended"] for run in runs_of(live)] == ["running"]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    subprocess.run([*command, "second", loop], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)

    runs = runs_of(json.loads(subprocess.check_output(inspect, cwd=tmp_path)))
    assert [run["ended"] for run in runs] == ["killed", "clean"]
    assert [(run["actors"], run["crashes"]) for run in runs] == [(2, 2), (2, 2)]
    lines = [json.loads(line) for line in (tmp_path / "facts.ndjson").read_bytes().splitlines()]
    crashes = [line for line in lines if line["event_type"] == "ActorCrashed"]
    assert [(line["actor_address"], line["payload"]["name"]) for line in crashes] == [
        ("local:1", "gateway"), ("local:2", "mailer"), ("local:1", "mailer"), ("local:2", "gateway"),
    ]  # fmt: skip
    assert {line["run"] for line in lines} == {run["run"] for run in runs}


def runs_of(printed: Any) -> list[Any]:
    found: list[Any] = printed["runs"] if isinstance(printed, dict) else printed
    return found
