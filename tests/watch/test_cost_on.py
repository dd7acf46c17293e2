"""What tell, ask and ping-pong cost with an instrument: promises 2 of watch.md 4 and 5 of watch.md 5.

These are instructions; the rows ``instruments`` and ``traces`` of the benchmarks have the processor time.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import _instructions as instructions

pytestmark = [
    pytest.mark.sweep,
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind to count instructions"),
]

SIZES = {"tell": (5_000, 40_000), "ask": (1_000, 4_000), "pingpong": (5_000, 20_000)}
"""Messages of each row, uncounted and counted: in the first, the gap between samples grows to its limit."""


def test_cost_on(tmp_path: Path) -> None:
    """What tell, ask and ping-pong keep with timings, with traces of all sends, and with traces of asks."""
    names = ("none", "timings", "traces", "traces-asks")
    with ThreadPoolExecutor(2) as pool:
        costs = dict(
            zip(
                names,
                pool.map(lambda name: instructions.count(SIZES, tmp_path / name, name), names),
                strict=True,
            )
        )
    kept = {name: {row: costs["none"][row] / cost[row] for row in SIZES} for name, cost in costs.items()}
    print(kept)
    assert min(kept["timings"].values()) >= 0.97
    assert kept["traces"]["tell"] >= 0.55  # outside of a trace
    assert kept["traces"]["ask"] >= 0.92
    assert kept["traces-asks"]["tell"] >= 0.97
