"""The file: one JSON object a line, as the specification lays it out, whatever is recorded."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence.models import (
    PersistedAudit,
    PersistedDeadLetter,
    PersistedEvent,
    PersistenceAnomalyType,
)
from papyra_json import JsonFilePersistence, RotatingFilePersistence

DATA = Path(__file__).parent / "data"

EVENT = PersistedEvent("local", "local:1", "ActorStarted", {}, 1700000000.1)
LETTER = PersistedDeadLetter("local", "local:2", "str", "späť \u2028", 1700000000.2)
AUDIT = PersistedAudit("local", 1700000000.3, 5, 3, 1, 1, 2, ("a",), ("b", "c"), 7)
LETTER_IN_FULL = replace(LETTER, reason="stopped", target_name="orders", target_type="app.Orders")
AUDIT_IN_FULL = replace(AUDIT, mailbox_depth={"sum": 9, "greatest": 5, "whose": "local:2"})


async def test_lines_have_the_documented_keys_in_order(path):
    store = JsonFilePersistence(path)
    await store.record_batch([EVENT, LETTER])
    await store.record_audit(AUDIT)
    await store.aclose()
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    assert lines[0].startswith(
        b'{"kind":"event","system_id":"local","actor_address":"local:1","event_type":"ActorStarted",'
        b'"payload":{},"timestamp":1700000000.1,"seq":1,"crc":"'
    )
    for seq, line in enumerate(lines, 1):
        assert line.endswith(b"\n")
        found = json.loads(line)
        assert found["seq"] == seq
        assert list(found)[-2:] == ["seq", "crc"]
        body = line.partition(b',"crc"')[0]
        assert found["crc"] == f"{crc32(body):08x}"


async def test_what_was_written_by_the_specification_is_read(path, line, event):
    path.write_bytes(b"".join(line(number) for number in range(1, 51)))
    store = JsonFilePersistence(path)
    assert await store.list_events() == [event(number) for number in range(1, 51)]
    assert not (await store.scan()).has_anomalies
    await store.record_event(event(51))
    await store.aclose()
    assert path.read_bytes().endswith(line(50) + line(51))


async def test_files_of_the_published_package_are_read(tmp_path):
    for name, make in (("published", JsonFilePersistence), ("published-rotating", RotatingFilePersistence)):
        lines: list[bytes] = []
        for file in (*(f"{name}.ndjson.{number}" for number in (3, 2, 1)), f"{name}.ndjson"):
            if (DATA / file).exists():
                (tmp_path / file).write_bytes((DATA / file).read_bytes())
                lines += (DATA / file).read_bytes().splitlines()
        raw = [json.loads(line) for line in lines]
        store = make(tmp_path / f"{name}.ndjson")
        events, letters = await store.list_events(), await store.list_dead_letters()
        audits = await store.list_audits()
        assert len(raw) == len(events) + len(letters) + len(audits) == 105
        for kind, records in (("event", events), ("dead_letter", letters), ("audit", audits)):
            wanted = [
                {key: value for key, value in found.items() if key != "kind"}
                for found in raw
                if found["kind"] == kind
            ]
            assert [
                {name: json.loads(json.dumps(getattr(record, name))) for name in found}
                for record, found in zip(records, wanted, strict=True)
            ] == wanted
            assert {record.run for record in records} == {""}
        assert not (await store.scan()).has_anomalies
        await store.record_event(EVENT)
        assert (await store.list_events(limit=1)) == [EVENT]
        assert not (await store.scan()).has_anomalies
        await store.aclose()


async def test_r01_every_kind_of_line_carries_its_run_after_the_time(path):
    stored = [replace(one, run="0Run00000001") for one in (EVENT, LETTER_IN_FULL, AUDIT_IN_FULL)]
    store = JsonFilePersistence(path)
    await store.record_batch([*stored, EVENT])  # and one of an older version, in the same batch
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line.get("run") for line in lines] == ["0Run00000001"] * 3 + [None]
    assert list(lines[0])[-3:] == ["run", "seq", "crc"]
    assert lines[1]["target_type"] == "app.Orders"
    assert lines[2]["mailbox_depth"] == {"sum": 9, "greatest": 5, "whose": "local:2"}
    listed = [*await store.list_events(), *await store.list_dead_letters(), *await store.list_audits()]
    assert listed == [stored[0], EVENT, *stored[1:]]
    await store.aclose()


async def test_r02_a_payload_that_is_left_out_leaves_class_and_name(path, event):
    store = JsonFilePersistence(path)
    huge = {"type": "app.Orders", "name": "orders", "error": "x" * 2**20}
    await store.record_event(replace(EVENT, payload=huge, run="0Run00000001"))
    (found,) = await store.list_events()
    assert (found.payload["type"], found.payload["name"]) == ("app.Orders", "orders")
    assert "left out" in str(found.payload["note"])
    await store.aclose()


async def test_further_keys_and_spaces_are_accepted_and_unknown_kinds_reported(path, line):
    fields = json.loads(line(1))
    del fields["seq"], fields["crc"]
    path.write_text(
        json.dumps({**fields, "later": [1]}) + "\r\n" + json.dumps({**fields, "kind": "snapshot"}) + "\n"
        + json.dumps(fields) + "\n"
    )  # fmt: skip
    store = JsonFilePersistence(path)
    assert len(await store.list_events()) == 2
    (anomaly,) = (await store.scan()).anomalies
    assert (anomaly.type, anomaly.line) == (PersistenceAnomalyType.CORRUPT_LINE, 2)
    assert "'snapshot'" in anomaly.detail


AUDIT_LINE = (
    b'{"kind":"audit","system_id":"","timestamp":1,"total_actors":%b,"alive_actors":1,"stopping_actors":0,'
    b'"restarting_actors":0,"registry_size":0,"registry_orphans":%b,"registry_dead":[],"dead_letters_count":0}'
)


@pytest.mark.parametrize(
    "line",
    [
        b"[]", b"null", b"17", b"{}", b"", b"\0\0\0", b'{"kind":"event"}', b'{"kind":["event"]}',
        b'{"kind":"event","system_id":1,"actor_address":"","event_type":"","payload":{},"timestamp":1}',
        b'{"kind":"event","system_id":"","actor_address":"","event_type":"","payload":{},"timestamp":true}',
        b'{"kind":"dead_letter","system_id":"","target":"","message_type":"","timestamp":1}',
        AUDIT_LINE % (b"true", b"[]"), AUDIT_LINE % (b"1", b"[2]"), AUDIT_LINE % (b"1", b"{}"),
        b'{"kind":"event","system_id":"\xff","actor_address":"","event_type":"","payload":{},"timestamp":1}',
    ],
)  # fmt: skip
async def test_invalid_lines_are_reported_and_passed_over(path, line, event):
    store = JsonFilePersistence(path)
    await store.record_event(event(1))
    with path.open("ab") as file:
        file.write(line + b"\n")
    (anomaly,) = (await store.scan()).anomalies
    assert anomaly.type is PersistenceAnomalyType.CORRUPT_LINE
    assert await store.list_events() == [event(1)]
    await store.aclose()


@pytest.mark.parametrize(
    "payload",
    [
        {"text": "\ud800"}, {"\udfff": 1}, {"number": float("nan")}, {"number": float("inf")}, {"big": 2**70},
        {"odd": object()}, {1: 2}, {"bytes": b"x"}, {"set": {1}}, {"none": None}, {"deep": [[[[{"a": [None]}]]]]},
    ],
)  # fmt: skip
async def test_only_json_reaches_the_file(path, event, payload):
    store = JsonFilePersistence(path)
    await store.record_batch([event(1), event(2, payload=payload), event(3)])
    await store.record_event(event(4, system_id="\ud800", timestamp=float("nan")))
    await store.aclose()

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is in the file")

    for line in path.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=refuse)
    assert not (await JsonFilePersistence(path).scan()).has_anomalies


async def test_one_odd_value_does_not_hide_the_others(path, event):
    store = JsonFilePersistence(path)
    await store.record_event(event(1, payload={"fine": [1, None], "odd": {1, 2}}))
    (found,) = await store.list_events()
    assert found.payload == {"fine": [1, None], "odd": "{1, 2}"}
    await store.aclose()


async def test_a_record_beyond_one_mebibyte_gets_a_note_of_its_size(path, event):
    store = JsonFilePersistence(path)
    long = {"text": "x" * 2_000_000}
    await store.record_event(event(1, payload=long))
    await store.record_dead_letter(PersistedDeadLetter("local", "t" * 2_000_000, "str", "y" * 2**20, 1.0))
    depth = {"deepest": 7, "deepest_actor": "d" * 2**20}
    audit = PersistedAudit("local", 1.0, 1, 1, 1, 1, 1, ("\x01" * 999,) * 5000, (), 1, mailbox_depth=depth)
    await store.record_audit(audit)
    await store.record_event(event(2, payload={"text": "x" * (2**20 - 300)}))
    assert all(len(line) <= 2**20 for line in path.read_bytes().splitlines(keepends=True))
    found = await store.list_events()
    assert str(len(json.dumps(long, separators=(",", ":")))) in str(found[0].payload)
    assert found[1] == event(2, payload={"text": "x" * (2**20 - 300)})
    (kept,) = await store.list_audits()
    assert kept.mailbox_depth is not None
    assert (kept.mailbox_depth["deepest"], len(str(kept.mailbox_depth["deepest_actor"])) < 5000) == (7, True)
    assert kept.registry_orphans[-1] == "... (4000 more)"
    assert len(await store.list_dead_letters()) == 1
    assert not (await store.scan()).has_anomalies
    await store.aclose()


async def test_an_object_that_is_not_a_record_fails_alone(path, event):
    store = JsonFilePersistence(path)
    with pytest.raises(Exception, match="not 'no record'"):
        await store.record_batch([event(1), "no record"])
    await store.record_event(event(2))
    assert await store.list_events() == [event(2)]
    await store.aclose()


async def test_new_files_and_folders_are_the_owners_alone(tmp_path, event):
    old = os.umask(0)
    try:
        store = RotatingFilePersistence(tmp_path / "a" / "b" / "facts", max_bytes=300, max_files=3)
        for number in range(9):
            await store.record_event(event(number))
        (tmp_path / "a" / "b" / "facts").write_bytes(b"damage")
        await store.record_event(event(10))
        await store.compact()
        await store.aclose()
    finally:
        os.umask(old)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in (tmp_path / "a" / "b").iterdir()}
    assert len(modes) == 5, modes  # three files, the lock, a quarantine
    assert set(modes.values()) == {0o600}
    assert (
        stat.S_IMODE((tmp_path / "a").stat().st_mode)
        == stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode)
        == 0o700
    )


async def test_reading_what_is_not_there_makes_nothing(tmp_path):
    for make in (JsonFilePersistence, RotatingFilePersistence):
        store = make(tmp_path / "missing" / "facts.ndjson")
        assert await store.list_events() == []
        assert not (await store.scan()).has_anomalies
        assert (await store.compact()).before_records == 0
        assert not (await store.recover()).scan.has_anomalies
        await store.flush()
        await store.aclose()
    assert list(tmp_path.iterdir()) == []


async def test_a_repr_that_ends_the_thread_does_not(path, event):
    class Interrupts:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    store = JsonFilePersistence(path)
    with pytest.raises(PersistenceError, match="could not be encoded: KeyboardInterrupt"):
        await store.record_event(event(1, payload={"odd": Interrupts()}))
    await store.record_event(event(2))
    assert await store.list_events() == [event(2)]
    await store.aclose()
