"""R14: pages of files, and cursors over rotation, compaction, recovery and other stores of the same name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistedRecord, PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra.persistence.query import Query
from papyra_json import JsonFilePersistence, RotatingFilePersistence

from ._records import plain_fact

ALL: Query[PersistedRecord] = Query()
REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)


async def rest(store, cursor, limit=7):
    """Return the numbers of the records after a cursor, and the last cursor."""
    numbers = []
    while (page := await store.page(ALL, after=cursor, limit=limit)).records:
        numbers += [record.payload["number"] for record in page.records]
        cursor = page.cursor
    return numbers, cursor


async def test_r14_a_cursor_finds_its_place_in_a_file_that_was_rotated(path, event):
    store = RotatingFilePersistence(path, max_bytes=2000, max_files=50)
    seen, cursor = [], None
    for number in range(0, 200, 5):
        await store.record_batch([event(one) for one in range(number, number + 5)])
        page = await store.page(ALL, after=cursor, limit=4)  # it falls behind
        seen += [record.payload["number"] for record in page.records]
        cursor = page.cursor
    assert len(list(path.parent.glob(f"{path.name}.*"))) > 5
    await store.aclose()
    store = RotatingFilePersistence(path, max_bytes=2000, max_files=50)
    assert seen + (await rest(store, cursor))[0] == list(range(200))
    await store.aclose()


async def test_r14_files_that_rotation_deleted_are_passed_over(path, event):
    store = RotatingFilePersistence(path, max_bytes=1000, max_files=2)
    await store.record_batch([event(0)])
    cursor = (await store.page(ALL)).cursor
    for number in range(1, 60):
        await store.record_event(event(number))
    numbers, _ = await rest(store, cursor)
    assert numbers == list(range(numbers[0], 60))
    assert numbers == [record.payload["number"] for record in await store.list_events()]
    await store.aclose()


@pytest.mark.parametrize("position", [0, 1, 9, 10, 11, 29])
async def test_r14_no_record_is_doubled_or_lost_by_a_compaction(path, event, position):
    store = JsonFilePersistence(path, RetentionPolicy(max_age_seconds=100))
    store.time_fn = lambda: event(100).timestamp
    old = set(range(3, 12))  # so old that a compaction removes them, in the midst of others
    await store.record_batch(
        [event(one, timestamp=event(-50).timestamp) if one in old else event(one) for one in range(30)]
    )
    store.retention = RetentionPolicy()
    before = [record.payload["number"] for record in (await store.page(ALL, limit=position + 1)).records]
    cursor = (await store.page(ALL, limit=position + 1)).cursor
    store.retention = RetentionPolicy(max_age_seconds=100)
    assert (await store.compact()).after_records == 21
    await store.record_event(event(30))
    numbers, cursor = await rest(store, cursor)
    assert numbers == [one for one in range(31) if one not in before and one not in old]
    await store.record_event(event(31))
    assert (await rest(store, cursor))[0] == [31]
    await store.aclose()


async def test_r14_in_a_store_that_was_made_anew_all_records_are_new(path, event):
    for size in (3, 10, 12):  # with fewer records than the cursor's, as many, and more
        store = JsonFilePersistence(path)
        await store.record_batch([event(one) for one in range(10)])
        _, cursor = await rest(store, None)
        await store.aclose()
        path.rename(path.with_name("old"))
        for left in path.parent.iterdir():
            left.unlink()
        store = JsonFilePersistence(path)
        await store.record_batch([event(one) for one in range(100, 100 + size)])
        assert (await rest(store, cursor))[0] == list(range(100, 100 + size))
        await store.aclose()
        for left in path.parent.iterdir():
            left.unlink()


async def test_r14_invalid_lines_and_nuls_between_records_are_passed_over(path, line):
    lines = [line(number) for number in range(1, 21)]
    lines[4] = b"garbage\n"
    lines[7] = bytes(50) + lines[7]
    lines[8] = lines[8][:-1] + bytes(5) + lines[8]
    path.write_bytes(b"".join(lines) + line(21)[:40])
    store = JsonFilePersistence(path)
    expected = [record.payload["number"] for record in await store.list_events()]
    for limit in (1, 2, 100):
        assert (await rest(store, None, limit))[0] == expected
    cursor = (await store.page(ALL, limit=7)).cursor
    await store.recover(REPAIR)
    assert (await rest(store, cursor))[0] == expected[7:]
    await store.aclose()


@pytest.mark.parametrize("numbered", [True, False])
async def test_r14_invalid_lines_hide_no_record_of_a_replaced_file(path, line, numbered):
    def lines(*numbers):
        whole = [line(number) for number in numbers]
        return b"".join(whole if numbered else [one.partition(b',"seq"')[0] + b"}\n" for one in whole])

    async def replaced(*contents):
        path.with_name("new").write_bytes(b"".join(contents))
        path.with_name("new").rename(path)
        return (await rest(store, cursor))[0]

    path.write_bytes(lines(*range(1, 11)))
    store = JsonFilePersistence(path)
    cursor = (await store.page(ALL, limit=5)).cursor
    assert await replaced(lines(*range(1, 11)), b"garbage\n", lines(11), b"garbage\n") == [*range(6, 12)]
    assert await replaced(b"garbage\n", lines(104, 105), b"garbage\n") == [104, 105]
    store.retention = RetentionPolicy(max_records=1)
    assert (await rest(store, None))[0] == [105]
    await store.aclose()


async def test_r14_lines_of_the_published_package_have_cursors_too(path):
    path.write_text("".join(json.dumps(plain_fact(number)) + "\n" for number in range(20)))
    store = JsonFilePersistence(path, RetentionPolicy(max_records=18))
    assert (await rest(store, None))[0] == list(range(2, 20))
    cursor = (await store.page(ALL, limit=5)).cursor
    await store.compact()
    assert (await rest(store, cursor))[0] == list(range(7, 20))
    await store.aclose()


@pytest.mark.parametrize("policy", [RetentionPolicy(max_records=40), RetentionPolicy(max_total_bytes=8000)])
async def test_r14_retention_is_looked_for_once_while_nothing_changes(path, event, policy, monkeypatch):
    store = JsonFilePersistence(path, policy)
    await store.record_batch([event(number) for number in range(100)])
    kept = [record.payload["number"] for record in await store.list_events()]
    looks = []
    real = RetentionPolicy.kept
    monkeypatch.setattr(RetentionPolicy, "kept", lambda *given: looks.append(1) or real(*given))
    assert (await rest(store, None, 5))[0] == kept
    assert len(looks) == 1
    await store.record_event(event(100))
    assert (await rest(store, None, 50))[0][-1] == 100
    assert len(looks) == 2
    await store.aclose()


COPY = """
import sys
from pathlib import Path
from papyra_cli import main
try:
    main()
finally:
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print("peak", peak.split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_r14_a_copy_holds_no_store_in_memory(tmp_path, event):
    """The peak of a copy of 12 MB is at most some MB above that of a copy of nearly nothing."""
    peaks = []
    for name, records in (("small", 200), ("large", 60_000)):
        source = tmp_path / f"{name}.ndjson"
        lines = (json.dumps(plain_fact(number, text="x" * 60)) for number in range(records))
        source.write_text("".join(f"{one}\n" for one in lines))
        arguments = ["persistence", "copy", str(source), f"sqlite:{tmp_path / name}.db"]
        done = subprocess.run(
            [sys.executable, "-c", COPY, *arguments], capture_output=True, text=True, check=False
        )
        assert f"copied\t{records}\n" in done.stdout, done.stdout + done.stderr
        peaks.append(int(done.stdout.rsplit("peak ", 1)[1]))
    assert peaks[1] - peaks[0] < 8192, peaks
