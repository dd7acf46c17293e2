"""Killed at any step or instant: nothing acknowledged is lost or doubled, and the next writer goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ._scenarios import SCENARIOS


def _run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.json._kills", *map(str, arguments)]
    root = Path(__file__).parents[2]
    return subprocess.run(
        command,
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_faults_killed_before_each_call_and_amid_each_write(quick_disk):
    done = _run("sweep", quick_disk)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert set(steps) == set(SCENARIOS)
    assert all(int(count.removesuffix(" steps")) > 5 for count in steps.values())


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.sweep)])
@pytest.mark.parametrize(("happening", "scenarios"), [("signal=KILL", 4), ("error=EIO", 2)])
def test_faults_killed_or_failing_at_each_system_call(quick_disk, happening, scenarios, every):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed; the sweeps over the calls of `os` cover the same steps")
    # uvloop ends the process if the write fails that wakes its loop.
    environment = {"TEST_MODE": ""} if os.environ.get("TEST_MODE") == "uvloop" else {}
    done = _run("traced", quick_disk, strace, happening, every, **environment)
    if "no tracing" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("tracing is not allowed here; the sweeps over the calls of `os` cover the same steps")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" system calls\n") == scenarios


def test_faults_killed_at_a_hundred_instants(quick_disk):
    done = _run("instants", quick_disk, 34)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" records\n") == 3
