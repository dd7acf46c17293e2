"""`papyra inspect events --follow` on a store that is written, rotated and compacted meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TextIO

import pytest
from click.testing import Result

from .conftest import Runner, Terminal, line

COUNT = 300
CRASH: dict[str, object] = {
    "kind": "event", "system_id": "s", "actor_address": "s:1", "event_type": "ActorCrashed", "payload": {},
    "timestamp": 1_800_000_000.0,
}  # fmt: skip

WRITER = """
import sys, anyio
from papyra.persistence import open_backend
from papyra.persistence.models import PersistedDeadLetter, PersistedEvent

async def main():
    store = open_backend(sys.argv[1])
    for number in range(int(sys.argv[2]), int(sys.argv[3]), 5):
        now = 1_800_000_000.0  # the same for all: nothing but their order tells them apart
        await store.record_batch([
            *(PersistedEvent("s", f"s:{n % 3}", "A", {"n": n}, now) for n in range(number, number + 5)),
            PersistedDeadLetter("s", "s:9", "str", "lost", now),
        ])
    await store.aclose()

anyio.run(main)
"""


def write(run: Runner, url: str, begin: int, end: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", WRITER, url, str(begin), str(end)]
    return subprocess.Popen(argv, cwd=run.folder, env=run.environment)


class Follower:
    """The command, following; what it prints is read as it comes."""

    def __init__(self, run: Runner, *args: str) -> None:
        argv = ("inspect", "events", "--follow", *args)
        self.process = run.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._watchdog = Timer(240, self.process.kill)  # the reads below wait for ever
        self._watchdog.start()

    def lines(self, count: int) -> list[str]:
        assert self.process.stdout is not None
        return [self.process.stdout.readline().decode() for _ in range(count)]

    def numbers(self, count: int) -> list[int]:
        return [json.loads(line)["payload"]["n"] for line in self.lines(count)]

    def stop(self) -> bytes:
        """Press Ctrl-C, and return what was printed since and what went to stderr."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=120)
        self._watchdog.cancel()
        assert (self.process.returncode, err) == (130, b"papyra: error: interrupted\n")
        return out

    def end(self) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.communicate()


@contextmanager
def following(run: Runner, *args: str) -> Iterator[Follower]:
    follower = Follower(run, *args)
    try:
        yield follower
    finally:
        follower.end()


@pytest.mark.parametrize(
    "url", ["json:./live", "rotating:./live?max_bytes=4KB&max_files=200", "sqlite:./live"]
)
def test_each_event_comes_once_whatever_happens_to_the_store(run: Runner, url: str) -> None:
    """One process writes, rotating its files where it can, others compact and repair, a third follows.

    Nothing is lost from the store, either.
    """
    assert write(run, url, 0, 5).wait(timeout=120) == 0
    with following(run, "--backend", url, "--limit", "2", "-o", "jsonl") as follower:
        assert follower.numbers(2) == [3, 4]
        writer = write(run, url, 5, COUNT)
        rounds = 0
        while writer.poll() is None or rounds < 2:
            for care in (("compact",), ("recover", "--yes")):
                assert run("persistence", *care, "--backend", url).returncode == 0
            rounds += 1
        assert writer.returncode == 0
        assert follower.numbers(COUNT - 5) == list(range(5, COUNT))
        assert follower.stop() == b""
    kept = run("inspect", "events", "--backend", url, "--limit", "1000", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["payload"]["n"] for line in kept] == list(range(COUNT))
    assert run("persistence", "scan", "--backend", url).stdout == "status\tclean\n"


def test_filters_hold_while_following(run: Runner) -> None:
    url = "json:./live"
    assert write(run, url, 0, 10).wait(timeout=120) == 0
    with following(run, "--backend", url, "--actor", "s:1", "--limit", "1", "-o", "jsonl") as follower:
        assert follower.numbers(1) == [7]
        assert write(run, url, 10, 20).wait(timeout=120) == 0
        assert follower.numbers(4) == [10, 13, 16, 19]
        assert write(run, url, 20, 25).wait(timeout=120) == 0
        assert follower.numbers(1) == [22]
        assert follower.stop() == b""


def test_a_file_that_is_named_by_its_path_is_followed_when_it_is_rotated(run: Runner) -> None:
    """Nothing beside the file told that it would be."""
    url = "rotating:./live?max_bytes=4KB&max_files=200"
    assert write(run, url, 0, 5).wait(timeout=120) == 0
    with following(run, "--path", "live", "--limit", "1", "-o", "jsonl") as follower:
        assert follower.numbers(1) == [4]
        assert write(run, url, 5, COUNT).wait(timeout=120) == 0
        assert (run.folder / "live.3").exists()
        assert follower.numbers(COUNT - 5) == list(range(5, COUNT))
        assert follower.stop() == b""


def test_a_terminal_gets_lines_and_ctrl_c_ends(sample: Path, terminal: Callable[..., Terminal]) -> None:
    shell = terminal(
        "inspect", "events", "--path", "papyra.ndjson", "--follow", "--limit", "1", "--color", "never"
    )
    shell.wait_for("\n")
    with sample.open("a") as file:
        file.write(sample.read_text().splitlines(keepends=True)[0])
    shell.wait_for("shop:0\tActorStarted\t{}\n")
    shell.interrupt()
    assert shell.finish() == 130
    assert "\npapyra: error: interrupted\n" in shell.text.replace("^C", "")


@pytest.mark.parametrize("form", ["json", "jsonl", "plain"])
def test_a_reader_that_leaves_ends_it_quietly(run: Runner, sample: Path, form: str) -> None:
    with following(run, "--path", "papyra.ndjson", "--limit", "3", "-o", form) as follower:
        assert all(follower.lines(3))
        assert follower.process.stdout is not None
        assert follower.process.stderr is not None
        follower.process.stdout.close()
        assert follower.process.wait(timeout=120) == 0
        assert follower.process.stderr.read() == b""


@pytest.mark.parametrize("form", ["jsonl", "plain"])
def test_matching_events_are_printed_until_the_reader_leaves(
    invoke_into_pipe: Callable[..., int],
    sample: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    shown: list[str] = []

    def read(lines: TextIO) -> None:
        shown.append(lines.readline())
        with sample.open("a") as file:
            for record in (CRASH, CRASH | {"event_type": "ActorStarted"}, CRASH | {"actor_address": "s:2"}):
                file.write(line(record))
        shown.extend(lines.readline() for _ in range(2))

    argv = ("--path", "papyra.ndjson", "--follow", "--crashes", "--limit", "1", "-o", form, "--time", "unix")
    assert invoke_into_pipe("inspect", "events", *argv, read=read) == 0
    assert capsys.readouterr().err == ""
    assert [one.count("ActorCrashed") for one in shown] == [1, 1, 1]
    if form == "jsonl":
        assert [json.loads(one)["actor_address"] for one in shown[1:]] == ["s:1", "s:2"]
    else:
        assert shown[1:] == [f"event\t1800000000.0\ts:{n}\tActorCrashed\t{{}}\n" for n in (1, 2)]


@pytest.mark.parametrize("option", ["--reverse", "--until=2h"])
def test_following_has_no_reverse_and_no_end_time(
    invoke: Callable[..., Result], sample: Path, option: str
) -> None:
    done = invoke("inspect", "events", "--path", "papyra.ndjson", "--follow", option)
    assert (done.exit_code, "--follow has no end: leave out --reverse and --until" in done.stderr) == (
        2,
        True,
    )
