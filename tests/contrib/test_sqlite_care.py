"""Long work on a database: how far it is, how it is stopped, and what a dry run leaves untouched."""

from __future__ import annotations

import os
import sqlite3
from contextlib import aclosing, closing
from itertools import pairwise

import anyio
import anyio.from_thread
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra_contrib.sqlite import SQLitePersistence, _compaction
from papyra_contrib.sqlite import _statement_progress as _statement_progress

from .._loops import one_loop
from ._facts import QUARANTINE, REPAIR, padded

COUNT = 1500


@pytest.fixture
async def path(tmp_path):
    """A database of events, closed properly, in a folder of its own."""
    path = tmp_path / "store" / "papyra.db"
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(padded(COUNT))
    return path


def damage(path) -> None:
    """Change a row, so that a recovery drops it."""
    content = path.read_bytes()
    at = content.index(b'{"n":1000,') + len(b'{"n":1000,"pad":"')
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"y")


async def left(backend) -> list[int]:
    return [event.payload["n"] for event in await backend.list_events()]


HEALTHY_WORK = {
    "scan": lambda backend, progress: backend.scan(progress=progress),
    "recover": lambda backend, progress: backend.recover(REPAIR, progress=progress),
    "compact": lambda backend, progress: backend.compact(progress=progress),
    "compact-dry": lambda backend, progress: backend.compact(dry_run=True, progress=progress),
    "recover-dry": lambda backend, progress: backend.recover(REPAIR, dry_run=True, progress=progress),
}


@pytest.mark.parametrize("work", HEALTHY_WORK.values(), ids=HEALTHY_WORK.keys())
@pytest.mark.parametrize("damaged", [False, True])
async def test_progress_never_goes_down_and_ends_at_the_total(path, work, damaged, monkeypatch):
    monkeypatch.setattr(_statement_progress, "_TICK_STEPS", 500)
    if damaged:
        damage(path)
    told: list[tuple[int, int]] = []
    size = path.stat().st_size
    async with aclosing(SQLitePersistence(path, RetentionPolicy(max_records=500))) as backend:
        await work(backend, lambda done, total: told.append((done, total)))
    assert len(told) > 10
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    assert told[0][1] == size
    steps = [later[0] - earlier[0] for earlier, later in pairwise(told)]
    assert max(steps) < told[-1][1] / 2  # the bar does not jump


@pytest.mark.parametrize("work", HEALTHY_WORK.values(), ids=HEALTHY_WORK.keys())
async def test_a_missing_store_has_no_progress(tmp_path, work):
    told: list[tuple[int, int]] = []
    async with aclosing(SQLitePersistence(tmp_path / "papyra.db")) as backend:
        await work(backend, lambda done, total: told.append((done, total)))
    assert told == []
    assert list(tmp_path.iterdir()) == []


class Enough(BaseException):
    """What no `except Exception` stops."""


ERRORS = (Enough, BrokenPipeError, sqlite3.OperationalError, PersistenceError)


@one_loop
@pytest.mark.parametrize("work", ["scan", "recover", "compact"])
async def test_what_progress_raises_comes_out_and_leaves_the_store_whole(path, work, monkeypatch):
    """Wherever it is raised; and what looks like trouble with the file is not taken for it."""
    monkeypatch.setattr(_statement_progress, "_TICK_STEPS", 5_000)
    steps = range(500, COUNT)
    if work != "compact":
        damage(path)
        steps = [n for n in range(COUNT) if n != 1000]
    policy = RetentionPolicy(max_records=COUNT - 500)
    calls_before, stopped = 0, True
    while stopped:
        calls_before += 1
        calls, error = 0, ERRORS[calls_before % 4]

        def progress(done: int, total: int, end: int = calls_before, error: type = error) -> None:
            nonlocal calls
            calls += 1
            if calls == end:
                raise error("enough")

        async with aclosing(SQLitePersistence(path, policy if work == "compact" else None)) as backend:
            try:
                await HEALTHY_WORK[work](backend, progress)
            except error as raised:
                assert raised.args == ("enough",)  # noqa: PT017 - it must be this very one
            else:
                stopped = False
            assert await left(backend) == list(steps)
            assert backend.healthy
        assert not list(path.parent.glob("*.recovering*"))
    assert calls_before > 4


@pytest.mark.parametrize("work", ["scan", "recover", "compact"])
async def test_cancelling_out_of_progress_leaves_the_store_whole(path, work):
    damage(path)
    async with aclosing(SQLitePersistence(path)) as backend:
        with anyio.CancelScope() as scope:
            await HEALTHY_WORK[work](
                backend, lambda done, _: anyio.from_thread.run_sync(scope.cancel) if done else None
            )
        assert scope.cancelled_caught
        await backend.record_batch(padded(1, first=9999))
        assert await left(backend) == [*(n for n in range(COUNT) if n != 1000), 9999]


# -- dry runs


def contents(folder) -> dict[str, tuple[bytes, int, int]]:
    found = {}
    for file in sorted(folder.rglob("*")):
        status = file.lstat()
        data = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
        found[file.name] = (data, status.st_mtime_ns, status.st_ino)
    return found


def nothing(path) -> None:
    """Leave it."""


def a_poem(path) -> None:
    path.write_bytes(b"My only copy of a poem\n" * 100)


def a_stranger(path) -> None:
    damage(path)
    path.with_name("papyra.db.recovered").write_bytes(b"poem" * 1000)


def a_published_recovery(path) -> None:
    path.rename(path.with_name("papyra.db.recovered"))
    path.write_bytes(b"half of what was")


def a_truncated_file(path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def an_earlier_quarantine(path) -> None:
    damage(path)
    path.with_name("papyra.db.quarantine-1").touch()


@one_loop
@pytest.mark.parametrize("config", [None, REPAIR, QUARANTINE], ids=["none", "repair", "quarantine"])
@pytest.mark.parametrize(
    "make",
    [nothing, damage, a_poem, a_stranger, a_published_recovery, a_truncated_file, an_earlier_quarantine],
)
async def test_a_dry_recovery_tells_what_a_recovery_does_and_changes_not_a_byte(path, make, config):
    make(path)
    before = contents(path.parent)
    async with aclosing(SQLitePersistence(path)) as backend:
        dry = await backend.recover(config, dry_run=True)
        assert backend.metrics.recoveries == 0
    assert contents(path.parent) == before
    async with aclosing(SQLitePersistence(path)) as backend:
        assert await backend.recover(config) == dry


async def test_a_dry_recovery_refuses_what_a_recovery_refuses(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7")
        connection.execute("PRAGMA journal_mode = DELETE")
    before = contents(path.parent)
    async with aclosing(SQLitePersistence(path)) as backend:
        for dry_run in (True, False):
            with pytest.raises(PersistenceError, match="another program"):
                await backend.recover(REPAIR, dry_run=dry_run)
    assert contents(path.parent)["papyra.db"] == before["papyra.db"]


async def test_nothing_that_only_reads_leaves_a_file_behind(path):
    """SQLite's read-only mode made a log and an index beside the database, and left them there."""
    before = contents(path.parent)
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.list_events(limit=1)
        await backend.scan()
        await backend.compact(dry_run=True)
        assert len([record async for record in backend.stream()]) == COUNT
        assert contents(path.parent) == before


async def test_a_write_during_a_read_without_a_log_is_noticed(path):
    """The read had no lock, so what it saw may be torn: it is done again."""
    async with aclosing(SQLitePersistence(path)) as reader:
        reads = []

        def read(connection) -> int:
            (count,) = connection.execute("SELECT count(*) FROM facts").fetchone()
            reads.append(count)
            if len(reads) == 1:
                with closing(sqlite3.connect(path)) as writer:  # opens, commits, checkpoints, leaves no log
                    writer.execute("DELETE FROM facts WHERE seq <= 1000")
                    writer.commit()
            return count

        assert await reader._read(read, 0) == COUNT - 1000
        assert reads == [COUNT, COUNT - 1000]


# -- a full disk


async def test_a_compaction_without_room_for_a_copy_still_deletes(path, monkeypatch):
    """It raised, though all that retention dropped was gone and its place could be used again."""

    class Full(sqlite3.OperationalError):
        sqlite_errorcode = sqlite3.SQLITE_FULL

    class NoRoom:
        def execute(self, statement: str) -> None:
            assert statement == "VACUUM"
            raise Full("database or disk is full")

    vacuum = _compaction._vacuum
    monkeypatch.setattr(_compaction, "_vacuum", lambda _: vacuum(NoRoom()))
    async with aclosing(SQLitePersistence(path, RetentionPolicy(max_records=100))) as backend:
        report = await backend.compact()
        assert (report.before_records, report.after_records) == (COUNT, 100)
        size = path.stat().st_size
        assert report.after_bytes >= size
        await backend.record_batch(padded(1000, first=COUNT))
        await backend.compact()
        assert path.stat().st_size == size
