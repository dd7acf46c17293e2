"""A set of files never exceeds its limits, and survives being opened with others."""

from __future__ import annotations

import json
import os
import re
from contextlib import aclosing as closing

import pytest

from papyra_json import RotatingFilePersistence


def files(path):
    return sorted(
        file.name for file in path.parent.iterdir() if re.fullmatch(r"facts\.ndjson(\.\d+)?", file.name)
    )


@pytest.mark.parametrize("max_files", [1, 2, 3, 5])
async def test_the_set_never_has_more_files_and_no_file_more_bytes(path, event, monkeypatch, max_files):
    seen: list[int] = []
    real = os.open

    def watching(name, flags, *mode):
        seen.append(len(files(path)))
        return real(name, flags, *mode)

    monkeypatch.setattr(os, "open", watching)
    store = RotatingFilePersistence(path, max_bytes=1000, max_files=max_files)
    number = 0
    for size in (1, 1, 2, 3, 5, 8, 20, 1, 1):
        await store.record_batch([event(number + one) for one in range(size)])
        number += size
        seen.append(len(files(path)))
        assert all(path.with_name(name).stat().st_size <= 1000 for name in files(path))
    assert max(seen) == max_files
    found = [one.payload["number"] for one in await store.list_events()]
    assert found == list(range(number - len(found), number))
    assert not (await store.scan()).has_anomalies
    await store.aclose()


async def test_a_record_longer_than_a_file_has_one_of_its_own(path, event):
    store = RotatingFilePersistence(path, max_bytes=500, max_files=10)
    events = [event(number, payload={"text": "x" * (600 if number % 3 == 1 else 5)}) for number in range(9)]
    await store.record_batch(events)
    assert await store.list_events() == events
    for file in files(path):
        content = path.with_name(file).read_bytes()
        assert len(content) <= 500 or content.count(b"\n") == 1
    await store.aclose()


async def test_a_new_set_of_unknown_size_loses_nothing(path, event):
    store = RotatingFilePersistence(path, max_bytes=500, max_files=None)
    events = [event(number) for number in range(40)]
    await store.record_batch(events[:20])
    await store.record_batch(events[20:])
    assert await store.list_events() == events
    assert files(path) == ["facts.ndjson"]
    await store.aclose()


async def test_a_set_of_unknown_size_rotates_once_another_store_has_given_it_one(path, event):
    store = RotatingFilePersistence(path, max_bytes=1000, max_files=None)
    await store.record_event(event(0))
    async with closing(RotatingFilePersistence(path, max_bytes=1000, max_files=3)) as other:
        await other.record_batch([event(number) for number in range(1, 60)])
    for number in range(60, 160):
        await store.record_event(event(number))
    assert files(path) == ["facts.ndjson", "facts.ndjson.1", "facts.ndjson.2"]
    assert max(path.with_name(name).stat().st_size for name in files(path)) <= 1000
    await store.aclose()


async def test_a_set_of_unknown_size_is_asked_for_it_once_a_file_full(path, event, monkeypatch):
    """A compaction may give it one and leave the file alone; but to look at each append would be slow."""
    looks: list[object] = []
    real = os.listdir
    store = RotatingFilePersistence(path, max_bytes=1000, max_files=None)
    await store.record_event(event(0))
    monkeypatch.setattr(os, "listdir", lambda folder: looks.append(folder) or real(folder))
    for number in range(1, 100):
        await store.record_event(event(number))
    assert 10 < len(looks) < 100 / 5  # a file holds five records
    monkeypatch.undo()
    assert files(path) == ["facts.ndjson"]
    before = path.stat()
    async with closing(RotatingFilePersistence(path, max_bytes=1000, max_files=None)) as other:
        await other.compact(max_files=3)
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)
    for number in range(100, 109):
        await store.record_event(event(number))
    assert files(path) == ["facts.ndjson", "facts.ndjson.1", "facts.ndjson.2"]
    assert await store_numbers(path) == list(range(109))
    await store.aclose()


async def test_a_set_that_another_store_gave_a_size_is_numbered_on(path, event):
    store = RotatingFilePersistence(path, max_bytes=1000, max_files=None)
    await store.record_event(event(0))
    async with closing(RotatingFilePersistence(path, max_bytes=1000, max_files=3)) as other:
        await other.record_batch([event(number) for number in range(1, 20)])
    path.write_bytes(b"")  # as a crash in the middle of a rotation may leave it
    full = path.with_name("facts.ndjson.1").read_bytes().splitlines()
    await store.record_event(event(20))
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line)["seq"] == json.loads(full[-1])["seq"] + 1
    await store.aclose()


async def test_r32_a_smaller_limit_removes_nothing_until_a_compaction_says_so(path, event, caplog):
    store = RotatingFilePersistence(path, max_bytes=500, max_files=6)
    await store.record_batch([event(number) for number in range(40)])
    await store.aclose()
    before = await store_numbers(path)
    store = RotatingFilePersistence(path, max_bytes=500, max_files=3)
    await store.record_event(event(40))
    assert len(files(path)) == 6
    left = await store_numbers(path)
    assert left == list(range(left[0], 41))
    assert len(left) > len(before) - 3  # one rotation, and not three files
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("papyra", "WARNING")
    assert "keeps up to 6 files, as noted beside it, not 3" in record.getMessage()
    dry = await store.compact(max_files=3, dry_run=True)
    assert len(files(path)) == 6
    report = await store.compact(max_files=3)
    assert report == dry
    assert report.after_records < report.before_records
    assert len(files(path)) == 3
    assert not (await store.scan()).has_anomalies
    await store.record_batch([event(number) for number in range(41, 60)])
    assert len(files(path)) == 3
    assert not (await store.scan()).has_anomalies
    await store.aclose()


async def test_r32_a_set_from_before_sizes_were_noted_keeps_its_files(path, event, line):
    for number in range(1, 9):
        path.with_name(f"facts.ndjson.{number}").write_bytes(line(9 - number))
    path.write_bytes(line(9))
    store = RotatingFilePersistence(path, max_bytes=len(line(1)), max_files=3)
    await store.record_event(event(10))
    await store.aclose()
    assert len(files(path)) == 9
    assert await store_numbers(path) == list(range(2, 11))


async def test_r32_holes_are_closed_by_a_compaction_to_fewer_files(path, event, line):
    for number in (2, 5, 7):
        path.with_name(f"facts.ndjson.{number}").write_bytes(line(10 - number))
    path.write_bytes(line(10))
    store = RotatingFilePersistence(path, max_files=9)
    await store.compact(max_files=3)
    assert files(path) == ["facts.ndjson", "facts.ndjson.1", "facts.ndjson.2"]
    assert await store_numbers(path) == [5, 8, 10]
    await store.aclose()


async def store_numbers(path):
    store = RotatingFilePersistence(path, max_files=None)
    found = [one.payload["number"] for one in await store.list_events()]
    await store.aclose()
    return found


async def test_a_hole_in_the_numbers_is_filled_first(path, line, event):
    """A process that died in the middle of a rotation leaves a hole; nothing is lost by it."""
    path.with_name("facts.ndjson.3").write_bytes(line(1))
    path.with_name("facts.ndjson.1").write_bytes(line(2))
    path.write_bytes(line(3))
    store = RotatingFilePersistence(path, max_bytes=len(line(3)), max_files=4)
    assert [one.payload["number"] for one in await store.list_events()] == [1, 2, 3]
    assert not (await store.scan()).has_anomalies
    await store.record_event(event(4))
    assert [one.payload["number"] for one in await store.list_events()] == [1, 2, 3, 4]
    assert len(files(path)) == 4
    await store.record_event(event(5))
    assert [one.payload["number"] for one in await store.list_events()] == [2, 3, 4, 5]
    await store.aclose()


async def test_numbers_go_on_behind_invalid_lines(path, line, event):
    path.with_name("facts.ndjson.1").write_bytes(line(1) + line(2) + b'{"seq": torn\n')
    store = RotatingFilePersistence(path)
    await store.record_event(event(3))
    await store.aclose()
    assert path.read_bytes() == line(3)


async def test_a_missing_base_is_begun_anew(path, line, event):
    path.with_name("facts.ndjson.1").write_bytes(line(1) + line(2))
    store = RotatingFilePersistence(path)
    await store.record_event(event(3))
    assert path.read_bytes() == line(3)
    assert not (await store.scan()).has_anomalies
    await store.aclose()


@pytest.mark.parametrize("max_files", [3, 100])
async def test_a_large_limit_finds_its_files_too(path, event, max_files):
    store = RotatingFilePersistence(path, max_bytes=300, max_files=max_files)
    await store.record_batch([event(number) for number in range(80)])
    found = [one.payload["number"] for one in await store.list_events()]
    assert found == list(range(80))[-len(found) :]
    assert len(files(path)) == min(max_files, 80)
    await store.aclose()


@pytest.mark.parametrize("name", ["5", "20260701", "999", "1000", "5000000000", "7"])
async def test_the_numbered_files_of_others_stay(path, event, name, caplog):
    others = path.with_name(f"facts.ndjson.{name}")
    content = b"" if name == "7" else b"what somebody noted\n"
    others.write_bytes(content)
    store = RotatingFilePersistence(path, max_bytes=500, max_files=3)
    for number in range(10):
        await store.record_event(event(number))
    await store.compact()
    anomalies = (await store.scan()).anomalies
    assert [one.type for one in anomalies] == ["unexpected_file"]
    await store.aclose()
    assert others.read_bytes() == content
    assert not caplog.records


async def test_what_is_dated_is_not_taken_for_a_rotation(path, line, event):
    """As by logrotate's ``dateext``: it stays even if it holds records."""
    dated = path.with_name("facts.ndjson.20260701")
    dated.write_bytes(line(1))
    store = RotatingFilePersistence(path)
    await store.record_event(event(2))
    await store.aclose()
    assert dated.read_bytes() == line(1)
