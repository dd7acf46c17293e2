"""Instructions of a program that sends messages, under valgrind: a busy machine does not change them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gc, itertools, json, sys, time
import anyio
from papyra import Actor, ActorSystem
from papyra._runtime import worker_loop

worker_loop.perf_counter = itertools.repeat(0.0).__next__  # valgrind is slow: no turn may end because of that
gc.disable()
sent = 0

class Echo(Actor):
    async def receive(self, message):
        return message

class Player(Actor):
    def __init__(self):
        self.peer = None
    async def receive(self, message):
        global sent
        if isinstance(message, int):
            sent += 1
            if message:
                await self.peer.tell(message - 1)
            else:
                done.set()
        else:
            self.peer = message

def instruments(name, row):
    if name == "timings":
        from types import SimpleNamespace
        from papyra_contrib._timings import timings as module
        rate = {"tell": 2_000_000, "ask": 100_000, "pingpong": 1_400_000}[row]  # sends a second, without valgrind
        module.time = SimpleNamespace(perf_counter=lambda: sent / rate)
        module.LAG_PERIOD_SECONDS = 1e6
        timings = module.PapyraTimings()
        for pace in timings._paces:
            pace._rng.seed(7)
        return [timings]
    if name.startswith("traces"):
        from papyra_contrib.otel import PapyraTracing
        return [PapyraTracing(tells=name == "traces")]
    return []

async def play(row, before, n, name):
    global sent, done
    sent = 0
    async with ActorSystem(instruments=instruments(name, row)) as system:
        ref, one, two = system.spawn(Echo), system.spawn(Player), system.spawn(Player)
        await one.ask(two)
        await two.ask(one)
        for count in (before, n):
            done = anyio.Event()
            time.tzset()  # counts begin, or end, at each call of it
            if row == "tell":
                for _ in range(count):
                    sent += 1
                    await ref.tell(sent)
                await ref.ask(0)
            elif row == "ask":
                for _ in range(count):
                    sent += 1
                    await ref.ask(sent)
            else:
                await one.tell(2 * count)
                await done.wait()
        time.tzset()

async def main(name, rows):
    for row, (before, n) in rows.items():
        await play(row, before, n, name)

anyio.run(main, sys.argv[1], json.loads(sys.argv[2]))
"""


def count(
    sizes: dict[str, tuple[int, int]], folder: Path, instruments: str = "none", *, source: Path | None = None
) -> dict[str, int]:
    """Return the instructions of each row. Its two sizes are messages that come first, and those that count.

    If there is a ``source``, that copy of papyra runs.
    """
    folder.mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    valgrind = ("valgrind", "--tool=callgrind", "--dump-before=tzset", f"--callgrind-out-file={folder}/out")
    program = (sys.executable, "-c", PROGRAM, instruments, json.dumps(sizes))
    subprocess.run([*valgrind, *program], env=environment, capture_output=True, check=True, timeout=600)
    dumps = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    assert len(dumps) == 3 * len(sizes)
    written = [re.search(r"^totals: (\d+)", path.read_text(), re.MULTILINE) for path in dumps]
    return {
        row: int(totals[1]) for row, totals in zip(sizes, written[2::3], strict=True) if totals is not None
    }
