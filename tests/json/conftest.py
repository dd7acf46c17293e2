"""Records to store, damage to do, and other processes that write the same files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from papyra.persistence.models import PersistedEvent

from ._records import make_event, numbered_line


@pytest.fixture
def event() -> Callable[..., PersistedEvent]:
    """Make an event that differs from every other one by its number."""
    return make_event


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a test's store."""
    return tmp_path / "facts.ndjson"


@pytest.fixture
def line() -> Callable[..., bytes]:
    """Return the line of an event, with its newline; its ``seq`` is its number."""
    return numbered_line


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where the system has one: thousands of syncs are nothing there."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


PROLOGUE = """
import anyio, os, signal, sys
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import *
from papyra_json import JsonFilePersistence, RotatingFilePersistence

def event(number):
    return PersistedEvent("local", f"local:{number}", "ActorStarted", {"number": number}, 1_700_000_000.0 + number)

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

path = sys.argv[1]
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python program in a process of its own; it gets `path`, `event` and `say` for free."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*prefix, sys.executable, "-c", PROLOGUE + textwrap.dedent(code), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read of a file took; it is filled as they are read."""
    sizes: list[int] = []
    real = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        data = real(fd, size, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", pread)
    return sizes
