"""``papyra top`` and ``papyra tree``, on a real application in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from papyra_cli._errors import Failure
from papyra_cli._exit_codes import ExitCode
from papyra_cli._live.client import TRY_AGAIN_SECONDS, LiveSystem
from papyra_cli.commands._top.app import TopApp
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


@pytest.mark.sweep  # textual's pictures take half a minute
@pytest.mark.parametrize("width", [80, 150])
def test_top_snapshot(application: Path, width: int):
    (socket,) = application.iterdir()

    async def look_on() -> None:
        places = [socket]
        app = TopApp(lambda: places[-1], "mailbox", 0.05, 40)
        async with app.run_test(size=(width, 40)) as pilot:
            await seen(pilot, lambda: app._snapshot is not None and app._snapshot.rates)
            text = app.export_screenshot()
            assert "shop" in text
            assert "Session" in text
            assert "evil\\x1b" in text.replace("&#x27;", "'")
            await pilot.press("p")
            async with app._looking:  # a look that had begun before the key ends first
                before = app._snapshot
            await pilot.pause(0.2)
            assert app._snapshot is before
            await pilot.press("p", "r")
            await seen(pilot, lambda: app._snapshot is not before)
            await pilot.press("slash", *"orders", "enter")
            await seen(pilot, lambda: app._table("actors").row_count == 1)
            await pilot.press("enter")
            await seen(pilot, lambda: len(app.screen_stack) == 2)
            assert "children  20" in app.export_screenshot().replace("&#160;", " ")
            await pilot.press("escape", "slash", "ctrl+u", "enter")
            await seen(pilot, lambda: app._table("actors").row_count > 20)
            await pilot.press("question_mark")
            await seen(pilot, lambda: app.screen.query("HelpPanel"))
            await pilot.press("question_mark")
            places.append(socket.with_name("gone.sock"))
            async with app._looking:
                assert app._live is not None
                app._live.close()
            await seen(pilot, lambda: "has probably ended" in str(app.query_one("#state").render()))
            assert app._table("actors").row_count
            places.append(socket.with_name(f"{os.getpid()}-anew.sock"))  # as of one that was started anew
            places[-1].symlink_to(socket)
            await seen(pilot, lambda: not str(app.query_one("#state").render()))
            places[-1].unlink()
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


def test_hostile_is_hostile():
    assert "\x1b" in HOSTILE
