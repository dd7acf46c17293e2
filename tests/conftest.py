"""Every asynchronous test runs on asyncio and on trio; some need a disk that can be full."""

from __future__ import annotations

import inspect
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a test; the rest is as Hypothesis has it, in CI and elsewhere.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


if mode := os.environ.get("TEST_MODE"):  # see scripts/test_modes
    if mode == "debug":  # of the workers of xdist, and of the processes that tests start
        os.environ["PYTHONDEVMODE"] = os.environ["PYTHONASYNCIODEBUG"] = "1"
    modes = Path(__file__).with_name("_modes")
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(modes) not in path:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(modes), *filter(None, path)])
        runpy.run_path(str(modes / "sitecustomize.py"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Name the event loop that a test runs on."""
    return str(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> None:
    """Mark asynchronous tests for anyio, so that no test has to."""
    is_test = name.startswith("test") and inspect.iscoroutinefunction(obj)
    if is_test and not collector.get_closest_marker("anyio"):
        pytest.mark.anyio(obj)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], check=False)
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def hard_limit() -> Iterator[None]:
    """End a test that hangs where no cancel scope can end it."""
    seconds = 180.0

    def stop(_number: int, _frame: object) -> NoReturn:
        pytest.fail(f"the test hangs: it took more than {seconds} s", pytrace=True)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
