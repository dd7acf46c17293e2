"""BackendConformance fails a backend that breaks a promise, in the test that is named for it."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from papyra.persistence import InMemoryPersistence
from papyra.testing import BackendConformance
from papyra.testing._conformance.blocking_calls import blocking_calls

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


async def test_a_shared_store_without_a_url_is_not_tried_from_processes():
    class Shared(BackendConformance):
        shared = True

    with pytest.raises(pytest.skip.Exception, match="fixture backend_url are needed"):
        await Shared().test_processes_share_the_store(InMemoryPersistence, "")


def noted(function, module=__name__):
    """Return the names of the calls that are noted if code of a module calls this function."""
    with blocking_calls() as found:
        note = sys.getprofile()
        sys.setprofile(None)  # what this test calls is not noted
        frame = eval("__import__('sys')._getframe()", {"__name__": module})
        note(frame, "c_call", function)
        note(frame, "c_return", function)
    assert all(call.endswith(" in <string>:1") for call in found)
    return [call.partition(" ")[0] for call in found]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (time.sleep, "time.sleep"),
        (time.monotonic, None),
        (os.write, f"{os.name}.write"),
        (socket.gethostbyname, "_socket.gethostbyname"),
        ([].append, None),
        (io.BytesIO().write, None),
        (io.BufferedReader(io.BytesIO()).read, "BufferedReader.read"),
        (io.BufferedReader(io.BytesIO()).tell, None),
    ],
)
def test_a_call_that_may_wait_is_noted(function, name):
    expected = [] if name is None else [name]
    assert noted(function) == expected
    assert noted(function, "logging.handlers") == noted(function, "importlib._bootstrap") == []


def test_a_call_of_a_socket_or_a_database_is_noted_if_it_waits():
    with socket.socket() as own:
        assert noted(own.recv) == ["socket.recv"]
        own.setblocking(False)
        assert noted(own.recv) == []
    with closing(sqlite3.connect(":memory:")) as connection:
        assert noted(connection.execute) == ["sqlite3.Connection.execute"]
        assert noted(connection.interrupt) == []


def test_a_subclass_without_the_fixture_gets_an_error_that_says_what_to_define(tmp_path):
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
