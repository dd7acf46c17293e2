"""Instructions of a program that sends messages, under valgrind: a busy machine does not change them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gc, itertools, sys
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

async def main(row, n, name):
    global sent, done
    async with ActorSystem(instruments=instruments(name, row)) as system:
        ref, done = system.spawn(Echo), anyio.Event()
        if row == "tell":
            for sent in range(n):
                await ref.tell(sent)
            await ref.ask(0)
        elif row == "ask":
            for sent in range(n):
                await ref.ask(sent)
        else:
            one, two = system.spawn(Player), system.spawn(Player)
            await one.ask(two)
            await two.ask(one)
            await one.tell(2 * n)
            await done.wait()

anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
"""

VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")


def run(row: str, size: int, instruments: str, *under: str, source: Path | None = None) -> str:
    """Run the program, with a copy of papyra if there is a ``source``, and return what it wrote on stderr."""
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    return subprocess.run(
        [*under, sys.executable, "-c", PROGRAM, row, str(size), instruments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    ).stderr


def count(row: str, size: int, instruments: str = "none", *, source: Path | None = None) -> int:
    """Return the instructions of one run."""
    written = run(row, size, instruments, *VALGRIND, source=source)
    found = re.search(r"I\s+refs:\s+([\d,]+)", written)
    assert found is not None, written
    return int(found[1].replace(",", ""))
