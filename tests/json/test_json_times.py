"""``since`` and ``until`` read little, and never leave anything out, whatever the times are."""

from __future__ import annotations

import shutil
from zlib import crc32

import pytest

from papyra.persistence import Query, RetentionPolicy
from papyra.persistence.blocking import Work
from papyra_json import JsonFilePersistence, RotatingFilePersistence
from papyra_json._fileset.names import FileSet
from papyra_json._fileset.time_index import ENTRY_BYTES
from papyra_json._maintenance.operations import compact
from papyra_json._read.query import newest
from papyra_json._record.encode import encode
from papyra_json._write.appender import Appender

from ._compressed import compressed

ALL = RetentionPolicy()


def write(files: FileSet, events, batch: int = 500, max_bytes: int | None = None) -> None:
    writer = Appender(files, sync_each=False, sync_later=False, max_bytes=max_bytes)
    for start in range(0, len(events), batch):
        done = writer.append(encode(events[start : start + batch], writer.next_seq))
        assert done.error is None
    writer.close()


def find(files: FileSet, since=None, until=None, limit=None, policy=ALL, now=0.0) -> list[int]:
    query = Query(None, limit, since, until)
    return [one.payload["number"] for one in newest(files, query, policy, now, lambda: None)]


def test_what_is_new_costs_the_same_in_a_large_file(path, event, read):
    costs = []
    for many in (5_000, 40_000):
        files = FileSet(path.with_name(str(many)))
        write(files, [event(number) for number in range(many)])
        read.clear()
        assert find(files, since=event(many - 20).timestamp) == list(range(many - 20, many))
        costs.append(sum(read))
    assert costs[1] < costs[0] + 50_000 < 400_000


def test_what_is_old_costs_little_in_a_large_file(path, event, read):
    files = FileSet(path)
    write(files, [event(number) for number in range(40_000)])
    for first in (0, 17, 20_000, 39_000):
        read.clear()
        since, until = event(first).timestamp, event(first + 20).timestamp
        assert find(files, since=since, until=until) == list(range(first, first + 21))
        assert find(files, until=until, limit=3) == list(range(first + 18, first + 21))
        assert sum(read) < 600_000 < path.stat().st_size / 10
    read.clear()
    assert find(files, since=event(50_000).timestamp) == []
    assert find(files, until=event(-1).timestamp) == []
    assert sum(read) < 200_000


def test_a_little_disorder_costs_a_little(path, event, read):
    """Two writers whose clocks differ by two minutes, and whose batches take turns."""
    files = FileSet(path)
    events = [
        event(number, timestamp=event(number).timestamp - 120 * (number // 10 % 2))
        for number in range(40_000)
    ]
    write(files, events, batch=10)
    read.clear()
    since = event(39_900).timestamp
    wanted = [one.payload["number"] for one in events if one.timestamp >= since]
    assert find(files, since=since) == wanted != []
    assert sum(read) < 400_000


def test_age_limits_a_read_as_since_does(path, event, read):
    files = FileSet(path)
    write(files, [event(number) for number in range(40_000)])
    now = event(40_000).timestamp
    for policy in (
        RetentionPolicy(max_age_seconds=100),
        RetentionPolicy(max_age_seconds=100, max_records=50),
    ):
        read.clear()
        kept = list(range(40_000 - (policy.max_records or 100), 40_000))
        assert find(files, policy=policy, now=now) == kept
        assert sum(read) < 400_000


def test_full_files_of_a_set_are_passed_over(path, event, read):
    files = FileSet(path, 9)
    write(files, [event(number) for number in range(40_000)], max_bytes=10**6)
    assert len(files.present()) > 6
    for first in (0, 17_000, 39_000):
        read.clear()
        since, until = event(first).timestamp, event(first + 20).timestamp
        assert find(files, since=since, until=until) == list(range(first, first + 21))
        assert sum(read) < 400_000


async def test_compressed_files_are_passed_over_block_by_block(path, event, read):
    store = RotatingFilePersistence(path, max_bytes=2_000_000, max_files=9, compress="gzip")
    for first in range(0, 40_000, 4000):
        await store.record_batch([event(number) for number in range(first, first + 4000)])
    await compressed(path)
    for first in (0, 17_000, 39_000):
        read.clear()
        found = await store.list_events(since=event(first).timestamp, until=event(first + 20).timestamp)
        assert [one.payload["number"] for one in found] == list(range(first, first + 21))
        assert sum(read) < 500_000
    await store.aclose()


def test_a_file_from_elsewhere_is_read_whole_until_a_compaction_has_learnt_its_times(path, line, event, read):
    path.write_bytes(b"".join(map(line, range(1, 20_001))))
    files = FileSet(path)
    since = event(19_990).timestamp
    writer = Appender(files, sync_each=False, sync_later=False)
    assert writer.append(encode([event(20_001)], writer.next_seq)).error is None
    read.clear()
    assert find(files, since=since) == list(range(19_990, 20_002))
    assert sum(read) > path.stat().st_size
    compact(files, "json", ALL, 0.0, Work(), dry_run=False)
    for first in range(20_002, 40_000, 500):
        events = [event(number) for number in range(first, first + 500)]
        assert writer.append(encode(events, writer.next_seq)).error is None
    read.clear()
    assert find(files, since=event(39_990).timestamp) == list(range(39_990, 40_002))
    assert sum(read) < 1_400_000, "a writer that knew nothing looks into the table again every MiB"
    writer.close()


def test_what_is_known_outlives_compaction_restarts_and_copies(path, event, read):
    files = FileSet(path)
    write(files, [event(number) for number in range(20_000)])
    compact(files, "json", RetentionPolicy(max_records=15_000), 0.0, Work(), dry_run=False)
    write(files, [event(number) for number in range(20_000, 30_000)])
    copy = path.parent / "copy"
    copy.mkdir()
    for file in path.parent.glob("facts*"):
        shutil.copy(file, copy)
    for base in (path, copy / path.name):
        read.clear()
        assert find(FileSet(base), since=event(29_990).timestamp) == list(range(29_990, 30_000))
        assert find(FileSet(base), until=event(5_009).timestamp) == list(range(5_000, 5_010))
        assert sum(read) < 500_000


def test_what_is_not_known_does_not_become_known_by_a_compaction(path, event, line):
    files = FileSet(path)
    write(files, [event(number) for number in range(3000)])
    with path.open("ab") as file:
        file.write(line(7, 3001) + line(8, 3002))
    compact(files, "json", RetentionPolicy(max_records=3000), 0.0, Work(), dry_run=False)
    for number in (7, 8):
        assert find(files, until=event(number).timestamp, limit=1) == [number]
    compact(files, "json", RetentionPolicy(max_records=2900), 0.0, Work(), dry_run=False)
    write(files, [event(number) for number in range(3000, 6000)])
    assert find(files, until=event(7).timestamp) == [7]


@pytest.mark.parametrize("what", ["deleted", "empty", "garbage", "flipped", "unknown", "of another set"])
def test_without_its_table_all_is_read(path, event, line, read, what):
    files = FileSet(path)
    write(files, [event(number, timestamp=2e9 - number) for number in range(3000)])
    lock = path.with_name(path.name + ".lock")
    table = lock.read_bytes()
    if what == "deleted":
        lock.unlink()
    elif what == "of another set":
        write(FileSet(path.with_name("other")), [event(number) for number in range(3000)])
        lock.write_bytes(path.with_name("other.lock").read_bytes())
    else:
        unknown = b'{"number":1,"oldest":"old"'
        unknown = (unknown + b',"crc":"%08x"}' % crc32(unknown)).ljust(ENTRY_BYTES - 1) + b"\n"
        lock.write_bytes(
            {"empty": b"", "garbage": b"[1]" * 4000, "unknown": unknown}.get(
                what, table.replace(b'"disorder":2', b'"disorder":0')
            )
        )
    read.clear()
    assert find(files, since=2e9 - 10) == list(range(11))
    assert sum(read) > path.stat().st_size
    write(files, [event(number) for number in range(3000, 3010)])
    assert find(files, since=2e9 - 10) == list(range(11))


def test_lines_of_other_tools_and_restored_files_are_seen(path, event, line):
    files = FileSet(path)
    write(files, [event(number) for number in range(3000)])
    early = path.read_bytes()
    write(files, [event(number) for number in range(3000, 6000)])
    assert find(files, until=event(5).timestamp) == list(range(6))
    with path.open("ab") as file:
        file.write(line(7).partition(b',"crc"')[0] + b"}\n")  # of an old time, by a tool that knows no lock
    assert find(files, until=event(5).timestamp) == list(range(6))
    assert find(files, until=event(7).timestamp, limit=1) == [7]
    write(files, [event(number) for number in range(6000, 9000)])
    assert find(files, until=event(7).timestamp, limit=1) == [7]
    half = early.index(b"\n", len(early) // 2) + 1
    path.write_bytes(early[:half] + line(9999, 1) + line(2, 2))  # in place, from a backup
    assert find(files, since=event(9000).timestamp) == [9999]
    write(files, [event(9998)])
    assert find(files, since=event(9000).timestamp) == [9999, 9998]


def test_garbage_does_not_lead_a_search_astray(path, event, line, read):
    files = FileSet(path)
    for first in range(0, 4000, 100):
        write(files, [event(number) for number in range(first, first + 99)])
        with path.open("ab") as file:  # a writer would cut garbage off at the end
            file.write(b"garbage, as another program may write it\n" * 300 + line(first + 99, first + 100))
    for since in (5, 1990, 3990):
        assert find(files, until=event(since).timestamp, limit=3) == [since - 2, since - 1, since]
        read.clear()
        found = find(files, since=event(since).timestamp, until=event(since + 9).timestamp)
        assert found == list(range(since, since + 10))
        assert sum(read) < path.stat().st_size / 2


def test_odd_times_do_not_spoil_the_answers(path, event):
    times = [
        float("nan"),
        float("inf"),
        -float("inf"),
        10**18,
        2**53 + 1,
        -1e308,
        1e308,
        0,
        True,
        "x",
        None,
        1.5,
    ]
    files = FileSet(path)
    store_events = [event(number, timestamp=time) for number, time in enumerate(times * 400)]
    write(files, store_events)
    everything = newest(files, Query(), ALL, 0.0, lambda: None)
    for since in (-1e308, 0.0, 1.5, 2.0**53, 1e9, 1e18, 1e308):
        for until in (None, 1e10, 1e18):
            wanted = [
                one.payload["number"]
                for one in everything
                if one.timestamp >= since and (until is None or one.timestamp <= until)
            ]
            assert find(files, since=since, until=until) == wanted


@pytest.mark.parametrize("make", [JsonFilePersistence, RotatingFilePersistence])
async def test_a_store_passes_the_times_on(path, event, read, make):
    store = make(path)
    for first in range(0, 20_000, 5000):
        await store.record_batch([event(number) for number in range(first, first + 5000)])
    await store.record_batch(
        [event(20_000, payload={"text": "\ud800"}), event(20_001, timestamp=float("nan"))]
    )
    read.clear()
    found = await store.list_events(since=event(19_990).timestamp)
    assert len(found) == 12
    assert sum(read) < 400_000
    await store.aclose()
