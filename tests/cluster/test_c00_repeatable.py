"""A seed of `MemoryNetwork` is one schedule, in every process and on both loops.

`_traced.py` writes down every frame and every write to the registry. What must not matter differs between the
two processes: the hashes of strings, addresses, when garbage is collected, the clock, chance.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRACED = Path(__file__).with_name("_traced.py")


def start(loop: str, seed: int, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", str(TRACED), loop, str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    text, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return text.splitlines()


def test_c00_a_seed_is_one_schedule_in_two_processes(backend):
    processes = [
        start(backend, 7, PYTHONHASHSEED="1"),
        start(backend, 7, PYTHONHASHSEED="2", NOISE="1"),
    ]
    one, same = map(lines_of, processes)
    different = next((pair for pair in zip(one, same, strict=False) if pair[0] != pair[1]), None)
    assert different is None
    assert len(one) == len(same) > 500
