"""The notes about numbers last as long as a record can show it, whatever fails or is killed."""

from __future__ import annotations

import errno
import os

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence
from papyra_json._fileset.lock import SetLock
from papyra_json._fileset.notes import Notes
from papyra_json._fileset.time_index import TABLE_BYTES
from papyra_json._maintenance import rewrite as _rewrite

REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)


async def _with_a_known_gap(path, line) -> JsonFilePersistence:
    """Make a store of ten records whose sixth was damaged and dropped."""
    path.write_bytes(b"".join(line(number) for number in range(1, 11)).replace(b"local:6", b"local:X"))
    store = JsonFilePersistence(path, RetentionPolicy(max_records=2))
    await store.recover(REPAIR)
    assert not (await store.scan()).has_anomalies
    return store


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_compaction_that_fails_forgets_no_gap(path, line, monkeypatch):
    store = await _with_a_known_gap(path, line)

    with monkeypatch.context() as patched:
        patched.setattr(_rewrite, "replace", full)
        with pytest.raises(PersistenceError, match="No space left"):
            await store.compact()
    assert not (await store.scan()).has_anomalies
    await store.compact()
    assert path.read_bytes() == line(9) + line(10)
    assert not (await store.scan()).has_anomalies


async def test_a_compaction_that_cannot_forget_has_succeeded(path, line, monkeypatch):
    store = await _with_a_known_gap(path, line)

    monkeypatch.setattr("papyra_json._fileset.lock.SetLock.write_notes", full)
    assert (await store.compact()).after_records == 2
    assert not (await store.scan()).has_anomalies


@pytest.mark.parametrize(
    "seqs", [(1, 2, 3, 4, 2, 3, 4, 5), (5, 6, 7, 8, 7, 9), (4, 4, 4, 5), (8, 7, 6, 5), (9, 2, 1, 8)]
)
async def test_numbers_that_fall_are_reported_once(path, line, seqs):
    """A block that is there twice, as after a merge of copies."""
    path.write_bytes(b"".join(line(number, seq) for number, seq in enumerate(seqs)))
    store = JsonFilePersistence(path, RetentionPolicy(max_records=len(seqs)))
    assert (await store.recover(REPAIR)).scan.has_anomalies
    assert not (await store.scan()).has_anomalies
    await store.recover(REPAIR)
    await store.compact()
    assert not (await store.scan()).has_anomalies
    assert len(await store.list_events()) == len(seqs)


async def test_notes_of_what_is_gone_are_dropped(path, line):
    store = await _with_a_known_gap(path, line)
    await store.compact()
    lock = SetLock(path)
    with lock.shared():
        assert lock.read_notes().gaps == []


async def test_a_failed_sync_forgets_no_gap_of_the_older_files(path, line, event, monkeypatch):
    path.with_name("facts.ndjson.1").write_bytes(line(1) + line(2) + line(5) + line(6))
    path.write_bytes(line(7))
    store = RotatingFilePersistence(path, durability="always")
    await store.recover(REPAIR)
    assert not (await store.scan()).has_anomalies
    real, failed = os.fsync, []

    def fail_once(fd: int) -> None:
        if os.fstat(fd).st_ino == path.stat().st_ino and not failed:
            failed.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fsync", fail_once)
    await store.record_event(event(8))
    assert not store.healthy
    assert not (await store.scan()).has_anomalies
    await store.aclose()


class _Interrupted(BaseException):
    """The process is killed here."""


@pytest.mark.parametrize("error", [_Interrupted(), OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize("rounds", range(1, 6))
def test_notes_survive_a_write_that_is_interrupted_anywhere(path, monkeypatch, error, rounds):
    """After every system call and every byte the old notes or the new ones are there."""
    lock_file = path.with_name("facts.ndjson.lock")
    lock = SetLock(path)
    with lock.exclusive():
        for number in range(rounds):
            lock.write_notes(Notes(100 + number, [(5, 7), (10, 10 ** (number % 3 * 3 + 2))]))
        old, content = _notes_of(lock), lock_file.read_bytes()
        new = Notes(200, [(5, 7), (20, 30), (40, 50)])
        for calls in range(200):
            left = [calls]

            def step(real, *arguments, left=left):
                if left[0] == 0:
                    raise error
                left[0] -= 1
                return real(*arguments)

            with monkeypatch.context() as patched:
                real_write, real_cut, real_sync = os.write, os.ftruncate, os.fsync
                patched.setattr(os, "write", lambda fd, data, real=real_write: step(real, fd, data[:1]))
                patched.setattr(os, "ftruncate", lambda fd, end, real=real_cut: step(real, fd, end))
                patched.setattr(os, "fsync", lambda fd, real=real_sync: step(real, fd))
                try:
                    lock.write_notes(new)
                except (_Interrupted, OSError):
                    assert _notes_of(lock) in (old, (new.last_seq, new.gaps))
                else:
                    break
            again = Notes(*old)
            lock.write_notes(again)  # what was left does no harm to the next
            assert _notes_of(lock) == old
            lock_file.write_bytes(content)
        else:
            raise AssertionError("never written")
        assert _notes_of(lock) == (new.last_seq, new.gaps)
    lock.close()


def _notes_of(lock) -> tuple[int, list[tuple[int, int]]]:
    notes = lock.read_notes()
    return notes.last_seq, notes.gaps


def test_notes_do_not_grow_with_how_often_they_are_written(path):
    lock = SetLock(path)
    with lock.exclusive():
        for number in range(200):
            lock.write_notes(Notes(number, [(one, one + 2) for one in range(number % 7)]))
        assert lock.path.stat().st_size < TABLE_BYTES + 500
    lock.close()


async def test_notes_as_they_were_written_before_are_read(path, line):
    path.write_bytes(line(1) + line(9))
    path.with_name("facts.ndjson.lock").write_bytes(b'{"last_seq":20,"gaps":[[1,9]]}\n')
    store = JsonFilePersistence(path)
    assert not (await store.scan()).has_anomalies
    path.with_name("facts.ndjson.lock").write_bytes(b'["nonsense"]\n3\n\xff\n{"gaps":1}')
    assert (await store.scan()).has_anomalies
    await store.recover(REPAIR)
    assert not (await store.scan()).has_anomalies


async def test_notes_where_the_table_is_now_make_room_for_it(path, line, event):
    path.write_bytes(line(1) + line(9))
    lock_file = path.with_name("facts.ndjson.lock")
    lock_file.write_bytes(b'\n{"last_seq":20,"gaps":[[1,9],[9,21]]}\n')
    store = JsonFilePersistence(path)
    await store.record_batch([event(number) for number in range(2000)])
    await store.aclose()
    assert b'"last_seq":20' in lock_file.read_bytes()[TABLE_BYTES:]
    lock = SetLock(path)
    with lock.shared():
        assert _notes_of(lock) == (20, [(1, 9), (9, 21)])
    lock.close()
    assert not (await JsonFilePersistence(path).scan()).has_anomalies


@pytest.mark.parametrize("seq", [2**63, 2**64 - 1, 2**64, 10**30, -1, -(2**63)])
@pytest.mark.parametrize("summed", [False, True])
async def test_a_number_that_nobody_gave_out_does_not_break_numbering(path, line, event, seq, summed):
    bad = line(3, seq) if summed else line(3, seq).partition(b',"crc"')[0] + b"}\n"
    path.write_bytes(line(1) + line(2) + bad)
    store = JsonFilePersistence(path)
    await store.record_batch(
        [event(number, payload={"text": text}) for number, text in ((3, "x"), (4, "\ud800"))]
    )
    await store.record_event(event(5))
    await store.aclose()
    content = path.read_bytes().splitlines()
    assert [b'"seq":%d,' % number in one for number, one in zip((3, 4, 5), content[3:], strict=True)] == [
        True
    ] * 3
    assert not (await JsonFilePersistence(path).scan()).has_anomalies
    assert len(await JsonFilePersistence(path).list_events()) == 6


async def test_the_highest_number_of_all_stops_nobody(path, line, event):
    path.write_bytes(line(1, 2**63 - 1).partition(b',"crc"')[0] + b"}\n")
    for number in range(3):
        store = JsonFilePersistence(path)
        await store.record_batch([event(number), event(number, payload={"text": "\ud800"})])
        await store.aclose()
    assert len(await JsonFilePersistence(path).list_events()) == 7
