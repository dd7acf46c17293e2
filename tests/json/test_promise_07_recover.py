"""Promise 7: a recovery drops only what is invalid, keeps the rest byte for byte, and may be interrupted or
repeated.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence
from papyra_json._fileset.quarantine import link_aside, move_aside

MODES = [PersistenceRecoveryMode.REPAIR, PersistenceRecoveryMode.QUARANTINE]
DATA = Path(__file__).parent / "data"


def _damaged(line) -> tuple[bytes, bytes, bytes]:
    """Return a file, its valid lines and its invalid lines."""
    old = (DATA / "published.ndjson").read_bytes()
    crc = line(4).replace(b"Started", b"Stopped")
    pieces = [
        (old, True), (b"garbage\n", False), (line(1), True), (line(2), True), (b"\n\n", False),
        (line(3), True), (crc, False), (b"\0" * 1000 + b"\n", False), (line(5), True), (b'{"torn', False),
    ]  # fmt: skip
    return (
        b"".join(piece for piece, _ in pieces),
        b"".join(piece for piece, valid in pieces if valid),
        b"".join(piece for piece, valid in pieces if not valid),
    )


@pytest.mark.parametrize("mode", MODES)
async def test_promise_07_valid_lines_stay_byte_for_byte(path, line, tmp_path, event, mode):
    content, valid, invalid = _damaged(line)
    path.write_bytes(content)
    store = JsonFilePersistence(path)
    before = await store.scan()
    records = len(await store.list_events())
    report = await store.recover(PersistenceRecoveryConfig(mode, tmp_path / "aside"))
    assert report.scan == before
    assert report.repaired_files == (str(path),)
    assert path.read_bytes() == valid
    if mode is PersistenceRecoveryMode.QUARANTINE:
        (aside,) = report.quarantined_files
        (file,) = (tmp_path / "aside").iterdir()
        assert (aside, file.read_bytes()) == (str(file), invalid)
    else:
        assert report.quarantined_files == ()
        assert not (tmp_path / "aside").exists()
    assert not (await store.scan()).has_anomalies
    assert len(await store.list_events()) == records
    again = await store.recover(PersistenceRecoveryConfig(mode, tmp_path / "aside"))
    assert (again.scan.has_anomalies, again.repaired_files, again.quarantined_files) == (False, (), ())
    assert path.read_bytes() == valid
    await store.record_event(event(6))
    await store.aclose()
    assert path.read_bytes() == valid + line(6)
    assert store.metrics.recoveries == 2


async def test_promise_07_nothing_happens_unless_asked_for(path, line):
    content, _, _ = _damaged(line)
    path.write_bytes(content)
    store = JsonFilePersistence(path)
    for config in (None, PersistenceRecoveryConfig()):
        report = await store.recover(config)
        assert report.scan.has_anomalies
        assert (report.repaired_files, report.quarantined_files) == ((), ())
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", MODES)
async def test_promise_07_a_lost_record_is_reported_once(path, line, mode):
    path.write_bytes(line(1) + line(2) + line(5) + line(6))
    store = JsonFilePersistence(path)
    report = await store.recover(PersistenceRecoveryConfig(mode))
    assert [one.type for one in report.scan.anomalies] == ["sequence_gap"]
    assert path.read_bytes() == line(1) + line(2) + line(5) + line(6)
    assert not (await JsonFilePersistence(path).scan()).has_anomalies
    path.write_bytes(line(1) + line(2) + line(5) + line(6) + line(9))
    assert [one.type for one in (await store.scan()).anomalies] == ["sequence_gap"]


async def test_promise_07_a_record_without_newline_gets_it(path, line):
    path.write_bytes(line(1) + line(2)[:-1])
    store = JsonFilePersistence(path)
    await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE))
    assert path.read_bytes() == line(1) + line(2)
    assert not (await store.scan()).has_anomalies
    assert sorted(file.name for file in path.parent.iterdir()) == ["facts.ndjson", "facts.ndjson.lock"]


async def test_promise_07_one_byte_less_and_one_more_is_still_a_change(path, line):
    path.write_bytes(line(1) + b"\n" + line(2)[:-1])
    store = JsonFilePersistence(path)
    await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR))
    assert path.read_bytes() == line(1) + line(2)


@pytest.mark.parametrize("mode", MODES)
async def test_promise_07_a_file_without_any_record_becomes_empty(path, mode):
    path.write_bytes(b"nothing\nof value")
    store = JsonFilePersistence(path)
    await store.recover(PersistenceRecoveryConfig(mode))
    assert path.read_bytes() == b""
    assert not (await store.scan()).has_anomalies


@pytest.mark.parametrize("mode", MODES)
async def test_promise_07_every_file_of_a_set_is_recovered(path, line, mode):
    one, two, nine = (path.with_name(f"facts.ndjson.{number}") for number in (1, 2, 9))
    two.write_bytes(line(1) + b"x\n" + line(2)[:-1])
    one.write_bytes(line(3) + line(4))
    path.write_bytes(b"y\n" + line(5))
    nine.write_bytes(line(7))
    path.with_name("facts.ndjson.3").mkdir()
    path.with_name("facts.ndjson.4").symlink_to(one)
    store = RotatingFilePersistence(path)
    before = one.stat().st_ino
    report = await store.recover(PersistenceRecoveryConfig(mode))
    assert two.read_bytes() == line(1) + line(2)
    assert one.stat().st_ino == before
    assert path.read_bytes() == line(5)
    assert str(one) not in report.repaired_files
    # What does not belong to the set may hold records: it is moved aside, never dropped.
    assert not nine.exists()
    (kept,) = (Path(aside) for aside in report.quarantined_files if aside.endswith(".9"))
    assert kept.read_bytes() == line(7)
    assert not (await store.scan()).has_anomalies
    assert len(await store.list_events()) == 5


@pytest.mark.parametrize("call", ["recover", "compact"])
async def test_promise_07_a_quarantine_stays_only_for_files_that_were_changed(path, line, monkeypatch, call):
    older = path.with_name("facts.ndjson.1")
    older.write_bytes(line(1) + b"x\n" + line(2))
    path.write_bytes(line(3) + b"y\n" + line(4))
    store = RotatingFilePersistence(path)
    real = os.replace

    def refuse(source, target, **more):
        if Path(target) == path:
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(source, target, **more)

    arguments = [PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)] if call == "recover" else []
    monkeypatch.setattr(os, "replace", refuse)
    for _ in range(2):
        with pytest.raises(PersistenceError, match="it is a mount of its own"):
            await getattr(store, call)(*arguments)
    (kept,) = path.parent.glob("*quarantine*")
    assert (kept.name.startswith(older.name), kept.read_bytes()) == (True, b"x\n")
    assert older.read_bytes() == line(1) + line(2)
    assert path.read_bytes() == line(3) + b"y\n" + line(4)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ["fsync", "open", "write", "replace"])
@pytest.mark.parametrize("call", ["recover", "compact"])
async def test_promise_07_a_repair_that_fails_anywhere_leaves_no_byte_twice(
    path, line, monkeypatch, call, name, code
):
    older = path.with_name("facts.ndjson.1")
    arguments = [PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)] if call == "recover" else []
    real = getattr(os, name)
    left = failing = 0

    def fail(*given, **more):
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(code, os.strerror(code))
        return real(*given, **more)

    while left <= 0:
        failing += 1
        for file in path.parent.iterdir():
            file.unlink()
        older.write_bytes(line(1) + b"first\n" + line(2))
        path.write_bytes(line(3) + b"second\n" + line(4))
        store = RotatingFilePersistence(path)
        left = failing
        with monkeypatch.context() as patch, suppress(PersistenceError):
            patch.setattr(os, name, fail)
            await getattr(store, call)(*arguments)
        content = b"".join(file.read_bytes() for file in path.parent.glob("facts*[!k]"))
        assert (content.count(b"first\n"), content.count(b"second\n")) == (1, 1), f"{name} number {failing}"
        await store.aclose()
    assert failing > 2


@pytest.mark.parametrize("aside", [link_aside, move_aside])
def test_promise_07_a_file_put_aside_has_one_name_if_the_folder_cannot_be_synced(path, monkeypatch, aside):
    path.write_bytes(b"content")

    def fail(_fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        aside(path, path.parent)
    (file,) = (file for file in path.parent.rglob("*") if file.is_file())
    assert file.read_bytes() == b"content"


def test_promise_07_a_file_that_is_linked_aside_twice_has_two_names(path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda *_: "now")
    path.write_bytes(b"content")
    assert [link_aside(path), link_aside(path)] == [
        path.with_name(f"facts.ndjson.quarantine-now-{number}") for number in (1, 2)
    ]


def test_promise_07_a_file_that_cannot_be_moved_aside_stays(path, tmp_path, monkeypatch):
    path.write_bytes(b"content")
    real = os.rename

    def rename(source, target):
        if tmp_path / "aside" in Path(target).parents or refused:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, target)

    refused = True
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
        move_aside(path)
    assert [file.name for file in tmp_path.iterdir()] == ["facts.ndjson"]
    refused = False
    moved = move_aside(path, tmp_path / "aside")  # on another file system, so it is put beside the store
    assert (moved.parent.parent, moved.read_bytes(), path.exists()) == (tmp_path, b"content", False)


async def test_promise_07_quarantines_are_never_overwritten(path, line, tmp_path):
    store = JsonFilePersistence(path)
    config = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE, tmp_path / "aside")
    for number in range(5):
        path.write_bytes(line(1) + b"damage %d\n" % number)
        await store.recover(config)
    found = sorted(file.read_bytes() for file in (tmp_path / "aside").iterdir())
    assert found == [b"damage %d\n" % number for number in range(5)]


@pytest.mark.parametrize("mode", MODES)
async def test_promise_07_what_nothing_shows_to_be_ours_is_kept(tmp_path, mode):
    """A misspelt path must not cost anybody a file."""
    path = tmp_path / "notes.csv"
    path.write_bytes(b"name,note\nada,precious\n")
    report = await JsonFilePersistence(path).recover(PersistenceRecoveryConfig(mode))
    (aside,) = report.quarantined_files
    (kept,) = (file for file in tmp_path.iterdir() if str(file) == aside)
    assert kept.read_bytes() == b"name,note\nada,precious\n"
    again = await JsonFilePersistence(path).recover(PersistenceRecoveryConfig(mode))
    assert again.quarantined_files == ()
