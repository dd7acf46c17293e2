"""Promise 1 of watch.md 2.3: without an instrument the seam costs at most 1 % more instructions."""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import papyra

SCRIPT = Path(__file__).with_name("_off_costs.py")

# The seam, taken out of a copy of the package. A line that is not found any more fails the test.
SEAM = [
    ("_runtime/cell.py", r"        self\.marks: .*\n", ""),
    (
        "_runtime/mailbox.py",
        r"    countdown = rt\.countdown\n    if countdown is not None .*\n        return .*\n",
        "",
    ),
    (
        "_runtime/mailbox.py",
        r"SEND_BUDGET if rt\.countdown is None else rt\.countdown\.stretch",
        "SEND_BUDGET",
    ),
    (
        "_runtime/worker_loop.py",
        r"\(_answer\(cell, item\) if item\.marks is None else .*\)",
        "_answer(cell, item)",
    ),
    ("ref.py", r"            if rt\.countdown is not None:\n.*\n            if rt\.credit < 0:\n    ", ""),
]


def _instructions(package, row, operations):
    env = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONHASHSEED": "0"}
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [sys.executable, "-X", "frozen_modules=on", str(SCRIPT), row, str(operations)]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
    (refs,) = re.findall(r"I\s+refs:\s+([\d,]+)", ran.stderr)
    return int(refs.replace(",", ""))


@pytest.fixture(scope="module")
def without_seam(tmp_path_factory):
    package = tmp_path_factory.mktemp("without") / "papyra"
    shutil.copytree(Path(papyra.__file__).parent, package)
    for name, pattern, replacement in SEAM:
        source = (package / name).read_text()
        changed, times = re.subn(pattern, replacement, source)
        assert times == 1, f"{pattern!r} is {times} times in {name}"
        (package / name).write_text(changed)
    compileall.compile_dir(package, quiet=1)
    return package


@pytest.fixture(scope="module")
def idle(without_seam):
    """Count the instructions of a run without operations, with and without the seam."""
    return [_instructions(package, "none", 0) for package in (Path(papyra.__file__).parent, without_seam)]


@pytest.mark.sweep
@pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="counts instructions with valgrind, which is not here"
)
@pytest.mark.parametrize(("row", "operations"), [("tell", 4_000), ("ask", 1_000), ("pingpong", 2_000)])
def test_cost_off(row, operations, without_seam, idle):
    """Promise 1: instructions of a row, less those of the same program without operations."""
    packages = Path(papyra.__file__).parent, without_seam
    mine, before = (
        _instructions(package, row, operations) - less for package, less in zip(packages, idle, strict=True)
    )
    print(
        f"{row}: {mine / operations:.0f} instructions an operation, {before / operations:.0f} without the seam"
    )
    assert mine < before * 1.01
