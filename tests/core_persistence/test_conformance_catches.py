"""BackendConformance fails a backend that breaks a promise, in the test that is named for it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("broken_backends", HERE / "broken_backends.py")
assert _spec is not None
assert _spec.loader is not None
broken_backends = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(broken_backends)

MODULE = """
from contextlib import contextmanager

import pytest
from broken_backends import BROKEN, DAMAGE, Sound, SoundServer
from papyra.testing import BackendConformance

def case(kind):
    class Case(BackendConformance):
        durable, patience, smoke_records = kind.durable, kind.patience, kind.smoke_records
        shared = getattr(kind, "shared", False)

        @pytest.fixture
        def disk(self):
            return {"records": [], "damage": []}

        @pytest.fixture
        def open_backend(self, disk):
            return lambda retention_policy=None: kind(retention_policy, disk)

        @pytest.fixture
        def damage_store(self, disk):
            return lambda: disk["damage"].append(DAMAGE) or b"damage"

        @pytest.fixture
        def fill_store(self, disk):
            @contextmanager
            def fill():
                disk["full"] = True
                try:
                    yield
                finally:
                    disk["full"] = False
            return fill

        @pytest.fixture
        def backend_url(self, tmp_path):
            return f"{kind.name}:{tmp_path / 'rows'}" if getattr(kind, "shared", False) else ""

        @pytest.fixture
        def server(self, disk):
            return kind(None, disk).server if getattr(kind, "on_server", False) else None

        @pytest.fixture
        def wire(self, server):
            return server and server["wire"]

        @pytest.fixture
        def restart_store(self, server):
            return server and (lambda: server.update(epoch=server["epoch"] + 1))

        @pytest.fixture
        def cut_wire(self, server):
            return server and (lambda: server.update(epoch=server["epoch"] + 1))

        @pytest.fixture
        def stall_store(self, server):
            @contextmanager
            def stall():
                server["stalled"] = True
                try:
                    yield
                finally:
                    server["stalled"] = False
            return server and stall

    return Case

globals().update({f"Test_{name}": case(kind) for name, kind in BROKEN.items()})

class TestSound(case(Sound)):
    smoke_records = 3_000

class TestSoundServer(case(SoundServer)):
    pass
"""

CONFTEST = """
import pytest
from papyra.persistence import following

following.INTERVAL = 0.01  # so that those who look again need not wait

anyio_backend = pytest.fixture(lambda: "asyncio")

def pytest_collection_modifyitems(items):
    # Each broken backend meets the one promise that it breaks, the sound one those that memory alone can't keep.
    def meets(item):
        words = [item.parent.name.removeprefix("Test_").partition("__")[0]]
        if words == ["TestSoundServer"]:
            words = ["store", "batch", "answer", "page", "count", "ping", "loop", "wire", "password"]
        if words == ["TestSound"]:
            words = ["damage", "recover", "progress", "reopening", "close", "compaction", "large_store", "full", "password"]
        return any(word in item.name for word in words)
    items[:] = [item for item in items if meets(item)]
"""


def run_pytest(folder: Path) -> str:
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--tb=no",
            "-rfE",
            "-W",
            "error",
            ".",
        ],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def failed(tmp_path_factory) -> dict[str, set[str]]:
    """The tests that failed, by the class of their backend; run once for all, in a process of its own."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "test_broken.py").write_text(MODULE, "utf-8")
    shutil.copy(HERE / "broken_backends.py", folder)
    # A conftest that defines anyio_backend, as many projects have one, must not get in the way.
    (folder / "conftest.py").write_text(CONFTEST, "utf-8")
    output = run_pytest(folder)
    found: dict[str, set[str]] = {}
    for name, test in re.findall(r"^FAILED test_broken\.py::Test_?(\w+)::test_(\S+)", output, re.MULTILINE):
        found.setdefault(name, set()).add(test)
    return found


@pytest.mark.parametrize("name", broken_backends.BROKEN)
def test_a_broken_promise_is_caught_on_both_event_loops(failed, name):
    missed = failed.get(name, set())
    assert any("asyncio" in test for test in missed)
    assert any("trio" in test for test in missed)


def test_the_backend_that_the_others_break_keeps_every_promise(failed):
    assert failed.get("Sound", set()) == set()
    assert failed.get("SoundServer", set()) == set()


def test_a_subclass_without_the_fixture_is_told_what_to_define(tmp_path):
    (tmp_path / "test_forgotten.py").write_text(
        "from papyra.testing import BackendConformance\nclass TestForgotten(BackendConformance): pass\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "TestForgotten must define the fixture open_backend" in ran.stdout


def test_the_package_does_not_need_pytest_until_it_is_asked_for_conformance():
    script = (
        "import sys; sys.modules['pytest'] = None\n"
        "import papyra.testing as testing\n"
        "assert 'BackendConformance' in dir(testing)\n"
        "try: testing.Nothing\n"
        "except AttributeError as error: assert \"'papyra.testing' has no attribute 'Nothing'\" in str(error)\n"
        "try: testing.BackendConformance\n"
        "except ImportError as error: assert 'pytest' in str(error)\n"
        "else: raise SystemExit('it came without pytest')"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
