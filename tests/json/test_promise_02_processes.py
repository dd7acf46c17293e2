"""Promise 2: any number of processes may write, compact, recover and rotate; nothing acknowledged is lost or
doubled.
"""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence

WRITER = """
async def main():
    kind, writer = sys.argv[2], int(sys.argv[3])
    if kind == "json":
        store = JsonFilePersistence(path)
    else:
        store = RotatingFilePersistence(path, max_bytes=4000, max_files=5000)
    number = writer * 1_000_000
    for round in range(int(sys.argv[4])):
        batch = [event(number + one) for one in range(round % 7 + 1)]
        await store.record_batch(batch)
        number += len(batch)
    await store.aclose()
    say(number - writer * 1_000_000)
anyio.run(main)
"""


def _open(kind, path):
    return (
        JsonFilePersistence(path)
        if kind == "json"
        else RotatingFilePersistence(path, max_bytes=4000, max_files=5000)
    )


@pytest.mark.parametrize("kind", ["json", "rotating"])
@pytest.mark.parametrize("care", ["compact", "recover"])
def test_promise_02_each_record_is_there_once_and_numbered_in_order(path, start, kind, care):
    writers = [start(WRITER, path, kind, number, 40) for number in range(3)]

    async def meddle() -> None:
        store = _open(kind, path)
        config = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)
        while any(writer.poll() is None for writer in writers):
            if care == "compact":
                await store.compact()
            elif care == "recover":
                await store.recover(config)
            assert (await store.scan()).anomalies == ()
            seen = [one.payload["number"] for one in await store.list_events()]
            assert len(seen) == len(set(seen))
        await store.aclose()

    anyio.run(meddle)
    wanted: set[int] = set()
    for number, writer in enumerate(writers):
        output, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0
        wanted |= set(range(number * 1_000_000, number * 1_000_000 + int(output)))
    store = _open(kind, path)
    found = [one.payload["number"] for one in anyio.run(store.list_events)]
    assert Counter(found) == Counter(wanted)
    for number in range(3):  # each writer's records in its order
        own = [one for one in found if one // 1_000_000 == number]
        assert own == sorted(own)
    assert anyio.run(store.scan).anomalies == ()


async def test_promise_02_a_writer_notices_that_its_file_was_replaced_rotated_or_removed(path, event):
    first, second = JsonFilePersistence(path), JsonFilePersistence(path)
    await first.record_event(event(1))
    await second.record_event(event(2))
    before = path.stat().st_ino
    path.write_bytes(path.read_bytes() + b"torn")
    await second.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR))
    assert path.stat().st_ino != before
    await first.record_event(event(3))
    path.rename(path.with_suffix(".moved"))
    await first.record_event(event(4))
    assert await second.list_events() == [event(4)]
    moved = JsonFilePersistence(path.with_suffix(".moved"))
    assert await moved.list_events() == [event(1), event(2), event(3)]
    await first.aclose()
    await second.aclose()


async def test_promise_02_rotation_by_one_is_followed_by_the_other(path, event):
    stores = [RotatingFilePersistence(path, max_bytes=1000, max_files=100) for _ in range(3)]
    for number in range(120):
        await stores[number % 3].record_event(event(number))
    for store in stores:
        assert await store.list_events() == [event(number) for number in range(120)]
        assert (await store.scan()).anomalies == ()
        await store.aclose()


async def test_promise_02_the_lock_file_may_be_removed_by_mistake(path, event):
    first, second = JsonFilePersistence(path), JsonFilePersistence(path)
    for number in range(4):
        await (first, second)[number % 2].record_event(event(number))
        path.with_name(path.name + ".lock").unlink()
    assert await first.list_events() == [event(number) for number in range(4)]
    assert not (await first.scan()).has_anomalies
    await first.aclose()
    await second.aclose()


async def test_promise_02_the_lock_file_is_permanent(path, event):
    store = RotatingFilePersistence(path, max_bytes=300, max_files=3)
    await store.record_event(event(0))
    lock = path.with_name(path.name + ".lock")
    identity = lock.stat().st_ino
    for number in range(1, 10):
        await store.record_event(event(number))
        await store.compact()
    await store.aclose()
    assert lock.stat().st_ino == identity


KILLED = """
async def main():
    store = JsonFilePersistence(path)
    number = int(sys.argv[2])
    while True:
        batch = [event(number + one) for one in range(5)]
        say("try", number)
        await store.record_batch(batch)
        number += 5
        say("done", number)
anyio.run(main)
"""


def test_promise_02_nothing_acknowledged_dies_with_its_process(path, event, start):
    """``durability="os"``: killed at any instant - here before, within and after a write - one after the
    other.
    """
    acknowledged: set[int] = set()
    tried: set[int] = set()
    for kill in range(8):
        base = kill * 1_000_000
        process = start(KILLED, path, base)
        assert process.stdout is not None
        for count, line in enumerate(iter(process.stdout.readline, "")):
            if count == 7 * kill + kill % 2:
                process.kill()
            word, number = line.split()  # also of what it still said before it died
            if word == "done":
                acknowledged.update(range(base, int(number)))
            else:
                tried.update(range(base, int(number) + 5))
        process.wait()
        store = JsonFilePersistence(path)
        found = [one.payload["number"] for one in anyio.run(store.list_events)]
        assert len(found) == len(set(found))
        assert acknowledged <= set(found) <= tried
        assert {anomaly.type for anomaly in anyio.run(store.scan).anomalies} <= {"torn_tail"}
    anyio.run(_record_and_close, store, event(999))
    assert anyio.run(JsonFilePersistence(path).scan).anomalies == ()


async def _record_and_close(store, record):
    await store.record_event(record)
    await store.aclose()
