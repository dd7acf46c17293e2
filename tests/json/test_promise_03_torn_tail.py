"""Promise 3: a torn tail is repaired before the next append, and an append never fuses two records."""

from __future__ import annotations

import errno
import os

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence.models import PersistenceAnomalyType
from papyra_json import JsonFilePersistence, RotatingFilePersistence

from .._loops import one_loop


def _quarantined(path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}.quarantine-*"))]


@one_loop
async def test_promise_03_cut_at_every_byte(tmp_path, line, event):
    whole = line(1) + line(2)
    for cut in range(len(whole) + 1):
        path = tmp_path / f"{cut}" / "facts"
        path.parent.mkdir()
        path.write_bytes(whole[:cut])
        kept = 2 if cut >= len(whole) - 1 else 1 if cut >= len(line(1)) - 1 else 0
        ends = {0, len(line(1)), len(whole)}
        store = JsonFilePersistence(path)
        assert [one.payload["number"] for one in await store.list_events()] == list(range(1, kept + 1))
        anomalies = (await store.scan()).anomalies
        assert [one.type for one in anomalies] == ([] if cut in ends else [PersistenceAnomalyType.TORN_TAIL])
        assert path.read_bytes() == whole[:cut]  # neither wrote
        await store.record_event(event(kept + 1))
        await store.aclose()
        assert path.read_bytes() == b"".join(line(number) for number in range(1, kept + 2))
        assert not (await JsonFilePersistence(path).scan()).has_anomalies
        lost = whole[len(line(1)) * min(kept, 1) : cut] if kept < 2 else b""
        if cut in (len(line(1)) - 1, len(line(1))):
            lost = b""
        assert _quarantined(path) == ([lost] if lost else [])


@pytest.mark.parametrize(
    "tail",
    [
        b"\0" * 5000, b"garbage", b"garbage\n", b"one\ntwo\nthree", b"\n\n", b'{"kind":"event"}', b"\xff\xfe\n\0",
        b'{"kind":"event","system_id":"a\n', b"x" * 700_000, b"\r\n",
    ],
)  # fmt: skip
async def test_promise_03_what_follows_the_last_valid_record_goes_to_the_quarantine(path, line, event, tail):
    path.write_bytes(line(1) + line(2) + tail)
    store = JsonFilePersistence(path)
    await store.record_event(event(3))
    await store.aclose()
    assert path.read_bytes() == line(1) + line(2) + line(3)
    assert _quarantined(path) == [tail]


async def test_promise_03_a_whole_record_without_its_newline_is_kept(path, line, event):
    path.write_bytes(line(1) + line(2)[:-1])
    store = JsonFilePersistence(path)
    assert await store.list_events() == [event(1), event(2)]
    await store.record_event(event(3))
    await store.aclose()
    assert path.read_bytes() == line(1) + line(2) + line(3)
    assert _quarantined(path) == []


async def test_promise_03_an_older_line_without_newline_or_crc_is_kept_too(path, event):
    plain = (
        b'{"system_id": "local", "actor_address": "local:1", "event_type": "ActorStarted", '
        b'"payload": {"number": 1}, "timestamp": 1700000001.0, "kind": "event"}'
    )
    path.write_bytes(plain)
    store = JsonFilePersistence(path)
    await store.record_event(event(2))
    assert await store.list_events() == [event(1), event(2)]
    assert path.read_bytes().startswith(plain + b"\n")
    await store.aclose()


async def test_promise_03_a_damaged_last_record_does_not_count(path, line, event):
    damaged = line(2).replace(b"Started", b"Stopped")
    path.write_bytes(line(1) + damaged[:-1])
    store = JsonFilePersistence(path)
    await store.record_event(event(2))
    await store.aclose()
    assert path.read_bytes() == line(1) + line(2)
    assert _quarantined(path) == [damaged[:-1]]


async def test_promise_03_quarantine_files_are_never_overwritten(path, line, event):
    for number in range(1, 6):
        with path.open("ab") as file:
            file.write(b"torn %d" % number)
        store = JsonFilePersistence(path)
        await store.record_event(event(number))
        await store.aclose()
    assert sorted(_quarantined(path)) == [b"torn %d" % number for number in range(1, 6)]
    assert path.read_bytes() == b"".join(line(number) for number in range(1, 6))


async def test_promise_03_a_tail_that_cannot_be_cut_off_is_not_copied_at_each_try(
    path, line, event, monkeypatch
):
    """A file that may only grow, for example."""
    path.write_bytes(line(1) + b"torn")
    store = JsonFilePersistence(path)

    def refuse(_fd, _size):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        for _ in range(2):
            with pytest.raises(PersistenceError):
                await store.record_event(event(2))
    assert (_quarantined(path), path.read_bytes()) == ([], line(1) + b"torn")
    await store.record_event(event(2))
    assert _quarantined(path) == [b"torn"]
    await store.aclose()


async def test_promise_03_a_store_that_is_open_repairs_what_another_tore(path, line, event):
    store = JsonFilePersistence(path)
    await store.record_event(event(1))
    with path.open("ab") as file:
        file.write(line(2)[:40])
    await store.record_event(event(2))
    await store.aclose()
    assert path.read_bytes() == line(1) + line(2)


async def test_promise_03_numbers_go_on_after_lines_without_one(path, line, event):
    plain = line(3).replace(b',"seq":3', b"").partition(b',"crc"')[0] + b"}\n"
    path.write_bytes(line(1) + line(2) + plain * 5000)
    store = JsonFilePersistence(path)
    await store.record_event(event(3))
    await store.aclose()
    assert path.read_bytes() == line(1) + line(2) + plain * 5000 + line(3)
    assert not (await JsonFilePersistence(path).scan()).has_anomalies


async def test_promise_03_numbers_go_on_across_files(path, line, event):
    path.with_name("facts.ndjson.2").write_bytes(line(1) + line(2))
    path.with_name("facts.ndjson.1").write_bytes(b"")
    path.write_bytes(b'{"torn')
    store = RotatingFilePersistence(path)
    await store.record_event(event(3))
    assert await store.list_events() == [event(1), event(2), event(3)]
    assert not (await store.scan()).has_anomalies
    await store.aclose()
    assert path.read_bytes() == line(3)
