"""What is noted about numbers lasts as long as a record can show it, whatever fails or is killed."""

from __future__ import annotations

import errno
import os

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence, _rewrite

pytestmark = pytest.mark.anyio

REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)


async def _with_a_known_gap(path, line) -> JsonFilePersistence:
    """Make a store of ten records whose sixth was damaged and dropped."""
    path.write_bytes(b"".join(line(number) for number in range(1, 11)).replace(b"local:6", b"local:X"))
    store = JsonFilePersistence(path, RetentionPolicy(max_records=2))
    await store.recover(REPAIR)
    assert not (await store.scan()).has_anomalies
    return store


async def test_a_compaction_that_fails_forgets_no_gap(path, line, monkeypatch):
    store = await _with_a_known_gap(path, line)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(_rewrite, "replace", full)
        with pytest.raises(PersistenceError, match="No space left"):
            await store.compact()
    assert not (await store.scan()).has_anomalies
    await store.compact()
    assert path.read_bytes() == line(9) + line(10)
    assert not (await store.scan()).has_anomalies


async def test_a_compaction_that_can_not_forget_has_succeeded(path, line, monkeypatch):
    store = await _with_a_known_gap(path, line)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("papyra_json._lock.SetLock.write_notes", full)
    assert (await store.compact()).after_records == 2
    assert not (await store.scan()).has_anomalies


@pytest.mark.parametrize(
    "seqs", [(1, 2, 3, 4, 2, 3, 4, 5), (5, 6, 7, 8, 7, 9), (4, 4, 4, 5), (8, 7, 6, 5), (9, 2, 1, 8)]
)
async def test_numbers_that_fall_are_reported_once(path, line, seqs):
    """A block that stands there twice, as after a merge of copies."""
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
    assert b"[5,7]" not in path.with_name("facts.ndjson.lock").read_bytes()


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
