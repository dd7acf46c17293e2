"""``papyra top`` and ``papyra tree``, on a real application in a process of its own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from click.testing import CliRunner
from textual.widgets import Static

from papyra_cli._errors import Failure
from papyra_cli._exit_codes import ExitCode
from papyra_cli._live.client import TRY_AGAIN_SECONDS, LiveSystem, is_open, live_sockets
from papyra_cli._main import papyra
from papyra_cli.commands._top.app import TopApp
from papyra_cli.commands._top.rows import actor_lines, totals, type_rows
from papyra_cli.commands._top.snapshot import Snapshot
from papyra_cli.commands.top import top
from papyra_cli.commands.tree import tree

from ._application import HOSTILE

COMMAND = Path(sys.executable).with_name("papyra")


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def application(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start the application; return the folder of its socket."""
    folder = tmp_path_factory.mktemp("run") / "papyra"
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("_application.py")), request.param],
        stdout=subprocess.PIPE,
        env=os.environ | {"PAPYRA_RUNTIME_DIR": str(folder)},
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    yield folder
    process.kill()
    process.wait()
    process.stdout.close()


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    ran = subprocess.run(
        [COMMAND, *arguments],
        env=os.environ | {"PAPYRA_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == code, ran.stderr
    return ran.stdout if code == 0 else ran.stderr


def test_top_once_prints_one_document(application: Path):
    document = json.loads(run(application, "top", "--once", "-o", "json"))
    assert document["system"]["system_id"] == "shop"
    assert set(document["statistics"]["kinds"]) == {"Orders", "Session"}
    assert document["statistics"]["kinds"]["Session"]["alive"] == 21
    assert {"address", "name", "actor_type", "state", "mailbox_depth", "processed"} <= set(
        document["actors"][0]
    )


@pytest.mark.parametrize("arguments", [("tree",), ("top", "--once")])
def test_each_line_has_the_columns_that_the_help_names(application: Path, arguments: tuple[str, ...]):
    lines = {"tree": tree, "top": top}[arguments[0]].lines
    for line in run(application, *arguments).splitlines():
        word, *cells = line.split("\t")
        assert len(cells) == len(lines[word]), line
        named = dict(zip(lines[word], cells, strict=True))
        for name in {"level", "actors", "alive", "handled", "waiting", "failures"} & named.keys():
            assert named[name].isdecimal(), line  # a program that reads the pipe takes it for a number


@pytest.mark.parametrize("by", ["mailbox", "rate", "restarts", "latency"])
def test_top_once_in_every_order(application: Path, by: str):
    lines = run(application, "top", "--once", "--by", by).splitlines()
    assert lines[-1].startswith("status\tshop (pid ")
    assert any(line.startswith("type\tOrders\t1\t") for line in lines)


def test_tree_folds_siblings_and_unfolds_them(application: Path):
    lines = run(application, "tree").splitlines()
    assert [line.split("\t")[:4] for line in lines[:2]] == [
        ["node", "0", "1", "Orders"],
        ["node", "1", "20", "Session"],
    ]
    assert lines[-1] == "status\t22 actors"
    assert len(run(application, "tree", "--all").splitlines()) == 22 + 1
    assert len(run(application, "tree", "--depth", "0").splitlines()) == 2 + 1


@pytest.mark.parametrize("arguments", [("tree",), ("top", "--once")])
def test_top_escaping(application: Path, arguments: tuple[str, ...]):
    shown = run(application, *arguments)
    assert "evil\\x1b[31m\\u202e" in shown
    assert not {"\x1b", "\u202e"} & set(shown)


@pytest.mark.parametrize("application", ["asyncio"], indirect=True)
def test_tables_are_drawn_for_a_terminal(application: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PAPYRA_RUNTIME_DIR", str(application))
    invoke = partial(CliRunner().invoke, papyra, env={"COLUMNS": "150"})
    shown = invoke(["tree", "-o", "table"]).stdout
    assert re.search(r"  Orders +orders +shop:1 +\w+ +[\d,]+ +\d,\d{3}", shown)
    assert re.search(r"     20 x Session +- +- +- +0 +0", shown)
    assert re.search(r"  Session +\[bold red\]evil\\x1b\[31m\\u202e</b> +shop:2", shown)
    assert shown.endswith("22 actors\n")
    once = invoke(["top", "--once", "-o", "table"]).stdout
    assert "seconds" not in once  # as no actor runs for long
    assert re.search(r"  Orders +1 +\d,\d{3} +- +[\d,]+ +0 +0", once)

    started: list[TopApp] = []
    monkeypatch.setattr(TopApp, "run", lambda app: started.append(app))
    assert invoke(["top", "-o", "table", "--by", "rate", "--interval", "3s", "-n", "7"]).exit_code == 0
    (app,) = started
    assert (app._by, app._interval, app._rows, app._find_socket()) == ("rate", 3.0, 7, *application.iterdir())


@pytest.mark.parametrize(
    ("lacking", "code", "text"),
    [
        ("textual", ExitCode.UNAVAILABLE, "pip install 'papyra-cli[tui]'"),
        ("rich.text", ExitCode.NO, "rich.text"),
    ],
)
def test_top_says_that_it_needs_textual(
    lacking: str, code: ExitCode, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Lacking:
        def find_spec(self, name: str, *_: object) -> None:
            if name == lacking:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for loaded in ("papyra_cli.commands._top.app", "textual.app", lacking):
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Lacking(), *sys.meta_path])
    done = CliRunner().invoke(papyra, ["top", "-o", "table", "--socket", str(tmp_path)])
    assert (done.exit_code, text in done.stderr) == (code, True)


def test_nothing_runs(tmp_path: Path):
    assert "PAPYRA_INSTRUMENTS=admin" in run(tmp_path, "top", "--once", code=3)
    assert "PAPYRA_INSTRUMENTS=admin" in run(tmp_path / "missing", "tree", code=3)


def test_a_socket_of_a_process_that_has_ended_is_passed_over(tmp_path: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"{ended.pid}-shop.sock").touch()
    assert "no running system" in run(tmp_path, "tree", code=3)


def test_a_socket_that_was_left_to_another_process_is_passed_over(application: Path):
    """Its pid is that of a process that lives: it was given out again."""
    left = application / f"{os.getpid()}-shop.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    try:
        assert "orders" in run(application, "tree")
    finally:
        left.unlink()


def test_several_systems_have_to_be_told_apart(application: Path):
    (socket,) = application.iterdir()
    twin = socket.with_name(f"{os.getpid()}-other.sock")
    twin.symlink_to(socket)
    try:
        listed = run(application, "tree", code=2)
        assert f"--pid {os.getpid()} --system other" in listed
        assert run(application, "tree", "--system", "other")
        assert run(application, "tree", "--socket", str(socket))
    finally:
        twin.unlink()


@pytest.mark.parametrize("application", ["asyncio"], indirect=True)  # the client can't see the difference
def test_top_on_a_terminal_answers_to_its_keys(application: Path):
    (socket,) = application.iterdir()

    async def look_on() -> None:
        places = [socket]
        app = TopApp(lambda: places[-1], "mailbox", 60.0, 40)
        async with app.run_test(size=(110, 12)) as pilot:
            await seen(pilot, lambda: app._snapshot is not None)
            assert "msg/s" not in shown(app, "#totals")  # there is no rate without a second look
            with anyio.fail_after(60):
                while [row[0] for row in rows(app, "types")] != ["Orders", "1 quiet"]:
                    await app.look()
            assert "msg/s" in shown(app, "#totals")
            assert "[bold red]evil\\x1b[31m\\u202e</b>" in [row[0] for row in rows(app, "actors")]

            await pilot.press("p")
            await seen(pilot, lambda: "press p to resume" in shown(app, "#state"))
            before = app._snapshot
            await app.look()
            assert app._snapshot is before
            await pilot.press("p", "r")
            await seen(pilot, lambda: app._snapshot is not before)
            assert (shown(app, "#state"), app._by) == ("", "rate")

            await pilot.press("slash", *"ord", "enter")
            await seen(pilot, lambda: len(rows(app, "actors")) == 1)
            await pilot.press("enter")
            await seen(pilot, lambda: len(app.screen_stack) == 2)
            assert "children  20" in str(app.screen.query_one(Static).render())
            await pilot.press("down")
            assert len(app.screen_stack) == 2
            await pilot.press("escape", "slash", "ctrl+u", "enter")
            await seen(pilot, lambda: len(rows(app, "actors")) > 20)

            await pilot.press("question_mark")
            await seen(pilot, lambda: app.screen.query("HelpPanel"))
            await pilot.press("question_mark")
            await seen(pilot, lambda: not app.screen.query("HelpPanel"))

            assert app._live is not None
            app._live.close()
            await pilot.press("enter")
            await seen(pilot, lambda: "has probably ended" in shown(app, "#state"))
            places.append(socket.with_name("gone.sock"))
            await app.look()  # and it leaves
            await app.look()
            assert "gone.sock" in shown(app, "#state")
            await pilot.press("enter")  # there is no system to ask
            assert rows(app, "actors")
            places.append(socket.with_name(f"{os.getpid()}-anew.sock"))  # as of one that was started anew
            places[-1].symlink_to(socket)
            await app.look()
            assert not shown(app, "#state")
            places[-1].unlink()
            await pilot.press("q")
        assert (app.is_running, app._live._lines.closed) == (False, True)

    anyio.run(look_on)


def shown(app: TopApp, name: str) -> str:
    return str(app.query_one(name, Static).render())


def rows(app: TopApp, name: str) -> list[list[str]]:
    table = app._table(name)
    return [[str(cell) for cell in table.get_row_at(index)] for index in range(table.row_count)]


@pytest.mark.sweep  # textual's pictures take half a minute
@pytest.mark.parametrize("width", [80, 150])
def test_top_snapshot(application: Path, width: int):
    (socket,) = application.iterdir()

    async def look_on() -> None:
        app = TopApp(lambda: socket, "mailbox", 0.05, 40)
        async with app.run_test(size=(width, 40)) as pilot:
            await seen(pilot, lambda: app._snapshot is not None and app._snapshot.rates)
            text = app.export_screenshot()
            assert "shop" in text
            assert "Session" in text
            assert "evil\\x1b" in text.replace("&#x27;", "'")
            await pilot.press("q")

    anyio.run(look_on)


def test_rows_are_put_in_order_at_each_look(tmp_path: Path):
    """The cursor stays with its actor."""

    async def look_on() -> None:
        app = TopApp(lambda: tmp_path / "none.sock", "mailbox", 60.0, 40)
        async with app.run_test(size=(150, 40)) as pilot:
            await seen(pilot, lambda: app._table("actors").columns)
            table = app._table("actors")
            for names, cursor in (("abc", 1), ("cdb", 2), ("dc", 1), ("", 0), ("b", 0)):
                app._fill("actors", {name: (name, *"-------") for name in names})
                assert [str(table.get_row_at(index)[0]) for index in range(table.row_count)] == list(names)
                if names == "abc":
                    table.move_cursor(row=1)
                await seen(pilot, lambda cursor=cursor: table.cursor_row == cursor)

    anyio.run(look_on)


async def seen(pilot: object, condition: object) -> None:
    with anyio.fail_after(60):
        while not condition():  # type: ignore[operator]
            await pilot.pause(0.02)  # type: ignore[attr-defined]


def test_the_client_says_that_the_system_has_ended(tmp_path: Path):
    with pytest.raises(Exception, match="has probably ended"):
        LiveSystem(tmp_path / "1-shop.sock")


@pytest.mark.parametrize("full", [True, False])
def test_the_client_says_that_the_system_is_busy(full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("papyra_cli._live.client.TIMEOUT_SECONDS", 0.1)
    path = tmp_path / "1-shop.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        if full:
            first.connect(str(path))
        with pytest.raises(
            Failure, match="busy with other clients" if full else "no answer within 0.1 s"
        ) as told:
            LiveSystem(path)
    assert told.value.exit_code == ExitCode.UNAVAILABLE


def test_the_client_waits_while_the_queue_of_newcomers_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`papyra tree` and `top --once` failed at once."""
    path = tmp_path / "1-shop.sock"
    pauses: list[float] = []
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))

        def greet() -> None:
            with listener.accept()[0] as accepted:
                accepted.sendall(b'{"papyra_admin": 1}\n')

        def make_room(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                listener.accept()[0].close()
                greeting.start()

        greeting = threading.Thread(target=greet)
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=make_room)
        monkeypatch.setattr("papyra_cli._live.client.time", clock)
        with closing(LiveSystem(path)) as live:
            greeting.join()
            assert live.greeting == {"papyra_admin": 1}
    assert pauses == [TRY_AGAIN_SECONDS] * 3


GREETING = b'{"papyra_admin": 1, "run": "r"}\n'


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (b"", "the system has ended"),
        (b"SSH-2.0\n", "the answer is not a JSON object. Is this an admin socket of Papyra?"),
        (b"[]\n", "the answer is not a JSON object"),
        (b"[" * 100_000 + b"\n", "the answer is not a JSON object"),
        (b'{"error": "too many clients"}\n', "too many clients"),
        (b"{}\n", "this is not an admin socket of Papyra"),
        (GREETING, "the system has ended"),
        (GREETING + b'{"ok": false, "error": "no such actor"}\n', "no such actor"),
        (GREETING + b"{}\n", "the system gave no answer"),
    ],
)
def test_the_client_says_what_is_wrong_with_an_answer(lines: bytes, problem: str, tmp_path: Path):
    path = tmp_path / "1-shop.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            with listener.accept()[0] as accepted:
                accepted.sendall(lines)
                accepted.shutdown(socket.SHUT_WR)
                while accepted.recv(1024):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Failure, match=re.escape(problem)) as told, closing(LiveSystem(path)) as live:
            live.ask("overview")
        thread.join()
    assert told.value.exit_code == ExitCode.UNAVAILABLE


def test_sockets_are_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A process of another user, which may not be asked, is taken for one that runs."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    for name in ("PAPYRA_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    for folder, name in (
        (f"tmp/papyra-{os.getuid()}", ""),
        ("user/papyra", "XDG_RUNTIME_DIR"),
        ("own", "PAPYRA_RUNTIME_DIR"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        path = tmp_path / folder / "1-shop.sock"
        path.touch()
        if name:
            monkeypatch.setenv(name, str(path.parent).removesuffix("/papyra"))
        assert live_sockets() == {path: (1, "shop")}


def test_a_socket_that_cannot_be_asked_may_be_open(tmp_path: Path):
    assert not is_open(tmp_path / "1-shop.sock")
    assert is_open(tmp_path / ("x" * 200))  # LiveSystem says what is wrong


def made(**kinds: dict[str, int]) -> Snapshot:
    zeros = {"alive": 0, "restarting": 0, "processed": 0, "waiting": 0, "restarts": 0}
    statistics = {
        "kinds": {name: {"actor_type": name} | zeros | kind for name, kind in kinds.items()},
        "dead_letters": {},
    }
    return Snapshot(
        {"system_id": "shop", "pid": 1, "loop": "asyncio"}, {"statistics": statistics, "busy": []}, [], 0.0
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.00042, "420 us"),
        (0.042, "42 ms"),
        (0.9996, "1.0 s"),
        (4.2, "4.2 s"),
        (4200.0, "4,200 s"),
    ],
)
def test_a_type_that_never_had_an_actor_has_no_row_and_times_have_their_unit(
    seconds: float | None, shown: str
):
    snapshot = made(Orders={"alive": 1}, Never={})
    snapshot.overview["timings"] = {"Orders": {"wait_p99": seconds}}
    assert type_rows(snapshot) == {"Orders": ("Orders", "1", "-", "0", "0", shown, "-", "0")}
    assert totals(snapshot, 150).startswith("shop (pid 1, asyncio)  1 actors  0 waiting")
    assert totals(snapshot, 80).startswith("shop  1 actors  0 waiting")


def test_an_actor_that_runs_is_shown_with_its_place_and_its_facts():
    busy = {"where": "shop.py:7 receive", "awaits": "sleep", "seconds": 12.0}
    facts = [
        {"type": "ActorStarted", "payload": {}},
        {"type": "ActorCrashed", "payload": {"error": "ValueError: no"}},
        {"type": "ActorRestarted", "payload": {"reason": "actor restarted"}},
    ]
    actor = {
        "name": None, "address": "shop:1", "actor_type": "Orders", "state": "running", "mailbox_depth": 3,
        "mailbox_capacity": 10, "processed": 1_000, "parent": None, "children": 0, "restarts": 2,
        "policy": {"strategy": "restart"}, "busy": busy, "events": facts,
    }  # fmt: skip
    lines = actor_lines(actor)
    assert {"mailbox   3 of 10", "parent    the system", "policy    restart, 2 restarts count"} <= set(lines)
    assert "runs      shop.py:7 receive, awaits sleep, for 12 s" in lines
    assert lines[-3:] == [
        "  ActorRestarted actor restarted",
        "  ActorCrashed ValueError: no",
        "  ActorStarted ",
    ]


def test_hostile_is_hostile():
    assert "\x1b" in HOSTILE
