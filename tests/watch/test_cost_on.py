"""What tell, ask and ping-pong cost with an instrument: promises 2 of watch.md 4 and 5 of watch.md 5.

These are instructions; the rows ``instruments`` and ``traces`` of the benchmarks have the processor time.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from . import _instructions as instructions

pytestmark = [
    pytest.mark.sweep,
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind to count instructions"),
]

SIZES = {"tell": (5_000, 45_000), "ask": (1_000, 5_000), "pingpong": (5_000, 25_000)}
"""Messages of two runs: in the first, the gap between samples grows to what it stays at."""


def kept(instruments: str, *rows: str) -> dict[str, float]:
    """Return which share of its instructions each row would have without the instrument."""
    instructions.run("tell", 0, instruments)  # compiles the modules, which would count in the first run alone
    wanted = [(row, size, name) for row in rows for size in SIZES[row] for name in ("none", instruments)]
    with ThreadPoolExecutor(2) as pool:
        counts = dict(zip(wanted, pool.map(lambda one: instructions.count(*one), wanted), strict=True))
    costs = {
        (row, name): counts[row, SIZES[row][1], name] - counts[row, SIZES[row][0], name]
        for row in rows
        for name in ("none", instruments)
    }
    shares = {row: costs[row, "none"] / costs[row, instruments] for row in rows}
    print(instruments, shares)
    return shares


def test_cost_on():
    """With Prometheus timings on, tell, ping-pong and ask keep 97 %."""
    assert min(kept("timings", "tell", "pingpong", "ask").values()) >= 0.97


def test_cost_otel():
    """Outside of a trace tells keep 55 % and asks 92 %, with ``tells=False`` 97 %."""
    traced = kept("traces", "tell", "ask")
    assert traced["tell"] >= 0.55
    assert traced["ask"] >= 0.92
    assert kept("traces-asks", "tell")["tell"] >= 0.97
