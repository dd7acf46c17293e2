"""What other users, other programs and operators in a hurry do to a database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path

import anyio
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence.blocking import Work
from papyra.persistence.models import (
    PersistedEvent,
    PersistenceAnomalyType,
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
)
from papyra_contrib.sqlite import SQLitePersistence
from papyra_contrib.sqlite._lock import WriteLock

from ._facts import QUARANTINE, REPAIR, events

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store" / "papyra.db"


async def all_in(path) -> list[PersistedEvent]:
    async with aclosing(SQLitePersistence(path)) as backend:
        assert not (await backend.scan()).has_anomalies
        return await backend.list_events()


# -- root


def owner(file) -> tuple[int, int]:
    status = file.stat()
    return status.st_uid, status.st_gid


@only_root
async def test_a_store_that_root_makes_belongs_to_the_owner_of_the_folder(tmp_path):
    """It stayed root's, so the service could not write to it afterwards."""
    os.chown(tmp_path, 1234, 2345)
    path = tmp_path / "made" / "by root" / "papyra.db"
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1))
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == [f"papyra.db{s}" for s in ("", "-shm", "-wal", ".lock")]
        assert {owner(file) for file in (*files, *path.parents[:2])} == {(1234, 2345)}
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


@only_root
async def test_what_root_quarantines_belongs_to_the_owner_of_the_database(path, monkeypatch):
    def no_links(*_, **__) -> None:
        raise PermissionError(1, "Operation not permitted")  # as on a file system that has none

    path.parent.mkdir()
    os.chown(path.parent, 1234, 2345)
    path.write_bytes(b"no database" * 100)
    os.chown(path, 1234, 2345)
    monkeypatch.setattr(os, "link", no_links)
    async with aclosing(SQLitePersistence(path)) as backend:
        (kept,) = (await backend.recover(REPAIR)).quarantined_files
    assert (path.parent / kept).read_bytes() == b"no database" * 100
    assert owner(path.parent / kept) == owner(path) == (1234, 2345)


async def test_a_quarantine_that_has_no_room_stops_the_recovery(path, tmp_path, monkeypatch):
    """It was copied after the repair: the damaged file had lost its name, and half a copy stood in the
    quarantine.
    """

    def no_links(*_, **__) -> None:
        raise OSError(18, "Invalid cross-device link")

    def no_room(_, target) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(shutil, "copyfile", no_room)
    folder = tmp_path / "quarantine"
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError, match="No space"):
            await backend.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE, folder))
    assert path.read_bytes() == b"no database" * 100
    assert not list(folder.iterdir())
    assert {file.name for file in path.parent.iterdir()} == {"papyra.db", "papyra.db.lock"}


# -- a user who may not write

AS_ANOTHER_USER = """
import os, sys, anyio
from contextlib import aclosing
import papyra_contrib.sqlite
from papyra.exceptions import PersistenceError
from papyra.persistence.models import *
from papyra_contrib.sqlite import SQLitePersistence

async def read(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        found = [one.payload["n"] for one in await backend.list_events()]
        assert found == [1, 2], found
        assert not (await backend.scan()).has_anomalies
        assert [one async for one in backend.stream()]
        assert (await backend.compact(dry_run=True)).before_records == 2
        async with aclosing(backend.follow(limit=1)) as records:
            assert (await anext(records)).payload["n"] == 2
        for call in (lambda: backend.record_batch([found_before]), backend.compact):
            try:
                await call()
            except PersistenceError as error:
                print(error)
            else:
                raise AssertionError("it could be written")

found_before = PersistedEvent("local", "local:1", "Happened", {}, 1.0)
anyio.run(anyio.sleep, 0)  # loads the event loop, which another user perhaps may not
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
anyio.run(read, sys.argv[1])
"""


@pytest.fixture
def open_folder():
    """A folder that others may enter; not in tmp_path, because each run of pytest closes the folder of all
    runs to them.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("open_elsewhere", [False, True])
async def test_a_store_in_a_folder_that_may_not_be_written_can_be_read(open_folder, open_elsewhere):
    """SQLite could not make its index there, so nothing could be read."""
    path = open_folder / "store" / "papyra.db"
    writer = SQLitePersistence(path)
    try:
        await writer.record_batch(events(1, 2))
        if not open_elsewhere:
            await writer.aclose()
        for file in path.parent.iterdir():
            file.chmod(0o444)
        path.parent.chmod(0o555)
        # Not by anyio.run_process: uvloop forks for it, and a store closes its database around a fork.
        command = [sys.executable, "-c", AS_ANOTHER_USER, str(path)]
        refusals = await anyio.to_thread.run_sync(partial(subprocess.run, command, stdout=-1, check=True))
        assert len(refusals.stdout.splitlines()) == 2
        assert {file.name for file in path.parent.iterdir()} == {
            "papyra.db",
            "papyra.db.lock",
            *(["papyra.db-shm", "papyra.db-wal"] if open_elsewhere else []),
        }
    finally:
        path.parent.chmod(0o755)
        await writer.aclose()


# -- files that vanish


async def test_a_lock_file_that_was_removed_locks_nobody_apart(path):
    """One process went on with the removed file, another with a new one: both had the lock."""
    path.parent.mkdir()
    one, other = WriteLock(path), WriteLock(path)
    with one.hold(Work(), 0):
        pass
    path.with_name("papyra.db.lock").unlink()
    with other.hold(Work(), 0), pytest.raises(PersistenceError, match="locked"), one.hold(Work(), 0):
        pass
    with one.hold(Work(), 0), pytest.raises(PersistenceError, match="locked"), other.hold(Work(), 0):
        pass
    one.close()
    other.close()


async def test_a_database_moved_without_its_log_loses_nothing(path):
    """What stood only in the log was dropped with it, when SQLite opened the new database."""
    moved = path.with_name("papyra.db.1")
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1, 2, 3))
        path.rename(moved)
        await backend.record_batch(events(4, 5))
        assert await backend.list_events() == events(4, 5)
    assert await all_in(moved) == events(1, 2, 3)
    assert await all_in(path) == events(4, 5)


async def test_a_database_moved_with_its_log_loses_nothing(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1, 2, 3))
        for suffix in ("", "-wal", "-shm"):
            path.with_name(f"papyra.db{suffix}").rename(path.with_name(f"moved.db{suffix}"))
        await backend.record_batch(events(4, 5))
        assert await backend.list_events() == events(4, 5)
    assert await all_in(path.with_name("moved.db")) == events(1, 2, 3)
    assert await all_in(path) == events(4, 5)


@pytest.mark.parametrize("found_by", ["record", "recover"])
async def test_a_log_without_its_database_is_kept(path, found_by):
    """SQLite drops it when it makes a new database, with all records since its last checkpoint."""
    copy = path.with_name("copy")
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1, 2, 3))
        shutil.copytree(path.parent, copy)
    path = copy / "papyra.db"
    log = path.with_name("papyra.db-wal")
    content = log.read_bytes()
    path.rename(copy / "moved.db")
    async with aclosing(SQLitePersistence(path)) as backend:
        (anomaly,) = (await backend.scan()).anomalies
        assert (anomaly.type, anomaly.path) == (PersistenceAnomalyType.UNEXPECTED_FILE, str(log))
        if found_by == "recover":
            dry = await backend.recover(QUARANTINE, dry_run=True)
            assert log.read_bytes() == content
            assert await backend.recover(QUARANTINE) == dry
            assert dry.repaired_files == ()
            assert dry.quarantined_files == (f"{log}.quarantine-1",)
        await backend.record_batch(events(4))
        assert not (await backend.scan()).has_anomalies
    kept = copy / "papyra.db-wal.quarantine-1"
    assert kept.read_bytes() == content
    kept.rename(copy / "moved.db-wal")
    assert await all_in(copy / "moved.db") == events(1, 2, 3)
    assert await all_in(path) == events(4)


async def test_closing_makes_no_folder_anew(path):
    backend = SQLitePersistence(path)
    await backend.record_batch(events(1))
    shutil.rmtree(path.parent)
    await backend.aclose()
    assert not path.parent.exists()


# -- trouble that passes


async def test_a_recovered_store_is_healthy_again(path):
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError):
            await backend.record_batch(events(1))
        assert not backend.healthy
        await backend.recover(REPAIR)
        await backend.record_batch(events(2))
        assert backend.healthy


async def test_a_write_waits_for_one_who_has_the_whole_database(path, monkeypatch):
    """As a process does that reads the log of one that died; the first write gave up at once."""
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1))
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with closing(holder):
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN IMMEDIATE")
        holder.execute("UPDATE facts SET crc = crc")
        holder.execute("COMMIT")
        checks = []

        def check(work: Work) -> None:
            checks.append(work)
            if len(checks) == 4:
                holder.close()

        monkeypatch.setattr(Work, "check", check)
        async with aclosing(SQLitePersistence(path)) as backend:
            with anyio.fail_after(20):
                await backend.record_batch(events(2))
            assert len(checks) >= 4
    assert await all_in(path) == events(1, 2)


async def test_a_time_beyond_every_float_is_refused(path):
    late = PersistedEvent("local", "local:1", "Happened", {}, 10**400)
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError, match="wrong type"):
            await backend.record_event(late)
