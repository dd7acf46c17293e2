"""What the SQLite backend promises beyond the contract: its files, its costs, its refusals."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
import time
from contextlib import aclosing, closing, suppress

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from papyra.exceptions import BackendURLError, PersistenceError
from papyra.persistence import Query, RetentionPolicy, backend_capabilities, open_backend
from papyra.persistence.blocking import Work
from papyra.persistence.models import (
    PersistedAudit,
    PersistedDeadLetter,
    PersistedEvent,
    PersistenceAnomalyType,
)
from papyra_contrib.sqlite import SQLitePersistence, _scan
from papyra_contrib.sqlite._connect import connect, use_wal
from papyra_contrib.sqlite._errors import explain
from papyra_contrib.sqlite._files import is_full, resting
from papyra_contrib.sqlite._lock import WriteLock
from papyra_contrib.sqlite._queries import _terms, find

from ._facts import REPAIR, event


@pytest.fixture
def path(tmp_path):
    return tmp_path / "papyra.db"


# -- how it is found


async def test_it_is_found_by_its_scheme(path):
    url = f"sqlite:{path}?durability=always&busy_timeout=250ms&max_records=5"
    async with aclosing(open_backend(url)) as backend:
        assert type(backend) is SQLitePersistence
        assert backend.retention == RetentionPolicy(max_records=5)
        await backend.record_batch([event(n) for n in range(7)])
        assert list(await backend.list_events()) == [event(n) for n in range(2, 7)]
    assert " ".join(sorted(backend_capabilities(backend))) == (
        "batch compact follow metrics progress recover scan stream"
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:", "needs a path"),
        ("sqlite::memory:", "backend 'memory'"),
        ("sqlite:x.db?durability=never", "os, always"),
        ("sqlite:x.db?busy_timeout=soon", "busy_timeout"),
        (
            "sqlite:x.db?journal=off",
            "busy_timeout, durability, max_age_seconds, max_records, max_total_bytes",
        ),
    ],
)
def test_a_url_that_cannot_be_opened_says_why(url, words):
    with pytest.raises(BackendURLError, match=words):
        open_backend(url)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": ""}, "needs a path"),
        ({"path": "file:x.db"}, "URI"),
        ({"path": "a\0b"}, "NUL"),
        ({"path": "x.db", "durability": "never"}, "os, always"),
        ({"path": "x.db", "busy_timeout": -1}, "busy_timeout"),
        ({"path": "x.db", "busy_timeout": float("nan")}, "busy_timeout"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        SQLitePersistence(**arguments)


# -- its files


async def test_files_and_folders_are_for_the_owner_alone(tmp_path):
    path = tmp_path / "a" / "b" / "papyra.db"
    previous = os.umask(0)
    try:
        async with aclosing(SQLitePersistence(path)) as backend:
            await backend.record_event(event(1))
            names = sorted(path.parent.iterdir())
            assert {name.name for name in names} == {f"papyra.db{s}" for s in ("", "-wal", "-shm", ".lock")}
            assert {stat.S_IMODE(name.stat().st_mode) for name in names} == {0o600}
            assert (
                stat.S_IMODE(path.parent.stat().st_mode)
                == stat.S_IMODE(path.parent.parent.stat().st_mode)
                == 0o700
            )
    finally:
        os.umask(previous)
    assert {name.name for name in path.parent.iterdir()} == {"papyra.db", "papyra.db.lock"}


async def test_reading_what_is_not_there_creates_nothing(tmp_path):
    path = tmp_path / "missing" / "papyra.db"
    async with aclosing(SQLitePersistence(path)) as backend:
        assert list(await backend.list_events()) == []
        assert not (await backend.scan()).has_anomalies
        assert (await backend.recover(REPAIR)).repaired_files == ()
        assert (await backend.compact(dry_run=True)).before_records == 0
        assert (await backend.compact()).before_bytes == 0
    assert list(tmp_path.iterdir()) == []


async def test_a_path_with_odd_characters_is_that_file(tmp_path):
    path = tmp_path / "50% of? #1 ü\u2028\udcff.db"
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1))
        assert list(await backend.list_events()) == [event(1)]
    assert path.exists()


def make_symlink(path):
    real = path.with_name("real.db")
    with closing(sqlite3.connect(real)):
        pass
    path.symlink_to(real)


def make_dangling_log(path):
    path.with_name("papyra.db-wal").symlink_to("elsewhere")


@pytest.mark.parametrize("make", [make_symlink, make_dangling_log, os.mkfifo, os.mkdir])
async def test_a_path_that_is_not_a_regular_file_is_refused(path, make):
    make(path)
    async with aclosing(SQLitePersistence(path)) as backend:
        with anyio.fail_after(10):
            for call in (
                lambda: backend.record_event(event(1)),
                backend.list_events,
                lambda: backend.recover(REPAIR),
            ):
                with pytest.raises(PersistenceError, match="not a regular file"):
                    await call()
            (anomaly,) = (await backend.scan()).anomalies
    assert anomaly.type is PersistenceAnomalyType.UNREADABLE_FILE
    assert not path.with_name("elsewhere").exists()


async def test_a_lock_that_is_a_symbolic_link_is_refused(path, tmp_path):
    path.with_name("papyra.db.lock").symlink_to(tmp_path / "elsewhere")
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError):
            await backend.record_event(event(1))
    assert not (tmp_path / "elsewhere").exists()


async def test_a_database_of_another_program_is_not_touched(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")
    before = path.read_bytes()
    async with aclosing(SQLitePersistence(path)) as backend:
        calls = (
            lambda: backend.record_event(event(1)),
            backend.list_events,
            backend.compact,
            lambda: backend.recover(REPAIR),
        )
        for call in calls:
            with pytest.raises(PersistenceError, match=r"another program.*a file of its own"):
                await call()
        (anomaly,) = (await backend.scan()).anomalies
        assert anomaly.type is PersistenceAnomalyType.UNEXPECTED_FILE
    assert path.read_bytes() == before


async def test_a_database_of_a_later_version_is_not_touched(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError, match=r"version 3.*Install a newer papyra-contrib"):
            await backend.record_event(event(2))


async def test_an_empty_file_becomes_a_database(path):
    path.touch()
    async with aclosing(SQLitePersistence(path)) as backend:
        assert list(await backend.list_events()) == []
        await backend.record_event(event(1))
        assert list(await backend.list_events()) == [event(1)]


async def test_a_database_that_was_removed_is_made_anew(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1))
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        assert list(await backend.list_events()) == []
        await backend.record_event(event(2))
        assert list(await backend.list_events()) == [event(2)]


async def test_what_is_stored_is_plain_text_and_json(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(
            [
                event(1, text="naïve"),
                PersistedAudit("local", 2.0, 1, 2, 3, 4, 5, ("a",), (), 6),
                PersistedDeadLetter("local", "local:2", "Ping", None, 3.0),
            ]
        )
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT kind, actor, type, payload FROM facts ORDER BY seq").fetchall()
        (number,) = connection.execute(
            "SELECT json_extract(payload, '$.n') FROM facts WHERE seq = 1"
        ).fetchone()
    assert number == 1
    assert rows[0] == ("event", "local:1", "Happened", '{"n":1,"text":"naïve"}')
    assert rows[1][:3] == ("audit", "", "")
    assert rows[2] == ("dead_letter", "local:2", "Ping", "null")


async def test_a_payload_of_more_than_a_mebibyte_becomes_a_note(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1, large="x" * 2**20))
        await backend.record_dead_letter(PersistedDeadLetter("local", "local:2", "Big", "x" * 2**20, 3.0))
        (found,) = await backend.list_events()
        (lost,) = await backend.list_dead_letters()
    assert found.payload == {"omitted": "a payload of 1048594 bytes was left out"}
    assert lost.payload == "a payload of 1048578 bytes was left out"


# -- what it costs


@pytest.mark.parametrize("word", [None, "Happened"])
@pytest.mark.parametrize("actor", [None, "local:1"])
@pytest.mark.parametrize("since", [None, 5.0])
async def test_a_limited_query_walks_an_index_from_its_end(path, word, actor, since):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1))
    rest, values = _terms(Query(PersistedEvent, 10, since, since, word, actor), float("-inf"))
    with closing(sqlite3.connect(path)) as connection:
        plan = " ".join(
            row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM facts {rest}", values)
        )
    assert "SEARCH facts USING INDEX" in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


async def test_a_limited_query_reads_no_more_the_more_there_is(path):
    """Counted in steps of SQLite's virtual machine, which no busy machine changes."""

    async def steps(policy: RetentionPolicy) -> int:
        def count() -> int:
            counted = 0

            def step() -> None:
                nonlocal counted
                counted += 1

            with closing(connect(path, "ro")) as connection:
                connection.set_progress_handler(step, 1)
                assert len(find(connection, Query(PersistedEvent, 10), policy, 2e9)) == 10
            return counted

        return await anyio.to_thread.run_sync(count)

    policies = [
        RetentionPolicy(),
        RetentionPolicy(max_records=500),
        RetentionPolicy(max_total_bytes=100_000),
        RetentionPolicy(max_records=500, max_age_seconds=2e9, max_total_bytes=100_000),
    ]
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch([event(n) for n in range(1000)])
        few = [await steps(policy) for policy in policies]
        await backend.record_batch([event(n) for n in range(20_000)])
        many = [await steps(policy) for policy in policies]
    assert all(later <= earlier + 50 for earlier, later in zip(few, many, strict=True)), (few, many)


async def test_compaction_shrinks_the_file_and_counts_its_log(path):
    async with aclosing(SQLitePersistence(path, RetentionPolicy(max_records=100))) as backend:
        await backend.record_batch([event(n, pad="x" * 500) for n in range(5000)])
        size = sum(path.with_name(path.name + suffix).stat().st_size for suffix in ("", "-wal"))
        dry = await backend.compact(dry_run=True)
        report = await backend.compact()
        assert (report.before_records, report.after_records) == (5000, 100)
        assert report.before_bytes == dry.before_bytes == size
        assert report.after_bytes == path.stat().st_size < size / 10
        assert path.with_name("papyra.db-wal").stat().st_size == 0
        assert dry.after_bytes < size / 10


# -- waiting and giving up


async def test_a_write_waits_for_another_program_and_gives_up_in_time(path):
    async with aclosing(SQLitePersistence(path, busy_timeout=0.3)) as backend:
        await backend.record_event(event(1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(PersistenceError, match="busy_timeout"):
                await backend.record_event(event(2))
            assert list(await backend.list_events()) == [event(1)]  # reads do not wait
        await backend.record_event(event(3))
        assert list(await backend.list_events()) == [event(1), event(3)]
        assert backend.healthy


async def test_a_write_waits_for_a_recovery_elsewhere_and_gives_up_in_time(path):
    lock = WriteLock(path)
    async with aclosing(SQLitePersistence(path, busy_timeout=0.2)) as backend:
        with lock.hold(Work(), 0), pytest.raises(PersistenceError, match="locked"):
            await backend.record_event(event(1))
        await backend.record_event(event(2))
        assert list(await backend.list_events()) == [event(2)]
    lock.close()


@pytest.mark.parametrize("holder", ["sqlite", "lock"])
async def test_a_cancelled_write_stops_waiting_at_once(path, holder):
    lock = WriteLock(path)
    async with aclosing(SQLitePersistence(path, busy_timeout=1000)) as backend:
        await backend.record_event(event(1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            began = time.monotonic()
            if holder == "sqlite":
                other.execute("BEGIN IMMEDIATE")
                with anyio.move_on_after(0.05) as scope:
                    await backend.record_event(event(2))
            else:
                with lock.hold(Work(), 0), anyio.move_on_after(0.05) as scope:
                    await backend.record_event(event(2))
            assert scope.cancelled_caught
            assert time.monotonic() - began < 100  # of the thousand it would have waited
        await backend.record_event(event(3))
        assert list(await backend.list_events()) == [event(1), event(3)]
    lock.close()


def test_asyncio_s_own_cancel_stops_waiting_and_leaves_a_store_that_works(path):
    """It reaches the caller while the thread still runs, where a cancel scope waits for the thread."""

    async def main() -> None:
        async with aclosing(SQLitePersistence(path, busy_timeout=1000)) as backend:
            await backend.record_event(event(1))
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                for number in (2, 3):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(backend.record_event(event(number)), 0.05)
            await asyncio.wait_for(backend.record_event(event(4)), 30)
            assert list(await backend.list_events()) == [event(1), event(4)]

    asyncio.run(main())


async def test_a_cancelled_scan_is_interrupted_in_the_middle_of_a_statement(path, monkeypatch):
    """The statement would run for hours."""
    running = threading.Event()

    def endless(connection, *_):
        connection.create_function("running", 0, running.set)
        yield from connection.execute(
            "WITH RECURSIVE n(x) AS (SELECT running() UNION ALL SELECT 1 FROM n) SELECT x FROM n WHERE x = 2"
        )

    monkeypatch.setattr(_scan, "_check", endless)
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1))
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(backend.scan)
                await anyio.to_thread.run_sync(running.wait)
                group.cancel_scope.cancel()
        assert backend.metrics.scans == 0
        await backend.record_event(event(2))
        assert len(await backend.list_events()) == 2


async def test_a_cancelled_compaction_keeps_every_record(path):
    async with aclosing(SQLitePersistence(path, RetentionPolicy(max_records=500))) as backend:
        await backend.record_batch([event(n, pad="x" * 300) for n in range(5000)])
        for delay in (0, 0.001, 0.003, 0.01):
            with anyio.move_on_after(delay):
                await backend.compact()
            assert list(await backend.list_events()) == [event(n, pad="x" * 300) for n in range(4500, 5000)]
        assert not (await backend.scan()).has_anomalies


async def test_a_close_waits_for_a_write_and_a_cancelled_one_still_closes(path):
    backend = SQLitePersistence(path)

    async def write() -> None:
        with suppress(PersistenceError):  # trio may run this only when the backend is closed
            await backend.record_batch([event(n) for n in range(1000)])

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await anyio.lowlevel.checkpoint()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await backend.aclose()
    assert backend.closed
    assert not path.with_name("papyra.db-wal").exists()  # the connection is closed
    async with aclosing(SQLitePersistence(path)) as again:
        assert len(await again.list_events()) in (0, 1000)


async def test_a_write_that_fails_is_counted_and_stores_nothing(path):
    bad = PersistedEvent("local", "local:1", "Happened", {}, "yesterday")
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError, match="wrong type"):
            await backend.record_batch([event(1), bad])
        assert backend.metrics.snapshot()["write_errors"] == 1
        assert backend.metrics.snapshot()["records_written"] == 0
        assert list(await backend.list_events()) == []


async def test_a_path_below_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    async with aclosing(SQLitePersistence(tmp_path / "file" / "papyra.db")) as backend:
        (anomaly,) = (await backend.scan()).anomalies
        assert anomaly.type is PersistenceAnomalyType.UNREADABLE_FILE
        assert anomaly.detail.endswith("papyra.db can't be inspected: Not a directory")


def test_a_path_that_no_file_can_have_is_not_recognized(tmp_path):
    assert SQLitePersistence.recognizes(str(tmp_path / ("x" * 300))) is None


def test_a_folder_that_is_gone_is_not_full(tmp_path):
    assert not is_full(tmp_path / "gone" / "papyra.db")


async def test_a_database_from_the_future_is_read_with_a_lock(path):
    """Its clock was ahead, or that of this machine went back: times say nothing about writers."""
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1))
    os.utime(path, (time.time() + 3600,) * 2)
    assert resting(path) is None
    async with aclosing(SQLitePersistence(path)) as backend:
        assert list(await backend.list_events()) == [event(1)]


async def test_a_backup_overwrites_nothing(path, tmp_path):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(event(1))
        assert await backend.backup(str(tmp_path / "copy.db"))
        before = (tmp_path / "copy.db").read_bytes()
        with pytest.raises(PersistenceError, match="exists already"):
            await backend.backup(str(tmp_path / "copy.db"))
        assert (tmp_path / "copy.db").read_bytes() == before


def test_a_file_system_that_cannot_keep_a_log_is_refused(path):
    # The journal of this one is in memory, whatever is asked for.
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.text_factory = bytes
        with pytest.raises(PersistenceError, match="use a local file system"):
            use_wal(connection, path, Work(), 0)


def test_a_database_of_another_user_is_named(path, monkeypatch):
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    text = explain(sqlite3.OperationalError("unable to open"), sqlite3.SQLITE_CANTOPEN, path)
    assert text.endswith(
        "unable to open. It belongs to another user. Run as that user, or change its owner with chown."
    )


def test_a_thread_waits_for_another_one_of_its_process_and_gives_up_in_time(path):
    lock, refused = WriteLock(path), list[PersistenceError]()

    def wait() -> None:
        try:
            with lock.hold(Work(), 0.05):
                pass
        except PersistenceError as error:
            refused.append(error)

    with lock.hold(Work(), 0):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert "was kept locked for 0.05 s" in str(refused)
    lock.close()
