"""Processes that append, compact and rotate one set at the same time, and processes that fork."""

from __future__ import annotations

import anyio
import pytest

from papyra.persistence import RetentionPolicy
from papyra_json import JsonFilePersistence, RotatingFilePersistence

YEAR = 365 * 86400.0

WRITER = """
import itertools

async def main():
    writer, rounds, max_bytes = map(int, sys.argv[2:5])
    enough = path + ".enough"  # for the process that compacts meanwhile, which may be slow
    if max_bytes:
        store = RotatingFilePersistence(path, max_bytes=max_bytes, max_files=5000)
    else:
        store = JsonFilePersistence(path)
    number = writer * 1_000_000
    for round in itertools.count():
        if round >= rounds and os.path.exists(enough):
            break
        batch = [event(number + one) for one in range(round % 7 + 1)]
        await store.record_batch([PersistedEvent("local", "old", "Old", {"number": -1}, 1.0), *batch])
        number += len(batch)
    say(number)
    await store.aclose()
anyio.run(main)
"""


def _compact_until_they_end(store, writers, enough) -> None:
    """Compact without a pause; the records that are too old make compactions replace files, which shall
    happen often.
    """
    store.time_fn = lambda: 1_700_000_000.0 + YEAR

    async def compact() -> None:
        replaced = 0
        while any(writer.poll() is None for writer in writers):
            report = await store.compact()
            replaced += report.removed_records > 0
            if replaced > 3:
                enough.touch()
        await store.compact()
        await store.aclose()
        assert replaced > 3

    anyio.run(compact)


def _check(store, writers) -> None:
    found = [one.payload["number"] for one in anyio.run(store.list_events)]
    for writer, process in enumerate(writers):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        own = [number for number in found if number // 1_000_000 == writer]
        assert own == list(range(writer * 1_000_000, int(output)))
    assert anyio.run(store.scan).anomalies == ()


def test_faults_four_append_a_fifth_compacts_and_a_sixth_rotates(quick_disk, start):
    path = quick_disk / "facts"
    writers = [start(WRITER, path, number, 120, 10**6) for number in range(4)]
    writers.append(start(WRITER, path, 4, 120, 3000))
    store = RotatingFilePersistence(
        path, max_bytes=10**6, max_files=5000, retention_policy=RetentionPolicy(max_age_seconds=2 * YEAR)
    )
    _compact_until_they_end(store, writers, quick_disk / "facts.enough")
    store = RotatingFilePersistence(path, max_files=5000)
    _check(store, writers)
    assert path.with_name("facts.9").exists()


def test_faults_three_append_and_a_fourth_compacts(quick_disk, start):
    path = quick_disk / "facts"
    writers = [start(WRITER, path, number, 200, 0) for number in range(3)]
    store = JsonFilePersistence(path, RetentionPolicy(max_age_seconds=2 * YEAR))
    _compact_until_they_end(store, writers, quick_disk / "facts.enough")
    _check(JsonFilePersistence(path), writers)


FORKED = """
import threading
from anyio.from_thread import start_blocking_portal

first, second = event(1), event(2)
held, go = threading.Event(), threading.Event()
with start_blocking_portal(sys.argv[2]) as portal:
    store = portal.call(lambda: JsonFilePersistence(path))
    portal.call(store.record_event, event(0))
    real = store._appender._append

    def busy(*arguments):  # the writer's thread has the lock, and is about to write
        held.set()
        go.wait()
        real(*arguments)

    store._appender._append = busy
    future = portal.start_task_soon(store.record_event, event(1))
    assert held.wait(60)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        async def write():
            own = JsonFilePersistence(path)
            await own.record_event(event(2))  # waits for the lock of its parent
            await own.list_events()
            await own.compact()
            await own.aclose()
        try:
            anyio.run(write, backend=sys.argv[2])
        finally:
            os._exit(sys.exc_info()[0] is not None)
    for _ in range(3):
        portal.call(store.list_events)
    say(os.waitpid(child, os.WNOHANG)[0])  # it can't have written yet
    go.set()
    future.result(60)
    status = os.waitpid(child, 0)[1]
    portal.call(store.record_event, event(3))
    portal.call(store.aclose)
    say(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_faults_a_fork_while_the_lock_is_held(quick_disk, start, backend):
    path = quick_disk / "facts"
    process = start(FORKED, path, backend)
    output, _ = process.communicate(timeout=120)
    assert output.split() == ["0", "0"]
    store = JsonFilePersistence(path)
    assert [one.payload["number"] for one in anyio.run(store.list_events)] == [0, 1, 2, 3]
    assert anyio.run(store.scan).anomalies == ()
