"""Promise 1: without instruments, a tell, an ask and a ping-pong cost at most 1 % more than without the seam.

The reference is the same source without the lines that each message passes and that look for instruments. If
they change, `SEAM` has to follow.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import papyra

from . import _instructions as instructions

SEAM = {
    "_runtime/asks.py": (
        """    countdown = rt.countdown
    if countdown is not None and envelope.marks is None:
        if countdown.asks_left:
            countdown.asks_left -= 1
        elif countdown.ask(cell, envelope):
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

SIZES = {"tell": (500, 6_000), "ask": (100, 600), "pingpong": (100, 1_500)}
"""Messages of each row, uncounted and counted."""


@pytest.mark.sweep
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind to count instructions")
def test_w01_cost_off(tmp_path: Path) -> None:
    sources = {"with": tmp_path / "with", "without": tmp_path / "without"}
    for source in sources.values():
        shutil.copytree(Path(papyra.__file__).parent, source / "papyra")
    for name, (seam, rest) in SEAM.items():
        path = sources["without"] / "papyra" / name
        text = path.read_text()
        assert text.count(seam) == 1, f"the seam in {name} has changed: change SEAM, too"
        path.write_text(text.replace(seam, rest))
    with ThreadPoolExecutor(2) as pool:
        counts = pool.map(
            lambda which: instructions.count(SIZES, tmp_path / f"{which}.out", source=sources[which]), sources
        )
    present, absent = counts
    ratios = {row: present[row] / absent[row] for row in SIZES}
    print(ratios)
    assert all(ratio <= 1.01 for ratio in ratios.values()), ratios
