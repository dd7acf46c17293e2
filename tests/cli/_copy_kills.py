"""Kill a copy, a backup or a restore at each of its steps, and run it again: `python -m tests.cli._copy_kills
FOLDER`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import anyio
import anyio._backends._asyncio
from click.testing import CliRunner
from tests.json._kills import exit_code, forked
from tests.json._steps import CHANGING, Steps, die

from papyra.persistence import open_backend
from papyra_cli._main import papyra
from papyra_cli.commands._copy import engine

RECORDS = 80
BATCH_RECORDS = 25


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(papyra, arguments)
    return done.exit_code, done.output


def numbers(url: str) -> list[int]:
    code, output = invoke("inspect", "events", "--backend", url, "-o", "json")
    assert code == 0, output
    return [event["payload"]["n"] for event in json.loads(output)]


def make_source(folder: Path) -> str:
    lines = (
        {"kind": "event", "system_id": "s", "actor_address": "s:1", "event_type": "A",
         "payload": {"n": number}, "timestamp": 1_790_000_000.0 + number, "run": "r1"}
        for number in range(RECORDS)
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "source").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "source")


def killed_before_each_call(step: int) -> None:
    Steps(setattr, CHANGING, step, die)


def killed_around_each_batch(step: int) -> None:
    """SQLite writes without Python's ``os``."""
    left = [step]
    real = engine._write

    async def write(*arguments: object) -> None:
        for act in (None, real):
            if act is not None:
                await act(*arguments)
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    engine._write = write


def sweep(name: str, command: str, target: str, folder: Path, arm: Callable[[int], None]) -> None:
    """Kill the command at each step, check what is left, and let it be run again."""
    for step in count():
        here = folder / name / str(step)
        source = make_source(here)
        url = target.format(here / "target")

        def work(source: str = source, url: str = url, step: int = step) -> None:
            arm(step)
            code, output = invoke("persistence", command, source, url)
            assert code == 0, output

        code = exit_code(forked(work))
        assert code in (0, -signal.SIGKILL), code
        if (here / "target").exists() and command != "copy":
            assert numbers(url) == list(range(RECORDS)), f"{name}: half a store after step {step}"
        if code == 0:
            print(f"{name}: {step} steps")
            return
        code, output = invoke("persistence", command, source, url)
        assert code == 0, f"{name}: after step {step}: {output}"
        assert numbers(url) == list(range(RECORDS)), f"{name}: after step {step}"
        assert not list(here.glob(".*")), f"{name}: {list(here.iterdir())} after step {step}"


def main(folder: Path) -> None:
    engine._BATCH_RECORDS = BATCH_RECORDS
    os.fsync = lambda _: None  # what is done outlives a process without it
    files = {"json": "json:{}", "rotating": "rotating:{}?max_bytes=5KB&max_files=50"}
    for scheme, target in files.items():
        sweep(f"copy to {scheme}", "copy", target, folder, killed_before_each_call)
    for command, scheme in (("backup", "json"), ("restore", "rotating")):
        sweep(f"{command} to {scheme}", command, files[scheme], folder, killed_before_each_call)
    for command in ("copy", "backup"):
        sweep(f"{command} to sqlite", command, "sqlite:{}", folder, killed_around_each_batch)


async def _warm_up() -> None:  # what a first use imports is not imported in every child
    for scheme in ("json", "rotating", "sqlite"):
        await open_backend(f"{scheme}:/nowhere/x").aclose()


if __name__ == "__main__":
    anyio.run(_warm_up)
    main(Path(sys.argv[1]))
