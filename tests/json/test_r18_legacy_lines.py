"""R18: lines that the published package reads are read, scanned as valid, and stay byte for byte."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence

HEAD = '{"kind": "event", "system_id": "s", "actor_address": "s:1", "event_type": "E", "payload": '
VALUES = {
    "nan": ('{"a": NaN, "b": -Infinity, "c": Infinity}', None),
    "surrogate": (r'{"file": "caf\udce9"}', {"file": "caf\udce9"}),
    "integer": ('{"id": 1180591620717411303424}', {"id": 1180591620717411303424}),
    "negative": ('{"id": -9223372036854775809}', {"id": -9223372036854775809}),
    "long": ('{"id": %s}' % ("7" * 4000), {"id": int("7" * 4000)}),
    "twice": ('{"a": 1, "a": 2}', {"a": 2}),
}


def legacy(payload: str, time: str = "1700000000.5") -> bytes:
    return f'{HEAD}{payload}, "timestamp": {time}}}\n'.encode()


@pytest.mark.parametrize("name", VALUES)
async def test_r18_a_line_of_the_published_package_is_valid_and_stays(path, line, event, name):
    text, value = VALUES[name]
    content = legacy("{}", "1700000000.1") + legacy(text) + line(1)
    path.write_bytes(content)
    store = JsonFilePersistence(path, RetentionPolicy(max_records=2))
    assert (await store.scan()).anomalies == ()
    (found, own) = await store.list_events()
    assert own == event(1)
    if value is None:
        assert math.isnan(found.payload["a"])
        assert (found.payload["b"], found.payload["c"]) == (-math.inf, math.inf)
    else:
        assert found.payload == value
    report = await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR))
    assert report.repaired_files == ()
    assert path.read_bytes() == content
    await store.compact()
    assert path.read_bytes() == legacy(text) + line(1)
    await store.record_event(event(2))
    assert (await store.scan()).anomalies == ()
    await store.aclose()


@pytest.mark.parametrize(
    ("time", "expected"), [("1e999", math.inf), ("-Infinity", -math.inf), ("1" * 400, math.inf)]
)
async def test_r18_a_time_beyond_every_clock_is_read(path, line, event, time, expected):
    path.write_bytes(line(1) + legacy("{}", time) + line(2))
    store = JsonFilePersistence(path)
    assert [one.timestamp for one in await store.list_events()][1] == expected
    assert (await store.scan()).anomalies == ()
    assert event(2) in await store.list_events(since=event(2).timestamp)
    await store.compact()
    assert len(await store.list_events()) == 3
    await store.aclose()


@pytest.mark.parametrize("name", ["published_nan.ndjson", "published_surrogate.ndjson"])
async def test_r18_files_of_the_published_package(path, name, event):
    content = (Path(__file__).parent / "data" / name).read_bytes()
    path.write_bytes(content)
    store = JsonFilePersistence(path)
    assert (await store.scan()).anomalies == ()
    found = await store.list_events()
    assert len(found) == content.count(b"\n")
    assert {"id": 1180591620717411303424} in [one.payload for one in found]
    await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE))
    await store.compact()
    assert path.read_bytes() == content
    await store.record_event(event(1))
    await store.aclose()
    assert path.read_bytes().startswith(content)


async def test_r18_our_own_lines_stay_strict(path, event):
    store = JsonFilePersistence(path)
    await store.record_event(event(1, payload={"a": math.nan, "b": "caf\udce9", "c": 2**80}))
    await store.aclose()
    content = path.read_bytes()
    assert b"NaN" not in content.replace(b'"NaN"', b"")
    content.decode()


@pytest.mark.parametrize("time", ["NaN"])
async def test_r18_a_record_without_a_time_is_kept_by_age(path, line, time):
    path.write_bytes(legacy("{}", time) + line(1))
    store = JsonFilePersistence(path, RetentionPolicy(max_age_seconds=10.0))
    store.time_fn = lambda: 1_700_000_005.0
    assert len(await store.list_events()) == 2
    await store.compact()
    assert path.read_bytes() == legacy("{}", time) + line(1)
    await store.aclose()
