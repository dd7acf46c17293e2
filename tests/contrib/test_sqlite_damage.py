"""Damaged databases are reported, and repaired without losing what can be read."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import aclosing, closing
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
from papyra_contrib.sqlite._files import beside, keep_aside
from papyra_contrib.sqlite._lock import WriteLock

from .._loops import one_loop
from ._facts import QUARANTINE, REPAIR, padded

pytestmark = one_loop

PAGE = 4096


@pytest.fixture
async def path(tmp_path):
    """A database of 2,000 events, closed properly."""
    path = tmp_path / "papyra.db"
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(padded(2000))
    assert not path.with_name("papyra.db-wal").exists()
    return path


def overwrite(path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def table_leaves(path) -> list[int]:
    """Return the pages that hold rows of the table, from 1."""
    content = path.read_bytes()
    return [
        number // PAGE + 1
        for number in range(PAGE, len(content), PAGE)
        if content[number] == 0x0D and b'{"n":' in content[number : number + PAGE]
    ]


async def scan_types(path) -> set[PersistenceAnomalyType]:
    async with aclosing(SQLitePersistence(path)) as backend:
        before = path.read_bytes()
        report = await backend.scan()
        assert path.read_bytes() == before
        assert backend.metrics.anomalies_detected == len(report.anomalies)
        assert all(anomaly.path == str(path) and anomaly.detail for anomaly in report.anomalies)
        return {anomaly.type for anomaly in report.anomalies}


async def recovered(path, config) -> tuple[list[PersistedEvent], tuple[str, ...]]:
    """Recover, check that it healed the store for good, and return what is left and the quarantined files."""
    async with aclosing(SQLitePersistence(path)) as backend:
        report = await backend.recover(config)
        assert report.repaired_files == (str(path),)
        assert report.scan.has_anomalies
        assert not (await backend.scan()).has_anomalies
        left = list(await backend.list_events())
        again = await backend.recover(config)
        assert (again.repaired_files, again.quarantined_files) == ((), ())
        added = padded(1, first=9999)
        await backend.record_batch(added)
        assert list(await backend.list_events()) == left + added
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert not list(path.parent.glob("*.recovering*")) + list(path.parent.glob("*.recovered"))
    return left, report.quarantined_files


async def test_a_changed_row_is_found_by_its_check_sum_and_dropped(path):
    content = path.read_bytes()
    at = content.index(b'{"n":1000,') + len(b'{"n":1000,"pad":"')
    overwrite(path, at, b"y")
    assert await scan_types(path) == {PersistenceAnomalyType.CRC_MISMATCH}
    async with aclosing(SQLitePersistence(path)) as backend:  # reads show no row that is not what was written
        assert len(await backend.list_events()) == 1999
    left, quarantined = await recovered(path, REPAIR)
    assert left == [event for event in padded(2000) if event.payload["n"] != 1000]
    assert quarantined == ()


async def test_a_damaged_row_does_not_count_for_a_limit(path):
    """Of three records asked for, two came."""
    overwrite(path, path.read_bytes().index(b'{"n":1998,') + len(b'{"n":1998,"pad":"'), b"y")
    async with aclosing(SQLitePersistence(path)) as backend:
        found = await backend.list_events(limit=3)
    assert [event.payload["n"] for event in found] == [1996, 1997, 1999]


async def test_text_that_is_not_utf8_does_not_break_reading(path):
    at = path.read_bytes().index(b'{"n":7,') + len(b'{"n":7,"pad":"')
    overwrite(path, at, b"\xff\xfe")
    assert await scan_types(path) == {PersistenceAnomalyType.CRC_MISMATCH}
    left, _ = await recovered(path, REPAIR)
    assert len(left) == 1999


@pytest.mark.parametrize("garbage", [bytes(PAGE), b"\xa5" * PAGE], ids=["zeros", "garbage"])
async def test_rows_around_a_lost_page_are_saved(path, garbage):
    leaves = table_leaves(path)
    lost = leaves[len(leaves) // 2]
    overwrite(path, (lost - 1) * PAGE, garbage)
    assert PersistenceAnomalyType.INTEGRITY in await scan_types(path)
    left, quarantined = await recovered(path, QUARANTINE)
    assert 1900 < len(left) < 2000
    numbers = [event.payload["n"] for event in left]
    missing = sorted(set(range(2000)) - set(numbers))
    assert numbers == sorted(numbers)
    assert missing == list(range(missing[0], missing[-1] + 1))
    (name,) = quarantined
    assert garbage in (path.parent / name).read_bytes()


async def test_a_lost_first_and_last_leaf_cost_only_their_rows(path):
    leaves = table_leaves(path)
    for lost in (leaves[0], leaves[-1]):
        overwrite(path, (lost - 1) * PAGE, bytes(PAGE))
    left, _ = await recovered(path, REPAIR)
    assert 1900 < len(left) < 2000


async def test_a_damaged_index_costs_no_row(path):
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name='facts_by_type'"
        ).fetchone()
    overwrite(path, (root - 1) * PAGE, bytes(PAGE))
    assert await scan_types(path) == {PersistenceAnomalyType.INTEGRITY}
    left, _ = await recovered(path, REPAIR)
    assert left == padded(2000)


async def test_an_index_that_lacks_a_row_is_reported_and_made_anew(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        schema = "SELECT * FROM sqlite_schema WHERE name='facts_by_type'"
        index = connection.execute(schema).fetchone()
        connection.execute("DELETE FROM sqlite_schema WHERE name='facts_by_type'")
        connection.commit()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM facts WHERE seq = 7")  # the index keeps its entry
        connection.execute("INSERT INTO sqlite_schema VALUES (?,?,?,?,?)", index)
        connection.commit()
    assert await scan_types(path) == {PersistenceAnomalyType.INTEGRITY}
    left, _ = await recovered(path, REPAIR)
    assert left == [each for each in padded(2000) if each.payload["n"] != 6]


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("DROP VIEW store; CREATE VIEW store AS SELECT 7 AS identity", "the database has no identity"),
        ("DELETE FROM sqlite_sequence", "the database does not know the last number it gave"),
    ],
)
async def test_a_database_without_a_note_about_itself_is_repaired(path, lost, words):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(lost)
    async with aclosing(SQLitePersistence(path)) as backend:
        (anomaly,) = (await backend.scan()).anomalies
    assert words in anomaly.detail
    left, _ = await recovered(path, REPAIR)
    assert left == padded(2000)


@pytest.mark.parametrize("raced", ["", "-wal"])
async def test_a_quarantine_takes_another_name_where_another_process_was_faster(
    path, tmp_path, monkeypatch, raced
):
    real_link, strangers = os.link, list[Path]()

    def link(source, target, **options):
        if not strangers and str(target).endswith(raced) and str(source).endswith(raced or ".db"):
            strangers.append(Path(target))
            strangers[0].write_bytes(b"of another process")
        real_link(source, target, **options)

    path.with_name("papyra.db-wal").write_bytes(b"the log")
    monkeypatch.setattr(os, "link", link)
    folder = tmp_path / "quarantine"
    kept = keep_aside(path, folder)
    assert strangers[0].read_bytes() == b"of another process"
    assert kept.read_bytes() == path.read_bytes()
    assert beside(kept, "-wal").read_bytes() == b"the log"
    assert set(folder.iterdir()) == {strangers[0], kept, beside(kept, "-wal")}


async def test_a_quarantine_without_its_log_is_not_kept(path, tmp_path, monkeypatch):
    real_link = os.link

    def link(source, target, **options):
        if str(source).endswith("-wal"):
            raise OSError(errno.EIO, "Input/output error")
        real_link(source, target, **options)

    path.with_name("papyra.db-wal").write_bytes(b"the log")
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OSError, match="Input/output error"):
        keep_aside(path, tmp_path / "quarantine")
    assert not list((tmp_path / "quarantine").iterdir())


async def test_a_row_whose_time_is_a_text_is_reported_and_not_shown(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE facts SET timestamp = 'soon' WHERE seq = 1")
        connection.commit()
    assert await scan_types(path) == {PersistenceAnomalyType.CRC_MISMATCH}
    async with aclosing(SQLitePersistence(path)) as backend:
        assert len(await backend.list_events()) == 1999


async def test_a_file_cut_short_is_an_anomaly_and_what_is_left_is_saved(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size * 3 // 4 + 100)
    assert await scan_types(path) == {PersistenceAnomalyType.INTEGRITY}
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError, match="papyra persistence recover"):
            await backend.record_batch(padded(1))
        assert not backend.healthy
        assert backend.metrics.write_errors == 1
    left, _ = await recovered(path, QUARANTINE)
    assert 500 < len(left) < 2000


@pytest.mark.parametrize("mode", [PersistenceRecoveryMode.REPAIR, PersistenceRecoveryMode.QUARANTINE])
async def test_a_file_that_is_not_a_database_is_an_anomaly_and_never_dropped(tmp_path, mode):
    path = tmp_path / "papyra.db"
    path.write_bytes(b"My only copy of a poem\n" * 100)
    path.chmod(0o600)
    assert await scan_types(path) == {PersistenceAnomalyType.UNREADABLE_FILE}
    left, quarantined = await recovered(path, PersistenceRecoveryConfig(mode))
    assert left == []
    (name,) = quarantined
    assert (tmp_path / name).read_bytes() == b"My only copy of a poem\n" * 100


async def test_quarantines_are_never_overwritten(path, tmp_path):
    folder = tmp_path / "new" / "quarantine"
    config = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE, folder)
    kept = []
    for round_ in range(3):
        damage = f"not a database, time {round_}".encode() * 50
        path.write_bytes(damage)
        async with aclosing(SQLitePersistence(path)) as backend:
            report = await backend.recover(config)
        kept += report.quarantined_files
        assert (folder / report.quarantined_files[0]).read_bytes() == damage
    assert len(set(kept)) == 3
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert len(list(folder.iterdir())) == 3


async def test_recovery_to_another_disk_copies_what_it_keeps(path, tmp_path, monkeypatch):
    real_link = os.link

    def link(source, target, **options):
        if "elsewhere" in str(target):
            raise OSError(18, "Invalid cross-device link")
        real_link(source, target, **options)

    monkeypatch.setattr(os, "link", link)
    path.write_bytes(b"no database" * 100)
    config = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE, tmp_path / "elsewhere")
    async with aclosing(SQLitePersistence(path)) as backend:
        (kept,) = (await backend.recover(config)).quarantined_files
    assert (tmp_path / "elsewhere" / kept).read_bytes() == b"no database" * 100
    assert not list(path.parent.glob("*quarantine*"))


async def test_without_leave_nothing_is_repaired(path):
    path.write_bytes(b"no database" * 100)
    for config in (None, PersistenceRecoveryConfig(PersistenceRecoveryMode.IGNORE)):
        async with aclosing(SQLitePersistence(path)) as backend:
            report = await backend.recover(config)
            assert report.scan.has_anomalies
            assert report.repaired_files == ()
    assert path.read_bytes() == b"no database" * 100


async def test_a_writer_goes_on_in_the_recovered_database(path):
    """One that has the damaged file open notices, and closing it later harms the new file's log no more."""
    leaves = table_leaves(path)
    async with aclosing(SQLitePersistence(path)) as writer:
        await writer.record_batch(padded(10, first=5000))
        overwrite(path, (leaves[3] - 1) * PAGE, bytes(PAGE))
        async with aclosing(SQLitePersistence(path)) as other:
            await other.recover(QUARANTINE)
            await other.record_batch(padded(10, first=6000))
            await writer.record_batch(padded(10, first=7000))
            found = list(await other.list_events(limit=30))
        assert list(await writer.list_events(limit=30)) == found
    assert found == padded(10, first=5000) + padded(10, first=6000) + padded(10, first=7000)
    assert await scan_types(path) == set()


@pytest.mark.parametrize("stage", ["published", "log-removed"])
async def test_a_recovery_that_was_killed_is_finished_by_the_next_writer(path, stage):
    other = path.with_name("other.db")
    async with aclosing(SQLitePersistence(other)) as backend:
        await backend.record_batch(padded(3))
    leftover = path.with_name("papyra.db.recovering")
    leftover.write_bytes(b"half built")
    other.rename(path.with_name("papyra.db.recovered"))
    if stage == "published":
        path.with_name("papyra.db-wal").write_bytes(b"an old log")
    async with aclosing(SQLitePersistence(path)) as backend:
        assert list(await backend.list_events()) == padded(3)  # not the damaged one without its log
        names = {one.name for one in path.parent.iterdir()}
        report = await backend.scan()
        assert {one.name for one in path.parent.iterdir()} == names
        assert [anomaly.type for anomaly in report.anomalies] == [PersistenceAnomalyType.UNEXPECTED_FILE]
        await backend.record_batch(padded(1, first=3))
        assert list(await backend.list_events()) == padded(4)
        assert not (await backend.scan()).has_anomalies


def owner_and_mode(file) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o777


async def test_a_recovery_keeps_the_mode_of_the_database(path):
    path.chmod(0o640)
    overwrite(path, (table_leaves(path)[3] - 1) * PAGE, bytes(PAGE))
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.recover(REPAIR)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
async def test_what_root_repairs_still_belongs_to_its_owner(path):
    """All files of the new database were root's, so the service that owned it could not go on."""
    path.with_name("papyra.db.lock").unlink()
    os.chown(path, 1234, 2345)
    path.chmod(0o660)
    overwrite(path, (table_leaves(path)[3] - 1) * PAGE, bytes(PAGE))
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.recover(REPAIR)
        await backend.record_batch(padded(1))
        for suffix in ("", "-wal", "-shm", ".lock"):
            assert owner_and_mode(path.with_name(path.name + suffix)) == (1234, 2345, 0o660), suffix


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
async def test_a_lock_that_root_makes_belongs_to_the_owner_of_the_folder(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir(0o755)
    os.chown(folder, 1234, 2345)
    lock = WriteLock(folder / "papyra.db")
    with lock.hold(Work(), 0):
        assert owner_and_mode(folder / "papyra.db.lock") == (1234, 2345, 0o600)
    lock.close()


def a_poem(file):
    file.write_bytes(b"My only copy of a poem\n" * 500)


def a_foreign_database(file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE poems (text)")


def a_half_copied_database(file):
    file.write_bytes(file.with_name("papyra.db").read_bytes()[: PAGE * 30])


def an_empty_file(file):
    file.touch()


def a_database_that_is_written_to(file):
    shutil.copy(file.with_name("papyra.db"), file)
    file.with_name(f"{file.name}-wal").write_bytes(b"a log")


@pytest.mark.parametrize(
    "make", [a_poem, a_foreign_database, a_half_copied_database, an_empty_file, a_database_that_is_written_to]
)
async def test_only_a_whole_database_of_ours_replaces_the_live_one(path, make):
    """Any file of the name of a finished recovery replaced the database, and its log was dropped first."""
    stranger = path.with_name("papyra.db.recovered")
    make(stranger)
    content = stranger.read_bytes()
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(padded(1, first=2000))
        assert list(await backend.list_events()) == padded(2001)
        (anomaly,) = (await backend.scan()).anomalies
        assert (anomaly.type, anomaly.path) == (PersistenceAnomalyType.UNEXPECTED_FILE, str(stranger))
        assert stranger.read_bytes() == content
        report = await backend.recover(REPAIR)
        assert report.repaired_files == ()
        (kept,) = report.quarantined_files
        assert (path.parent / kept).read_bytes() == content
        assert not (await backend.scan()).has_anomalies
        assert list(await backend.list_events()) == padded(2001)


async def test_a_recovery_does_not_overwrite_what_has_the_name_it_needs(path):
    stranger = path.with_name("papyra.db.recovered")
    a_poem(stranger)
    content = stranger.read_bytes()
    overwrite(path, (table_leaves(path)[3] - 1) * PAGE, bytes(PAGE))
    left, (kept,) = await recovered(path, REPAIR)
    assert 1900 < len(left) < 2000
    assert (path.parent / kept).read_bytes() == content


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_leftover_that_may_not_be_read_stops_nobody(path):
    leftover = path.with_name("papyra.db.recovered")
    leftover.touch(0o000)
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(padded(1, first=2000))
        assert list(await backend.list_events()) == padded(2001)
        (anomaly,) = (await backend.scan()).anomalies
        assert anomaly.path == str(leftover)


async def test_a_folder_in_the_way_of_a_recovery_stops_only_that(path):
    path.with_name("papyra.db.recovered").mkdir()
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(padded(1, first=2000))
        assert (await backend.recover(REPAIR)).repaired_files == ()
    overwrite(path, (table_leaves(path)[3] - 1) * PAGE, bytes(PAGE))
    damaged = path.read_bytes()
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError, match="Move it away"):
            await backend.recover(REPAIR)
    assert path.read_bytes() == damaged
    assert not path.with_name("papyra.db.recovering").exists()


async def test_a_cancelled_recovery_changes_nothing(path):
    path.write_bytes(path.read_bytes()[: PAGE * 30])
    damaged = path.read_bytes()
    lock = WriteLock(path)
    async with aclosing(SQLitePersistence(path)) as backend:
        with lock.hold(Work(), 0):  # the recovery has to wait for it
            with anyio.move_on_after(0.05) as scope:
                await backend.recover(QUARANTINE)
            assert scope.cancelled_caught
        assert path.read_bytes() == damaged
        assert not list(path.parent.glob("*recover*")) + list(path.parent.glob("*quarantine*"))
    lock.close()
