"""Promise 6: a scan reports every anomaly with path, line and byte offset, and writes nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import anyio
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence.models import PersistenceAnomalyType as Kind
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence
from papyra_json._fileset.snapshot import Snapshot
from papyra_json._fs.files import copy_ranges
from papyra_json._record.lines import forward

from .._loops import one_loop


async def _scan(path, make=JsonFilePersistence, **options):
    store = make(path, **options)
    before = _content(path.parent)
    report = await store.scan()
    assert _content(path.parent) == before
    assert report.backend == store.name
    assert store.metrics.anomalies_detected == len(report.anomalies)
    await store.aclose()
    return [(one.type, one.line, one.offset) for one in report.anomalies if one.path.startswith(str(path))]


def _content(folder):
    return {
        entry.name: (entry.lstat().st_mtime_ns, entry.read_bytes() if entry.is_file() else None)
        for entry in folder.iterdir()
    }


async def test_promise_06_every_kind_of_damage_has_its_place(path, line):
    lines = [line(number) for number in range(1, 10)]
    lines[1] = b"garbage\n"
    lines[3] = lines[3].replace(b"Started", b"Stopped")
    del lines[6]
    path.write_bytes(b"".join(lines) + b'{"kind":"event"')
    at = [sum(map(len, lines[:count])) for count in range(len(lines) + 1)]
    assert await _scan(path) == [
        (Kind.CORRUPT_LINE, 2, at[1]),
        (Kind.CRC_MISMATCH, 4, at[3]),
        (Kind.SEQUENCE_GAP, 7, at[6]),
        (Kind.TORN_TAIL, 9, at[8]),
    ]


@pytest.mark.parametrize("byte", [0, 20, 60, -20, -6, -2])
async def test_promise_06_a_changed_byte_is_found_wherever_it_is(path, line, byte):
    lines = [bytearray(line(number)) for number in range(1, 5000)]
    at = sum(map(len, lines[:3333]))
    lines[3333][byte] ^= 1
    path.write_bytes(b"".join(lines))
    ((kind, number, offset),) = await _scan(path)
    assert kind in (Kind.CORRUPT_LINE, Kind.CRC_MISMATCH)
    assert (number, offset) == (3334, at)


async def test_promise_06_lines_of_any_length_around_the_blocks(path, event):
    store = JsonFilePersistence(path)
    for size in (10, 2**18 - 400, 2**18, 2**18 + 100, 2**19, 1_000_000, 3):
        await store.record_batch([event(size, payload={"text": "x" * size}), event(1)])
    await store.aclose()
    assert await _scan(path) == []
    content = path.read_bytes()
    path.write_bytes(content + b"y" * 20_000_000 + b"\n" + content[:200])
    found = await _scan(path)
    assert [(kind, offset) for kind, _, offset in found][:1] == [(Kind.CORRUPT_LINE, len(content))]
    assert found[-1][2] == len(content) + 20_000_001 + content.index(b"\n") + 1
    store = JsonFilePersistence(path)
    assert len(await store.list_events()) == 15  # and the cut line's first record, which is whole


async def test_promise_06_a_sequence_that_falls_or_repeats_is_a_gap(path, line):
    path.write_bytes(line(1) + line(2) + line(2) + line(1) + line(2))
    first = len(line(1))
    assert await _scan(path) == [(Kind.SEQUENCE_GAP, 3, 2 * first), (Kind.SEQUENCE_GAP, 4, 3 * first)]


async def test_promise_06_damage_that_hides_more_than_its_lines_is_a_gap_too(path, line):
    path.write_bytes(line(1) + b"\0" * 300 + b"\n" + line(5))
    assert [kind for kind, _, _ in await _scan(path)] == [Kind.CORRUPT_LINE, Kind.SEQUENCE_GAP]


async def test_promise_06_a_set_is_checked_across_its_files(path, line):
    path.with_name("facts.ndjson.2").write_bytes(line(1) + line(2))
    path.with_name("facts.ndjson.1").write_bytes(line(3) + line(4))
    path.write_bytes(line(5))
    assert await _scan(path, RotatingFilePersistence) == []
    path.with_name("facts.ndjson.1").unlink()
    assert await _scan(path, RotatingFilePersistence) == [(Kind.SEQUENCE_GAP, 1, 0)]


async def test_promise_06_files_that_do_not_belong_to_the_set(path, line):
    path.write_bytes(line(1))
    for name in ("facts.ndjson.3", "facts.ndjson.01", "facts.ndjson.0", "facts.ndjson.99999999999"):
        path.with_name(name).write_bytes(line(1))
    for name in ("facts.ndjson.bak", "facts.ndjson.1.bz2", "other.ndjson.7", "facts.ndjson.quarantine-1"):
        path.with_name(name).write_bytes(b"whatever")
    report = await RotatingFilePersistence(path, max_files=3).scan()
    assert {one.type for one in report.anomalies} == {Kind.UNEXPECTED_FILE}
    assert sorted(one.path.rpartition(".")[2] for one in report.anomalies) == ["0", "01", "3", "99999999999"]


@pytest.mark.parametrize("odd", ["folder", "link", "fifo"])
async def test_promise_06_paths_of_the_set_that_are_not_files_are_reported(path, line, odd):
    path.write_bytes(line(2))
    first = path.with_name("facts.ndjson.1")
    if odd == "folder":
        first.mkdir()
    elif odd == "link":
        first.symlink_to(path)
    else:
        os.mkfifo(first)
    (anomaly,) = (await RotatingFilePersistence(path).scan()).anomalies
    assert anomaly.type is Kind.UNREADABLE_FILE
    assert anomaly.path == str(first)


@one_loop
@pytest.mark.parametrize("locked", [True, False])
async def test_promise_06_it_is_right_while_others_append(path, start, locked):
    if locked:
        path.with_name("facts.ndjson.lock").write_bytes(b"")
    writers = [
        start(
            """
            async def main():
                store = RotatingFilePersistence(path, max_bytes=300_000, max_files=100)
                for round in range(60):
                    await store.record_batch([event(number) for number in range(100)])
                await store.aclose()
            anyio.run(main)
            """,
            path,
        )
        for _ in range(2)
    ]
    store = RotatingFilePersistence(path, max_files=100)
    scans = 0
    with anyio.fail_after(120):
        while any(writer.poll() is None for writer in writers):
            assert (await store.scan()).anomalies == ()
            scans += 1
    assert scans
    assert len(await store.list_events()) == 12_000


async def test_promise_06_half_a_batch_of_a_first_writer_is_not_damage(path, line, monkeypatch):
    """Without a lock file there is nothing to hold; what looks torn is looked at again once there is one."""
    from papyra_json._maintenance import operations

    path.write_bytes(line(1)[:50])
    real = operations.Scanner.add

    def add(self, file):
        walk = real(self, file)
        path.write_bytes(line(1))
        path.with_name("facts.ndjson.lock").write_bytes(b"")
        return walk

    monkeypatch.setattr(operations.Scanner, "add", add)
    assert (await JsonFilePersistence(path).scan()).anomalies == ()


async def test_promise_06_a_cancelled_scan_stops(path, line, monkeypatch):
    from papyra_json._maintenance import scanner

    path.write_bytes(b"".join(line(number) for number in range(1, 20_000)))
    reached, go, looked = threading.Event(), threading.Event(), []
    real = scanner.Scanner._all_well

    def slow(self, lines):
        looked.append(len(lines))
        reached.set()
        go.wait(60)
        return real(self, lines)

    monkeypatch.setattr(scanner.Scanner, "_all_well", slow)
    store = JsonFilePersistence(path)
    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            group.start_soon(store.scan)
            await anyio.to_thread.run_sync(reached.wait)
            group.cancel_scope.cancel()
    go.set()
    await store.aclose()
    with anyio.fail_after(120):
        while any(thread.name != "MainThread" and _is_scanning(thread) for thread in threading.enumerate()):
            await anyio.lowlevel.checkpoint()
    assert len(looked) < 5


def _is_scanning(thread):
    import sys

    frame = sys._current_frames().get(thread.ident)
    while frame is not None:
        if frame.f_code.co_name == "_scan":
            return True
        frame = frame.f_back
    return False


async def test_promise_06_a_single_file_has_no_set(path, line):
    """A numbered file beside it belongs to another program, say logrotate: neither reported nor moved."""
    path.write_bytes(line(1))
    other = path.with_name("facts.ndjson.1")
    other.write_bytes(b"another's")
    store = JsonFilePersistence(path)
    assert not (await store.scan()).has_anomalies
    await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE))
    assert other.read_bytes() == b"another's"


@pytest.mark.parametrize(
    "damage",
    [
        b"junk", b"[]", b"{}", b"", b'{"kind": "event"}', b'{"kind": 1}', b'{"kind": ["event"]}',
        b'{"kind": "other", "system_id": "", "actor_address": "", "event_type": "", "payload": {}, "timestamp": 1.0}',
        b'{"kind": "event", "system_id": 1, "actor_address": "", "event_type": "", "payload": {}, "timestamp": 1.0}',
        b'{"kind": "event", "system_id": "", "actor_address": "", "event_type": "", "timestamp": 1.0, "more": 1}',
        b'{"kind": "event", "system_id": "", "actor_address": "", "event_type": "", "payload": {}, "timestamp": "1"}',
        b'{"kind": "dead_letter", "system_id": "", "target": 1, "message_type": "", "payload": {}, "timestamp": 1.0}',
        b'{"kind": "event", "system_id": "", "actor_address": "", "event_type": "", "payload": {}, "timestamp": 1.0, "crc": ""}',
    ],
)  # fmt: skip
async def test_promise_06_damage_among_lines_of_the_published_package(path, line, damage):
    old = (Path(__file__).parent / "data" / "published.ndjson").read_bytes()
    path.write_bytes(old * 20 + damage + b"\n" + old * 20 + line(1) + line(3))
    found = await _scan(path)
    assert [(kind in (Kind.CORRUPT_LINE, Kind.CRC_MISMATCH), at, offset) for kind, at, offset in found] == [
        (True, 105 * 20 + 1, len(old) * 20),
        (False, 105 * 40 + 3, len(old) * 40 + len(damage) + 1 + len(line(1))),
    ]


async def test_promise_06_plain_lines_may_say_less_or_more_than_usual(path, line):
    plain = b'{"kind": "event", "system_id": "", "actor_address": "", "event_type": "", "payload": null, "timestamp": 1%s}\n'
    path.write_bytes(plain % b"" + plain % b', "later": 1' + line(1) + plain % b".5" + line(2) + plain % b"")
    assert await _scan(path) == []
    assert len(await JsonFilePersistence(path).list_events()) == 6


def test_promise_06_a_set_that_never_rests_is_an_error(path, line, monkeypatch):
    path.write_bytes(line(1))  # without a lock file, so nothing holds the others back
    monkeypatch.setattr(Snapshot, "is_current", lambda self: False)
    with pytest.raises(PersistenceError, match="were moved faster than they could be opened"):
        anyio.run(JsonFilePersistence(path).list_events)


class _Truncated:
    """A file that was longer when its size was asked for."""

    def read_at(self, size: int, offset: int) -> bytes:
        return b'{"kind'[offset : offset + size]


def test_promise_06_a_file_that_is_cut_while_it_is_read_is_read_to_its_new_end(tmp_path):
    assert list(forward(_Truncated(), 0, 100)) == [(0, 6, [b'{"kind'])]
    with (
        (tmp_path / "copy").open("wb") as target,
        pytest.raises(PersistenceError, match="truncated to 6 bytes"),
    ):
        copy_ranges(_Truncated(), target.fileno(), [(0, 100)])
    assert (tmp_path / "copy").read_bytes() == b'{"kind'
