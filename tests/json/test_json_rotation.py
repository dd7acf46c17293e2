"""A set of files never exceeds its limits, and survives being opened with others."""

from __future__ import annotations

import os
import re

import pytest

from papyra_json import RotatingFilePersistence

pytestmark = pytest.mark.anyio


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


async def test_a_smaller_set_lets_go_of_the_oldest_files(path, event):
    store = RotatingFilePersistence(path, max_bytes=500, max_files=6)
    await store.record_batch([event(number) for number in range(40)])
    await store.aclose()
    assert len(files(path)) == 6
    store = RotatingFilePersistence(path, max_bytes=500, max_files=3)
    await store.list_events()
    assert len(files(path)) == 6  # reading removes nothing
    await store.record_event(event(40))
    assert len(files(path)) == 3
    assert not (await store.scan()).has_anomalies
    await store.aclose()


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


async def test_what_a_smaller_set_removes_is_logged(path, event, caplog):
    store = RotatingFilePersistence(path, max_bytes=500, max_files=4)
    await store.record_batch([event(number) for number in range(40)])
    await store.aclose()
    store = RotatingFilePersistence(path, max_bytes=500, max_files=2)
    await store.record_event(event(40))
    await store.aclose()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("papyra", "WARNING")
    assert "removing facts.ndjson.2, facts.ndjson.3, for" in record.getMessage()
    assert "at most 2 files" in record.getMessage()


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
