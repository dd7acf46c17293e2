"""SQLite in an outage.

A batch is stored once, errors say whether they may pass, and a ping tells the truth.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import aclosing, closing
from typing import NamedTuple

import pytest

from papyra import ActorSystem
from papyra.exceptions import PersistenceError
from papyra.persistence.models import PersistedEvent, PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_contrib.sqlite import SQLitePersistence
from papyra_contrib.sqlite import _files as files
from papyra_contrib.sqlite._batch_ids import MAX_RUNS, note_batch


def events(*numbers: int) -> list[PersistedEvent]:
    return [PersistedEvent("local", "local:1", "Happened", {"n": n}, float(n)) for n in numbers]


async def test_r8_a_batch_whose_answer_was_lost_is_stored_once(tmp_path, monkeypatch):
    backend = SQLitePersistence(tmp_path / "a.db")
    real, lost = backend.blocking_record_batch, 2

    def lose_answers(work, records, batch_id):
        nonlocal lost
        written = real(work, records, batch_id)
        if lost:
            lost -= 1
            raise PersistenceError("the answer is lost", retry=True)
        return written

    monkeypatch.setattr(backend, "blocking_record_batch", lose_answers)
    async with ActorSystem(persistence=backend) as system:
        for _ in range(5):
            system.audit()
        await system.flush()
        assert len(await backend.list_audits()) == 5
        assert backend.metrics.write_errors == 2
        assert backend.metrics.records_dropped == 0


async def test_r8_a_compaction_and_a_recovery_keep_the_ids(tmp_path):
    path = tmp_path / "a.db"
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1, 2), batch_id="run:1")
        await backend.compact()
        await backend.record_batch(events(1, 2), batch_id="run:1")
        assert len(await backend.list_events()) == 2
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE facts SET crc = crc + 1 WHERE seq = 1")
        raw.commit()
    async with aclosing(SQLitePersistence(path)) as backend:
        report = await backend.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR))
        assert report.repaired_files
        await backend.record_batch(events(1, 2), batch_id="run:1")
        assert len(await backend.list_events()) == 1


def test_the_ids_of_old_runs_are_forgotten():
    with closing(sqlite3.connect(":memory:")) as raw:
        raw.execute("CREATE TABLE batches (number INTEGER PRIMARY KEY, run TEXT UNIQUE, batch TEXT)")
        for run in range(MAX_RUNS + 5):
            note_batch(raw, f"{run}:1")
            note_batch(raw, "busy:1")
        assert raw.execute("SELECT count(*) FROM batches").fetchone()[0] <= MAX_RUNS
        assert raw.execute("SELECT count(*) FROM batches WHERE run = 'busy'").fetchone() == (1,)


async def test_r11_a_ping_of_a_missing_database_makes_nothing(tmp_path):
    async with aclosing(SQLitePersistence(tmp_path / "folder" / "a.db")) as backend:
        await backend.open()
        await backend.ping()
        assert backend.healthy
    assert list(tmp_path.iterdir()) == []


async def test_r11_a_ping_leaves_nothing_in_the_database(tmp_path):
    path = tmp_path / "a.db"
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1))
        await backend.ping()
        assert backend.healthy
        assert not (await backend.scan()).has_anomalies
        assert len(await backend.list_events()) == 1
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM batches").fetchone() == (0,)


class _Disk(NamedTuple):
    f_flag: int
    f_bavail: int
    f_frsize: int


@pytest.mark.parametrize(
    ("disk", "words"),
    [(_Disk(os.ST_RDONLY, 10**6, 4096), "file system is read-only"), (_Disk(0, 3, 4096), "disk is full")],
)
@pytest.mark.parametrize("there", [True, False])
async def test_r24_a_read_only_or_full_disk_is_not_healthy(tmp_path, monkeypatch, disk, words, there):
    async with aclosing(SQLitePersistence(tmp_path / "a.db")) as backend:
        if there:
            await backend.record_batch(events(1))
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "statvfs", lambda _: disk)
            with pytest.raises(PersistenceError, match=words) as caught:
                await backend.ping()
            assert caught.value.retry
            assert not backend.healthy
        await backend.ping()
        assert backend.healthy


async def test_r24_a_folder_of_another_user_is_named(tmp_path, monkeypatch):
    real = os.access
    monkeypatch.setattr(files.os, "access", lambda path, mode: real(path, mode) and mode == os.R_OK)
    async with aclosing(SQLitePersistence(tmp_path / "a.db")) as backend:
        with pytest.raises(PersistenceError, match=r"may not write to .*\. Change its owner"):
            await backend.ping()


async def test_r8_which_errors_may_pass(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    async with aclosing(SQLitePersistence(path, busy_timeout=0)) as backend:
        await backend.record_batch(events(1))
        assert backend.healthy
        with closing(sqlite3.connect(path)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(PersistenceError, match="locked") as caught:
                await backend.record_batch(events(2))
            assert caught.value.retry is True
            assert not backend.healthy
        with pytest.raises(PersistenceError, match="wrong type") as caught:
            await backend.record_batch([PersistedEvent("local", "a:1", "T", {}, "soon")])  # type: ignore[arg-type]
        assert caught.value.retry is False
        await backend.record_batch(events(2))
        assert backend.healthy

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(type(backend._database), "exclusively", full)
            with pytest.raises(PersistenceError, match="No space left") as caught:
                await backend.record_batch(events(3))
        assert caught.value.retry is True
    path.write_bytes(b"no database at all" * 1000)
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError) as caught:
            await backend.record_batch(events(3))
        assert not caught.value.retry, "damage does not pass"
