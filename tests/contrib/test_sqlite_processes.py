"""Processes that die, that write at once, and that run out of disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import aclosing

import anyio
import pytest

from papyra.persistence.models import PersistedEvent
from papyra_contrib.sqlite import SQLitePersistence

from ._many_writers import REBUILDER

PROLOGUE = """
import os, signal, sys, traceback, anyio
from contextlib import aclosing
from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistedEvent
from papyra_contrib.sqlite import SQLitePersistence

def event(writer, number):
    return PersistedEvent("local", f"local:{writer}", "Happened", {"n": number, "pad": "x" * 200}, float(number))

def in_child(function, *arguments):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        anyio.run(function, *arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
"""

ACKNOWLEDGING_WRITER = """
async def main(path, durability):
    backend = SQLitePersistence(path, durability=durability)
    number = 0
    while True:
        await backend.record_batch([event(1, number + n) for n in range(5)])
        number += 5
        os.write(1, b"%d\\n" % number)

anyio.run(main, *sys.argv[1:3], backend=sys.argv[3])
"""

ONE_OF_MANY_WRITERS = """
async def main(path, writer, count):
    async with aclosing(SQLitePersistence(path, RetentionPolicy())) as backend:
        for number in range(0, int(count), 2):
            await backend.record_batch([event(writer, number), event(writer, number + 1)])
            if writer == "0" and number % 20 == 0:
                await backend.compact()

anyio.run(main, *sys.argv[1:])
"""

MORTAL_RECOVERIES = """
import pathlib, sqlite3
from papyra_contrib.sqlite import _recovery
from papyra.persistence.models import *

suspicion = (PersistenceAnomaly(PersistenceAnomalyType.INTEGRITY, sys.argv[1], ""),)

def mortal(function, steps_left):
    def call(*arguments, **options):
        steps_left[0] -= 1
        if steps_left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

async def recover(path, at):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1, 2 * at))
        _recovery.scan = lambda store, work, progress: suspicion
        steps_left = [at]
        for owner, name in ((pathlib.Path, "replace"), (pathlib.Path, "unlink"), (os, "link"), (os, "fsync")):
            setattr(owner, name, mortal(getattr(owner, name), steps_left))
        await backend.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE))

async def check(path, at):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1, 2 * at + 1))
        found = [one.payload["n"] for one in await backend.list_events()]
        assert found == list(range(2, 2 * at + 2)), (at, found)
        assert not (await backend.scan()).has_anomalies

path, at, died = sys.argv[1], 0, True
while died:
    at += 1
    keeper = sqlite3.connect(path)  # so that the log outlives those who write
    keeper.execute("SELECT count(*) FROM sqlite_master").fetchall()
    code = in_child(recover, path, at)
    assert code in (0, -signal.SIGKILL), code
    died = code != 0
    assert in_child(check, path, at) == 0
    keeper.close()
    for kept in pathlib.Path(path).parent.glob("*quarantine*"):
        kept.unlink()  # or the search for a free name takes more steps each time
print(at)
"""

FORKS = """
async def write(backend, number):
    await backend.record_event(event(1, number))

async def write_to_own(path, number):
    await SQLitePersistence(path).record_event(event(1, number))  # never closed: it was acknowledged

async def refused(function, words):
    try:
        await function()
    except PersistenceError as error:
        assert words in str(error), error
    else:
        raise AssertionError("the store could be used in a forked child")

async def all_refused(backend):
    for function in (backend.list_events, backend.scan, backend.recover, backend.compact):
        await refused(function, "Open a new store in the child")
    await refused(lambda: write(backend, -1), "Open a new store in the child")
    await backend.aclose()
"""

USED_IN_A_CHILD = (
    FORKS
    + """
path = sys.argv[1]
backend = SQLitePersistence(path)
assert in_child(write, backend, 0) == 0  # it was not in use yet
anyio.run(write, backend, 1)
assert in_child(all_refused, backend) == 0
anyio.run(write, backend, 2)
assert in_child(write_to_own, path, 3) == 0
anyio.run(backend.aclose)
"""
)

FORKED_AT_WORK = (
    FORKS
    + """
import threading
from papyra.persistence.blocking import Work

path = sys.argv[1]
backend = SQLitePersistence(path)
anyio.run(write, backend, 0)
at_work, go_on = threading.Event(), threading.Event()

def work():
    with backend._database.transaction(Work()):
        at_work.set()
        go_on.wait()

worker = threading.Thread(target=work)
worker.start()
at_work.wait()
assert in_child(all_refused, backend) == 0
assert in_child(refused, lambda: write_to_own(path, 7), "when this process was forked") == 0
go_on.set()
worker.join()
anyio.run(write, backend, 1)
anyio.run(backend.aclose)
"""
)

KILLED_WITH_THE_LOCK = (
    FORKS
    + """
from papyra.persistence.blocking import Work

backend = SQLitePersistence(sys.argv[1])
anyio.run(write, backend, 0)
with backend._database.exclusively(Work()):
    if os.fork():
        sys.stdin.readline()
        os.kill(os.getpid(), signal.SIGKILL)
    print("forked", flush=True)
    sys.stdin.readline()
    os._exit(0)
"""
)

NO_DESCRIPTORS = """
import pathlib, resource
from contextlib import suppress
from papyra_contrib.sqlite import _scan
from papyra.persistence.blocking import Work
from papyra_contrib.sqlite._database import Database

anyio.run(SQLitePersistence(sys.argv[1]).record_event, event(1, 0))
store, work = Database(pathlib.Path(sys.argv[1]), "os", 0), Work()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken, raised = [], 0
with suppress(OSError):
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
for free in range(10):
    try:
        anomalies = _scan.scan(store, work, work.part(0, 1))
    except PersistenceError:
        raised += 1
    else:
        assert anomalies == (), (free, anomalies)
    os.close(taken.pop())
assert _scan.scan(store, work, work.part(0, 1)) == ()
print(raised)
"""

FULL_DISK = """
import resource

async def main(path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    acknowledged, failed = 0, 0
    async with aclosing(SQLitePersistence(path)) as backend:
        while failed < 3:
            try:
                await backend.record_batch([event(1, acknowledged + n) for n in range(10)])
                acknowledged += 10
            except PersistenceError:
                failed += 1
            assert acknowledged < 100_000
        found = await backend.list_events()
        assert [one.payload["n"] for one in found] == list(range(acknowledged)), len(found)
        assert not backend.healthy and not (await backend.scan()).has_anomalies
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await backend.record_batch([event(1, acknowledged)])
        assert backend.healthy and backend.metrics.write_errors == 3
    print(acknowledged + 1)

anyio.run(main, *sys.argv[1:])
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: subprocess.Popen[str]) -> str:
    """Wait for a process to end well; return what it printed."""
    try:
        output, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, errors
    return output


def wait_for_records(path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def events_in(path) -> list[PersistedEvent]:
    async def read() -> list[PersistedEvent]:
        async with aclosing(SQLitePersistence(path)) as backend:
            assert not (await backend.scan()).has_anomalies
            return list(await backend.list_events())

    return anyio.run(read)


@pytest.mark.parametrize(
    ("durability", "after", "loop"), [("os", 1, "asyncio"), ("os", 60, "trio"), ("always", 10, "asyncio")]
)
def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(tmp_path, durability, after, loop):
    path = tmp_path / "papyra.db"
    with start(ACKNOWLEDGING_WRITER, path, durability, loop) as writer:
        for _ in range(after):
            assert writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else after * 5
    found = events_in(path)
    numbers = [event.payload["n"] for event in found]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= acknowledged
    assert len(numbers) % 5 == 0  # a batch is there as a whole


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "papyra.db"
    count = 100
    writers = [start(ONE_OF_MANY_WRITERS, path, writer, count) for writer in range(4)]
    for writer in writers:
        end_of(writer)
    found = events_in(path)
    assert len(found) == 4 * count
    for writer in range(4):
        own = [event.payload["n"] for event in found if event.actor_address == f"local:{writer}"]
        assert own == list(range(count))


def test_recoveries_lose_nothing_that_others_write_meanwhile(tmp_path):
    path = tmp_path / "papyra.db"
    count = 100
    processes = [start(ONE_OF_MANY_WRITERS, path, writer, count) for writer in range(2)]
    wait_for_records(path)
    processes += [start(REBUILDER, path, 10) for _ in range(2)]
    for process in processes:
        end_of(process)
    found = events_in(path)
    for writer in range(2):
        own = [event.payload["n"] for event in found if event.actor_address == f"local:{writer}"]
        assert own == list(range(count))


def test_a_recovery_that_dies_at_any_step_loses_nothing(tmp_path):
    steps = int(end_of(start(MORTAL_RECOVERIES, tmp_path / "papyra.db")))
    assert steps > 10  # as many places to die at


def test_a_full_disk_fails_whole_batches_and_later_ones_succeed(tmp_path):
    path = tmp_path / "papyra.db"
    stored = int(end_of(start(FULL_DISK, path)))
    assert len(events_in(path)) == stored


def test_a_forked_child_needs_a_store_of_its_own(tmp_path):
    """A child that committed through its parent's store lost that when the parent closed it."""
    path = tmp_path / "papyra.db"
    end_of(start(USED_IN_A_CHILD, path))
    assert [event.payload["n"] for event in events_in(path)] == [0, 1, 2, 3]


def test_a_child_forked_in_the_middle_of_a_write_leaves_the_database_alone(tmp_path):
    path = tmp_path / "papyra.db"
    end_of(start(FORKED_AT_WORK, path))
    assert [event.payload["n"] for event in events_in(path)] == [0, 1]


def test_a_child_does_not_keep_the_lock_of_a_killed_parent(tmp_path):
    path = tmp_path / "papyra.db"
    parent = subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + KILLED_WITH_THE_LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout.readline() == "forked\n"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()

        async def write() -> None:
            async with aclosing(SQLitePersistence(path, busy_timeout=30)) as backend:
                await backend.record_event(PersistedEvent("local", "local:1", "Happened", {"n": 1}, 1.0))

        anyio.run(write)
        parent.stdin.close()  # the child ends
    assert [event.payload["n"] for event in events_in(path)] == [0, 1]


def test_a_scan_that_runs_out_of_descriptors_raises(tmp_path):
    """It reported a healthy database as one that can't be opened, and recover would have rebuilt that."""
    raised = int(end_of(start(NO_DESCRIPTORS, tmp_path / "papyra.db")))
    assert 1 <= raised < 10
