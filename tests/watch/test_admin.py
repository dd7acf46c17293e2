"""The admin socket: what it answers, whom it lets in, and that a bad client harms nobody."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra import Actor, ActorSystem
from papyra.exceptions import PersistenceError
from papyra_contrib._timings.histogram import BOUNDS_SECONDS, Histograms, quantile
from papyra_contrib._timings.pace import MAX_GAP_SENDS
from papyra_contrib._timings.timings import PapyraTimings
from papyra_contrib.admin import AdminSocket
from papyra_contrib.admin._budget import CLIENT_BURST_SECONDS, Budget, ClientBudget, metered
from papyra_contrib.admin._client import NoAnswer, ask_once
from papyra_contrib.admin._folder import (
    FolderRefused,
    remove_stale,
    reserved_path,
    runtime_folder,
    sockets_of_others,
)
from papyra_contrib.admin._percentiles import IDLE_SECONDS, Percentiles
from papyra_contrib.admin._views import Views

from .._loops import one_loop
from ._admin_client import Client

# ruff: noqa: ASYNC240, ASYNC220 - short looks at local files, and a process that is waited for in a thread


class Echo(Actor):
    async def receive(self, message: object) -> object:
        if message == "fail":
            raise ValueError("as asked")
        return message


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Name a folder that is not below pytest's, whose mode each run of pytest sets."""
    with tempfile.TemporaryDirectory() as outer:
        path = Path(outer, "papyra")
        monkeypatch.setenv("PAPYRA_RUNTIME_DIR", str(path))
        yield path


@asynccontextmanager
async def serving(**options: bool) -> AsyncGenerator[tuple[ActorSystem, AdminSocket]]:
    admin = AdminSocket(**options)
    async with ActorSystem(system_id="shop", instruments=[admin]) as system:
        with anyio.fail_after(30):
            while admin.path is None:
                await anyio.lowlevel.checkpoint()
        yield system, admin


async def in_thread(function: Any, *arguments: object, **keywords: object) -> Any:
    with anyio.fail_after(60):
        return await anyio.to_thread.run_sync(partial(function, *arguments, **keywords))


def one_answer(path: Path, op: str, **fields: object) -> tuple[dict[str, Any], dict[str, Any]]:
    client = Client(path)
    try:
        return client.read(), client.ask(op, **fields)
    finally:
        client.close()


async def test_a_client_is_greeted_and_answered():
    async with serving() as (system, admin):
        echo = system.spawn(Echo, name="echo")
        assert await echo.ask("hello") == "hello"
        greeting, overview = await in_thread(one_answer, admin.path, "overview")
        assert greeting["papyra_admin"] == 1
        assert (greeting["system_id"], greeting["pid"], greeting["run"]) == (
            "shop",
            os.getpid(),
            system.run_id,
        )
        assert "stop" not in greeting["ops"]
        assert overview["ok"]
        assert overview["result"]["statistics"]["kinds"]["Echo"]["processed"] == 1
        _, actor = await in_thread(one_answer, admin.path, "actor", actor="echo")
        assert actor["result"]["address"] == str(echo.address)
        assert [event["type"] for event in actor["result"]["events"]] == ["ActorStarted"]


async def test_every_operation_answers():
    async with serving() as (system, admin):
        system.spawn(Echo, name="echo")
        greeting, _ = await in_thread(one_answer, admin.path, "busy")
        for op in greeting["ops"]:
            _, reply = await in_thread(one_answer, admin.path, op, actor="echo")
            assert reply["ok"], (op, reply)


async def test_rows_come_in_pages_of_at_most_500():
    async with serving() as (system, admin):
        for _ in range(600):
            system.spawn(Echo)
        _, first = await in_thread(one_answer, admin.path, "top", limit=5000)
        _, rest = await in_thread(one_answer, admin.path, "top", limit=5000, offset=500)
        assert (len(first["result"]["rows"]), len(rest["result"]["rows"])) == (500, 100)
        _, tree = await in_thread(one_answer, admin.path, "tree")
        assert [(row["count"], row["actor_type"]) for row in tree["result"]["rows"]] == [(600, "Echo")]


async def test_actors_are_stopped_only_where_actions_are_on():
    async with serving(actions=True) as (system, admin):
        ref = system.spawn(Echo, name="echo")
        _, reply = await in_thread(one_answer, admin.path, "stop", actor="echo")
        assert reply["result"] == {"stopped": str(ref.address)}
        assert not ref.is_alive()
    async with serving() as (system, admin):
        ref = system.spawn(Echo, name="echo")
        _, reply = await in_thread(one_answer, admin.path, "stop", actor="echo")
        assert "unknown operation" in reply["error"]
        assert ref.is_alive()


async def test_dead_letters_show_their_payload_only_if_asked_to():
    for payloads in (False, True):
        async with serving(payloads=payloads) as (system, admin):
            ref = system.spawn(Echo)
            await system.stop(ref)
            with pytest.raises(Exception, match="stopped"):
                await ref.tell("a secret")
            _, reply = await in_thread(one_answer, admin.path, "dead_letters")
            (row,) = reply["result"]["rows"]
            assert (row["target"], row["message_type"]) == (str(ref.address), "str")
            assert ("a secret" in str(reply)) == payloads


@pytest.mark.parametrize(
    ("op", "field", "value", "problem"),
    [
        ("top", "find", 7, "find must be a string, not 7"),
        ("top", "by", "size", "by must be one of mailbox, rate, restarts, processed, latency, not 'size'"),
        ("top", "limit", -1, "limit must be a whole number of at least 0, not -1"),
        ("tree", "depth", -1, "depth must be a whole number of at least 0, not -1"),
        ("tree", "type", 7, "type must be the name of a class"),
        ("actor", "actor", 7, "actor must be a name or an address, as in local:7"),
        ("events", "type", 7, "type must be a string, not 7"),
        ("events", "since", "now", "since must be a Unix time, not 'now'"),
    ],
)
async def test_a_wrong_value_in_a_request_is_named(op: str, field: str, value: object, problem: str):
    async with serving() as (_, admin):
        assert admin.path is not None
        with pytest.raises(NoAnswer) as refused:
            await ask_once(admin.path, op, patience=20, **{field: value})
        assert str(refused.value) == problem


async def test_events_are_selected_by_time():
    async with serving() as (system, admin):
        system.spawn(Echo)
        assert admin.path is not None
        for shift, found in ((-60, 1), (60, 0)):
            _, answer = await ask_once(
                admin.path, "events", patience=20, type="ActorStarted", since=system.now() + shift
            )
            assert len(answer["rows"]) == found


async def test_the_store_is_probed_once_for_many_requests(monkeypatch: pytest.MonkeyPatch):
    async with serving() as (system, admin):
        assert admin.path is not None
        probes: list[str] = []

        async def refuse() -> None:
            probes.append("ping")
            raise PersistenceError("the disk is gone")

        monkeypatch.setattr(system.persistence, "ping", refuse)
        for _ in range(3):
            _, answer = await ask_once(admin.path, "store", patience=20)
            assert answer["problem"] == "the disk is gone"
        assert probes == ["ping"]


async def test_a_fault_in_a_view_is_logged_and_the_client_is_served_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def broken(self: Views, request: dict[str, Any]) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(Views, "busy", broken)
    async with serving() as (_, admin):
        client = await in_thread(Client, admin.path)
        await in_thread(client.read)
        assert (await in_thread(client.ask, "busy"))["error"] == "KeyError in the server; its log has more"
        assert (await in_thread(client.ask, "top"))["ok"] is True
        client.close()
    assert "the admin socket could not answer a request" in caplog.text
    assert "KeyError: 'a fault'" in caplog.text


# -- waiting and handling times


async def test_times_of_messages_come_with_the_second_request():
    async with serving() as (system, admin):
        echo = system.spawn(Echo)
        assert admin.path is not None
        timings: dict[str, Any] = {}
        with anyio.fail_after(30):
            while not timings:
                _, overview = await ask_once(admin.path, "overview", patience=20)
                timings = overview["timings"]
                await echo.ask("hello")
        assert set(timings["Echo"]) == {"wait_p99", "takes_p50", "takes_p99"}
        assert 0 < timings["Echo"]["takes_p50"] <= timings["Echo"]["takes_p99"]


async def test_times_of_messages_are_those_of_the_last_minute_or_older_ones(
    monkeypatch: pytest.MonkeyPatch,
):
    now = 1000.0
    monkeypatch.setattr("papyra_contrib.admin._percentiles.time", SimpleNamespace(monotonic=lambda: now))
    timings = PapyraTimings()
    async with ActorSystem(instruments=[timings]) as system:
        percentiles = Percentiles(system)

        def looks(seconds: float, weight: int) -> tuple[float | None, float | None]:
            nonlocal now
            now += 31
            timings.durations.of("Echo").observe(seconds, weight)
            row = percentiles.look()["Echo"]
            return row["takes_p50"], row["takes_p99"]

        slow, quick = pytest.approx((1.75, 2.485)), pytest.approx((0.00175, 0.002485))
        assert looks(2.0, 100) == slow
        assert looks(0.002, 100) == quick
        assert looks(0.002, 0) == quick
        assert looks(0.002, 1) == quick  # the first look is over a minute ago
        assert looks(0.002, 0) == quick
        assert looks(2.0, 1000) == slow
        for _ in range(3):  # without new ones, those from the start
            p50, _ = looks(0.0, 0)
        assert p50 == pytest.approx(1.0 + 1.5 * (600.5 - 101) / 1100)


async def test_times_are_measured_only_while_a_client_asks(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr("papyra_contrib.admin._percentiles.time", SimpleNamespace(monotonic=lambda: now))
    async with ActorSystem() as system:
        percentiles, echo = Percentiles(system), system.spawn(Echo)
        for _ in range(2):
            percentiles.look()
            (own,) = system.instruments
            assert isinstance(own, PapyraTimings)
            measured = sum(own.durations.of("Echo").counts)
            await echo.ask("hello")
            await echo.ask("the one before is measured")
            assert sum(own.durations.of("Echo").counts) > measured
            now += IDLE_SECONDS + 1
            for _ in range(2 * MAX_GAP_SENDS):
                await echo.tell("until a sample is due")
            await echo.ask("hello")
            measured = sum(own.durations.of("Echo").counts)
            for _ in range(2 * MAX_GAP_SENDS):
                await echo.tell("hello")
            await echo.ask("hello")
            assert sum(own.durations.of("Echo").counts) == measured


def test_a_quantile_lies_within_its_bucket():
    counts = [0] * (len(BOUNDS_SECONDS) + 1)
    assert quantile(counts, 0.99) is None
    counts[0] = 4
    assert quantile(counts, 0.5) == pytest.approx(0.5e-6)
    counts[-1] = 4
    assert quantile(counts, 0.25) == pytest.approx(0.5e-6)
    assert quantile(counts, 0.5) == pytest.approx(1e-6)
    assert quantile(counts, 0.75) == quantile(counts, 1.0) == 10.0  # how much more is not known
    counts[-2] = 8
    assert quantile(counts, 0.5) == pytest.approx(5.0 + 5.0 * 4 / 8)


def test_histograms_are_read_as_they_were_written():
    written = Histograms()
    written.of("Echo").observe(0.002, 3)
    data = json.loads(json.dumps(written.to_dict()))
    assert Histograms.from_dict(data).all()["Echo"].buckets() == written.of("Echo").buckets()
    assert Histograms.from_dict(data).all()["Echo"].seconds == pytest.approx(0.006)
    data["Echo"]["counts"].pop()
    with pytest.raises(ValueError, match="a histogram has 23 counts, not 22"):
        Histograms.from_dict(data)
    with pytest.raises(ValueError, match="rate must be more than 0 samples a second, not 0"):
        PapyraTimings(0)


# -- 6.1: who may connect


@pytest.mark.parametrize("named", ["PAPYRA_RUNTIME_DIR", "XDG_RUNTIME_DIR", ""])
def test_admin_folder_is_the_one_that_the_environment_names(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for variable in ("PAPYRA_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if named:
        monkeypatch.setenv(named, str(tmp_path))
    folders = {
        "PAPYRA_RUNTIME_DIR": tmp_path,
        "XDG_RUNTIME_DIR": tmp_path / "papyra",
        "": tmp_path / f"papyra-{os.getuid()}",
    }
    assert runtime_folder() == folders[named]


def test_admin_folder_that_has_no_room_for_a_socket_is_refused(tmp_path: Path):
    with (
        pytest.raises(FolderRefused, match="too long for a socket"),
        reserved_path(tmp_path / ("x" * 99), ""),
    ):
        pass
    for number in range(1, 100):
        (tmp_path / f"{os.getpid()}-shop{f'-{number}' if number > 1 else ''}.sock").touch()
    with pytest.raises(FolderRefused, match="too many sockets"), reserved_path(tmp_path, "shop"):
        pass


def test_admin_folder_keeps_what_is_not_known_to_be_stale(folder: Path):
    assert sockets_of_others(frozenset()) == []  # there is no folder yet
    folder.mkdir(mode=0o700)
    odd = folder / f"{10**30}-shop.sock"
    odd.touch()
    remove_stale(folder)
    assert sockets_of_others(frozenset()) == [odd]


async def test_admin_modes_decide_where_the_kernel_names_no_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(socket, "SO_PEERCRED", raising=False)  # macOS has none
    async with serving() as (_, admin):
        assert (await in_thread(one_answer, admin.path, "busy"))[1]["ok"]


def connects_as_another_user(path: Path) -> int:
    """Return the error number of a connection that another user tries, or how many bytes it gets."""
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(20)
            os._exit(client.connect_ex(str(path)) or len(client.recv(100)))
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def test_admin_modes(folder: Path):
    async with serving() as (_, admin):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert admin.path is not None
        assert stat.S_IMODE(admin.path.stat().st_mode) == 0o600
        if os.getuid() == 0:
            for path in (folder, folder.parent):  # all may enter, so the mode of the socket counts
                path.chmod(0o755)
            assert await in_thread(connects_as_another_user, admin.path) == errno.EACCES
            admin.path.chmod(0o666)  # even then the server greets nobody else
            assert await in_thread(connects_as_another_user, admin.path) == 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("spoil", ["link", "open", "owner"])
async def test_admin_modes_of_a_folder_that_is_not_ours_alone(
    folder: Path, spoil: str, caplog: pytest.LogCaptureFixture
):
    if spoil == "link":
        (folder.parent / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(folder.parent / "elsewhere")
    elif spoil == "open":
        folder.mkdir()
        folder.chmod(0o777)
    elif os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    else:
        folder.mkdir(mode=0o700)
        os.chown(folder, 65534, -1)
    admin = AdminSocket()
    async with ActorSystem(instruments=[admin]) as system:
        echo = system.spawn(Echo)
        with anyio.fail_after(30):
            while not any(
                str(folder) in str(record.exc_info or record.getMessage()) for record in caplog.records
            ):
                assert await echo.ask("still here") == "still here"
        assert admin.path is None


# -- 6.2: kill -9


async def test_stale(folder: Path):
    program = """
        import anyio
        from papyra import ActorSystem
        from papyra_contrib.admin import AdminSocket
        async def main():
            admin = AdminSocket()
            async with ActorSystem(instruments=[admin]):
                while admin.path is None:
                    await anyio.sleep(0.01)
                print(admin.path, flush=True)
                await anyio.sleep_forever()
        anyio.run(main)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    left = await in_thread(process.stdout.readline)
    process.send_signal(signal.SIGKILL)
    await in_thread(process.wait)
    process.stdout.close()
    assert [str(path) for path in folder.iterdir()] == [left.strip()]
    async with serving() as (_, admin):
        assert list(folder.iterdir()) == [admin.path]


async def test_stale_with_the_pid_of_this_process(folder: Path):
    """In a container a program has the same pid at each start."""
    folder.mkdir(mode=0o700, exist_ok=True)
    left = folder / f"{os.getpid()}-shop.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    async with serving() as (_, admin):
        assert list(folder.iterdir()) == [admin.path] == [left]
        async with serving() as (_, other):  # a second system of the process leaves the first alone
            assert admin.path != other.path
            assert set(folder.iterdir()) == {admin.path, other.path}


# -- 6.3: hostile clients


@pytest.mark.parametrize(
    "line", [b"garbage\n", b"[1, 2]\n", b'{"op": 7}\n', b"[" * 5000 + b"\n", b'{"op": "\xff"}\n', b"\n"]
)
async def test_hostile_client_with_garbage(line: bytes):
    async with serving() as (_, admin):
        client = await in_thread(Client, admin.path)
        await in_thread(client.read)
        await in_thread(client.send, line)
        assert (await in_thread(client.read))["ok"] is False
        assert (await in_thread(client.ask, "busy"))["ok"] is True  # the same client goes on
        client.close()


async def test_hostile_client_with_an_endless_line():
    async with serving() as (_, admin):
        client = await in_thread(Client, admin.path)
        await in_thread(client.read)
        await in_thread(client.send, b"x" * (65 * 1024))
        assert "at most 65536 bytes" in (await in_thread(client.read))["error"]
        assert await in_thread(client.read) == {}
        client.close()


async def fill(client: socket.socket, data: bytes) -> None:
    """Send until there is no more room, although the server reads."""
    full = 0
    while full < 100:
        try:
            client.send(data)
            full = 0
        except BlockingIOError:
            full += 1
        await anyio.lowlevel.checkpoint()


async def test_hostile_client_that_never_reads_holds_up_nobody():
    async with serving() as (system, admin):
        for _ in range(500):
            system.spawn(Echo)
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(str(admin.path))
        silent.setblocking(False)
        request = b'{"id": 1, "op": "top", "limit": 500}\n' * 500
        await fill(silent, request)
        _, reply = await in_thread(one_answer, admin.path, "busy")
        assert reply["ok"]
        silent.close()


async def test_hostile_client_number_nine_is_refused():
    async with serving() as (_, admin):
        clients = [await in_thread(Client, admin.path) for _ in range(8)]
        for client in clients:
            assert (await in_thread(client.read))["papyra_admin"] == 1
        ninth = await in_thread(Client, admin.path)
        assert "8 clients already" in (await in_thread(ninth.read))["error"]
        assert await in_thread(ninth.read) == {}
        for client in (*clients, ninth):
            client.close()
        with anyio.fail_after(30):  # its place is free again
            while "papyra_admin" not in (await in_thread(one_answer, admin.path, "busy"))[0]:
                pass


async def test_a_process_without_a_file_to_spare_serves_again_once_it_has_one():
    async with serving() as (_, admin):
        with socket.socket(socket.AF_UNIX) as client:
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            spare = os.dup(0)
            os.close(spare)
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
            try:
                client.connect(str(admin.path))
                for _ in range(100):
                    await anyio.lowlevel.checkpoint()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            client.settimeout(20)
            assert b"papyra_admin" in await in_thread(client.recv, 65536)


def asks_without_a_pause(path: Path, until: float) -> None:
    client = Client(path)
    client.read()
    while time.monotonic() < until:
        assert client.ask("top", limit=500)["ok"]
        assert client.ask("events", actor=f"nobody-{time.monotonic()}")["ok"]
    client.close()


def comes_and_goes(path: Path, until: float) -> None:
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # waits while too many wait to be accepted


def comes_asks_and_goes(path: Path, until: float) -> None:
    while time.monotonic() < until:
        one_answer(path, "top", limit=500)


def sends_byte_by_byte(path: Path, until: float) -> None:
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):  # the line is too long, in the end
            client.settimeout(20)
            client.connect(str(path))
            while time.monotonic() < until:
                client.send(b"x")


@pytest.mark.parametrize("window", [2, pytest.param(5, marks=pytest.mark.sweep)])
@pytest.mark.parametrize(
    "act", [asks_without_a_pause, comes_and_goes, comes_asks_and_goes, sends_byte_by_byte]
)
async def test_hostile_client_gets_a_small_share_of_the_loop(
    act: Callable[[Path, float], None], window: float, monkeypatch: pytest.MonkeyPatch
):
    """97 % are left to the application: once the burst is used up, all clients together take 3 %."""
    spent: list[float] = []
    spend = Budget.spend

    def counted(self: Budget, seconds: float) -> None:
        spent.append(seconds)
        spend(self, seconds)

    monkeypatch.setattr(Budget, "spend", counted)
    for burst in ("CLIENTS_BURST_SECONDS", "ACCEPT_BURST_SECONDS"):
        monkeypatch.setattr(f"papyra_contrib.admin._server.{burst}", 0.005)
    monkeypatch.setattr("papyra_contrib.admin._budget.CLIENT_BURST_SECONDS", 0.0)
    async with serving() as (system, admin):
        for _ in range(500):
            system.spawn(Echo)
        began = time.monotonic()
        await in_thread(act, admin.path, began + window)
        seconds = time.monotonic() - began
    print(f"{sum(spent) * 1e3:.1f} ms of {seconds:.1f} s, {max(spent) * 1e3:.1f} ms at once")
    assert sum(spent) < 0.03 * seconds + 2 * 0.005 + 9 * max(spent)  # one answer for each place, and the last


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses of all clients together, and those of the door."""
    found: list[float] = []
    pause = Budget.pause

    def noted(self: Budget) -> float:
        seconds = pause(self)
        if seconds > 0 and not isinstance(self, ClientBudget):
            found.append(seconds)
        return seconds

    monkeypatch.setattr(Budget, "pause", noted)
    return found


async def test_all_pages_of_a_tree_come_without_a_pause(pauses: list[float]):
    def all_pages(path: Path) -> int:
        client = Client(path)
        client.read()
        answers = [client.ask("tree", all=True, limit=100, offset=100 * page) for page in range(24)]
        client.close()
        return sum(len(answer["result"]["rows"]) for answer in answers)

    async with serving() as (system, admin):
        for _ in range(2400):
            system.spawn(Echo)
        assert await in_thread(all_pages, admin.path) == 2400
    assert pauses == []


async def test_a_crowd_of_newcomers_is_let_in_without_a_pause(pauses: list[float]):
    """Each is greeted or told that there are 8 already; none finds the queue full."""

    def crowd(path: Path) -> None:
        clients = [Client(path) for _ in range(60)]
        for client in clients:
            assert {"papyra_admin", "error"} & client.read().keys()
            client.close()

    async with serving() as (_, admin):
        for _ in range(3):
            await in_thread(crowd, admin.path)
    assert pauses == []


async def test_a_client_that_asks_little_does_not_wait_for_the_greedy(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr("papyra_contrib.admin._budget.time", SimpleNamespace(monotonic=lambda: now))
    whole = Budget(0.025, 1.0)
    greedy, polite = ClientBudget(whole), ClientBudget(whole)
    now = 3600.0
    greedy.spend(10)
    assert whole.pause() == pytest.approx(8.0)  # the rest is forgiven
    await polite.turn()
    polite.spend(2 * CLIENT_BURST_SECONDS)
    for each in (greedy, polite):
        with anyio.move_on_after(0.05) as waited:
            await each.turn()
        assert waited.cancelled_caught


async def test_a_client_does_not_wait_for_what_its_wait_cost(monkeypatch: pytest.MonkeyPatch):
    """In debug mode a client could wait over 20 s: each wait used time, and so began another one."""
    steps = count()
    clock = SimpleNamespace(monotonic=time.monotonic, thread_time=lambda: float(next(steps)))
    monkeypatch.setattr("papyra_contrib.admin._budget.time", clock)
    budget = Budget(0.5, 0.0)
    budget.spend(0.001)
    with anyio.fail_after(20):
        await metered(budget.turn(), budget)
    assert budget.pause() > 0


async def test_a_full_queue_of_newcomers_has_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, tries = tmp_path / "full.sock", 0

    class Counted(socket.socket):
        def connect_ex(self, address: Any) -> int:
            nonlocal tries
            tries += 1
            return super().connect_ex(address)

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        monkeypatch.setattr("papyra_contrib.admin._client.socket.socket", Counted)
        with pytest.raises(NoAnswer, match="busy with other clients"):
            await ask_once(path, "busy", patience=0.2)
    assert 1 <= tries <= 5


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b'{"papyra_admin": 1, "ops": ["busy"]}\n', "it has ended"),
        (b"x" * 200, "its answer is too long"),
        (b"[]\n", "ValueError: .*"),
        (b'{"papyra_admin": 1, "version": "0.9", "ops": []}\n', "its version, 0.9, has no operation 'busy'"),
    ],
)
async def test_an_odd_answer_of_a_server_is_named(
    sent: bytes, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("papyra_contrib.admin._client.MAX_ANSWER_BYTES", 100)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "odd.sock"))
        listener.listen()
        listener.setblocking(False)

        async def greet_and_leave() -> None:
            await anyio.wait_readable(listener)
            with listener.accept()[0] as accepted:
                accepted.sendall(sent)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(greet_and_leave)
            with pytest.raises(NoAnswer, match=f"^{problem}$"):
                await ask_once(tmp_path / "odd.sock", "busy", patience=20)


@one_loop
async def test_hostile_client_a_hundred_at_once():
    """The client that was there before is answered, nothing told is lost, and memory and files are bounded.

    The row ``admin_hostile`` of the benchmarks has the time of an answer and what ``tell`` keeps.
    """
    async with serving() as (system, admin):
        for _ in range(500):
            system.spawn(Echo)
        ref, told, turns = system.spawn(Echo, name="echo"), 0, 0
        client = await in_thread(Client, admin.path)
        assert (await in_thread(client.read))["system_id"] == "shop"
        files, resident = open_files(), resident_bytes()
        hostile = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("_hostile_clients.py")), str(admin.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert hostile.stdout is not None
            assert await in_thread(hostile.stdout.readline) == b"all\n"
            while turns < 32:
                for _ in range(1000):
                    await ref.tell(None)
                told, turns = told + 1000, turns + 1
                if turns % 8 == 0:
                    reply = await in_thread(client.ask, "actor", actor="echo")
                    assert told - 1000 <= reply["result"]["processed"] <= told
                    await anyio.sleep(0.4)
                assert (
                    open_files() - files <= 4 + 9
                )  # of the process, of 8 clients and one more that is refused
            assert resident_bytes() - resident < 64e6
        finally:
            hostile.kill()
            hostile.communicate()
        await ref.ask(None)
        info = system.actor_info(ref)
        assert info is not None
        assert info.processed == told + 1
        client.close()
        greeting: dict[str, Any] = {}
        with anyio.fail_after(60):  # there are places again
            while "papyra_admin" not in greeting:
                with suppress(BlockingIOError, TimeoutError):  # those that have left are still in the queue
                    greeting, _ = await in_thread(one_answer, admin.path, "busy")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- 6.4: close


@pytest.mark.parametrize(
    "wants", ["nothing", "half a line", "answers that it does not read", "more than its share"]
)
async def test_close_never_waits_for_a_client(wants: str, monkeypatch: pytest.MonkeyPatch):
    async with serving() as (system, admin):
        for _ in range(500):
            system.spawn(Echo)
        client = await in_thread(Client, admin.path)
        await in_thread(client.read)
        request = b'{"op": "top", "limit": 500}\n'
        if wants == "half a line":
            await in_thread(client.send, request[:10])
        elif wants == "answers that it does not read":
            client.socket.setblocking(False)
            await fill(client.socket, request)
            client.socket.settimeout(20)
        elif wants == "more than its share":
            waits = anyio.Event()
            monkeypatch.setattr(Budget, "pause", lambda self: waits.set() or 60.0)
            await in_thread(client.send, request)
            await waits.wait()
        began = anyio.current_time()
    assert anyio.current_time() - began < 5  # and not the minute that an idle client has
    while await in_thread(client.read):
        pass
    client.close()


async def test_systems_that_start_side_by_side_have_a_socket_each(folder: Path):
    sockets = [AdminSocket() for _ in range(3)]
    async with (
        ActorSystem(instruments=sockets[:1]),
        ActorSystem(instruments=sockets[1:2]),
        ActorSystem(instruments=sockets[2:]),
    ):
        with anyio.fail_after(60):
            while None in [each.path for each in sockets]:
                await anyio.lowlevel.checkpoint()
        assert len({each.path for each in sockets}) == len(list(folder.iterdir())) == 3
    assert list(folder.iterdir()) == []
