"""Promise 1: without instruments, a tell, an ask and a ping-pong cost at most 1 % more than without the seam.

The reference is the same source without the lines that each message passes and that look for instruments. If
they change, `SEAM` has to follow.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import papyra

SEAM = {
    "_runtime/asks.py": (
        """    countdown = rt.countdown
    if countdown is not None and envelope.marks is None and countdown.ask(cell, envelope):
        return await _marked_ask(cell, envelope, timeout)
    me =""",
        "    me =",
    ),
    "_runtime/worker_loop.py": (
        """                            await (
                                answer(cell, item, worker)
                                if item.marks is None
                                else observed(cell, item, worker)
                            )
""",
        "                            await answer(cell, item, worker)\n",
    ),
}

PROGRAM = """
import gc, itertools, sys
import anyio
from papyra import Actor, ActorSystem
from papyra._runtime import worker_loop

worker_loop.perf_counter = itertools.repeat(0.0).__next__  # valgrind is slow: no turn may end because of that
gc.disable()

class Echo(Actor):
    async def receive(self, message):
        return message

class Player(Actor):
    def __init__(self):
        self.peer = None
    async def receive(self, message):
        if isinstance(message, int):
            if message:
                await self.peer.tell(message - 1)
            else:
                done.set()
        else:
            self.peer = message

async def main(row, n):
    global done
    async with ActorSystem() as system:
        ref, done = system.spawn(Echo), anyio.Event()
        if row == "tell":
            for i in range(n):
                await ref.tell(i)
            await ref.ask(0)
        elif row == "ask":
            for i in range(n):
                await ref.ask(i)
        else:
            one, two = system.spawn(Player), system.spawn(Player)
            await one.ask(two)
            await two.ask(one)
            await one.tell(2 * n)
            await done.wait()

anyio.run(main, sys.argv[1], int(sys.argv[2]))
"""

VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")

SIZES = {"tell": 6_000, "ask": 600, "pingpong": 1_500}


def run(program: Path, source: Path, row: str, size: int, *under: str) -> str:
    """Run the program, and return what it wrote on stderr."""
    return subprocess.run(
        [*under, sys.executable, str(program), row, str(size)],
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stderr


def instructions(program: Path, source: Path, row: str, size: int) -> int:
    """Return the instructions of one run."""
    written = run(program, source, row, size, *VALGRIND)
    found = re.search(r"I\s+refs:\s+([\d,]+)", written)
    assert found is not None, written
    return int(found[1].replace(",", ""))


@pytest.mark.sweep
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind to count instructions")
def test_w01_cost_off(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    sources = {"with": tmp_path / "with", "without": tmp_path / "without"}
    for source in sources.values():
        shutil.copytree(Path(papyra.__file__).parent, source / "papyra")
    for name, (seam, rest) in SEAM.items():
        path = sources["without"] / "papyra" / name
        text = path.read_text()
        assert text.count(seam) == 1, f"the seam in {name} has changed: change SEAM, too"
        path.write_text(text.replace(seam, rest))
    for source in sources.values():
        run(program, source, "tell", 0)  # compiles the modules, which would count in the first run alone
    runs = [(which, row, size) for which in sources for row, size in (("tell", 0), *SIZES.items())]

    def count(one: tuple[str, str, int]) -> int:
        return instructions(program, sources[one[0]], one[1], one[2])

    with ThreadPoolExecutor(2) as pool:
        counts = dict(zip(runs, pool.map(count, runs), strict=True))
    ratios = {}
    for row, size in SIZES.items():
        # Less the start of Python and of a system, which is the same for each row.
        cost = {which: counts[which, row, size] - counts[which, "tell", 0] for which in sources}
        ratios[row] = cost["with"] / cost["without"]
    print(ratios)
    assert all(ratio <= 1.01 for ratio in ratios.values()), ratios
