"""A database is followed and streamed exactly, whatever happens to it meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from contextlib import aclosing, closing
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import (
    PersistedEvent,
)
from papyra_contrib.sqlite import SQLitePersistence, _backend, _queries

from .._loops import one_loop
from ._facts import REPAIR, audit, event, events, take
from ._many_writers import REBUILDER, check_a_follower


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(_backend, "INTERVAL", 0.002)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "papyra.db"


def damage(path) -> None:
    """Spoil an index, which costs no row."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name='facts_by_type'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(bytes(4096))


# -- follow


async def test_all_is_new_in_a_database_that_is_made_later(path):
    looks, looked_twice = [], threading.Event()
    found: list = []

    async with aclosing(SQLitePersistence(path)) as backend:
        read = backend._database.read

        def counted(*arguments):
            looks.append(read(*arguments))
            if len(looks) == 2:
                looked_twice.set()
            return looks[-1]

        backend._database.read = counted

        async def follow() -> None:
            async with aclosing(backend.follow(limit=1)) as records:
                found.extend(await take(records, 3))

        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            assert await anyio.to_thread.run_sync(looked_twice.wait, 60)
            assert not list(path.parent.iterdir())
            await backend.record_batch(events(1, 2, 3))
    assert found == events(1, 2, 3)


async def test_more_than_a_page_comes_at_once_and_in_order(path, monkeypatch):
    async with aclosing(SQLitePersistence(path)) as backend, aclosing(backend.follow(limit=1)) as records:
        await backend.record_event(event(0))
        assert await take(records, 1) == events(0)
        await backend.record_batch(events(*range(1, 3000)))
        waits, sleep = [], anyio.sleep

        async def counted(seconds: float) -> None:
            waits.append(seconds)
            await sleep(seconds)

        monkeypatch.setattr(_backend.anyio, "sleep", counted)
        assert await take(records, 2999) == events(*range(1, 3000))
        assert len(waits) <= 1  # and not one for each page


async def test_a_recovery_is_followed_across(path):
    async with aclosing(SQLitePersistence(path)) as backend, aclosing(SQLitePersistence(path)) as other:
        await backend.record_batch(events(*range(100)))
        async with aclosing(backend.follow(limit=1)) as records:
            assert await take(records, 1) == events(99)
            await backend.record_batch(events(100, 101))
            damage(path)
            assert (await other.recover(REPAIR)).repaired_files
            await other.record_batch(events(102, 103))
            assert await take(records, 4) == events(100, 101, 102, 103)


async def test_a_recovery_gives_no_number_of_a_lost_row_again(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1, 2, 3))
        async with aclosing(backend.follow(limit=3)) as records:
            assert await take(records, 3) == events(1, 2, 3)
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("UPDATE facts SET crc = 0 WHERE seq = 3")
            await backend.recover(REPAIR)
            assert await backend.list_events() == events(1, 2)
            await backend.record_event(event(4))
            assert await take(records, 1) == events(4)


@pytest.mark.parametrize("made_anew", [0, 2, 5])
async def test_all_is_new_in_a_database_that_took_its_place(path, made_anew):
    """Whether the other one has fewer or more records than were read of the first."""
    other = path.with_name("other.db")
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1, 2, 3))
        async with aclosing(backend.follow(limit=1)) as records:
            assert await take(records, 1) == events(3)
            async with aclosing(SQLitePersistence(other)) as another:
                await another.record_batch(events(*range(10, 10 + made_anew), 99))
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink()
            other.replace(path)
            assert await take(records, made_anew + 1) == events(*range(10, 10 + made_anew), 99)


async def test_a_restored_copy_is_followed_from_its_end(path, monkeypatch):
    """Its next records have numbers that were read before."""
    copy, noticed = path.with_name("copy.db"), threading.Event()

    def read_above(connection, place, wanted):
        if place.last == 2:  # not what this read finds: it is made again if a write comes before its end
            noticed.set()
        return _queries.read_above(connection, place, wanted)

    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(1, 2))
    shutil.copyfile(path, copy)
    monkeypatch.setattr(_backend, "read_above", read_above)
    found: list = []

    async def follow() -> None:
        async with aclosing(backend.follow(limit=1)) as records:
            found.extend(await take(records, 1))
            begun.set()
            found.extend(await take(records, 1))

    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(3, 4, 5))
        async with anyio.create_task_group() as group:
            begun = anyio.Event()
            group.start_soon(follow)
            await begun.wait()
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink()
            copy.replace(path)
            assert await anyio.to_thread.run_sync(noticed.wait, 60)
            await backend.record_event(event(6))
    assert found == events(5, 6)


# -- stream


async def test_a_stream_gives_what_is_kept_newest_first_in_pages(path, monkeypatch):
    monkeypatch.setattr(_queries, "_PAGE_ROWS", 7)
    policy = RetentionPolicy(max_records=95, max_age_seconds=98)
    async with aclosing(SQLitePersistence(path, policy)) as backend:
        backend.time_fn = lambda: 1e9 + 100
        await backend.record_batch([event(n) if n % 3 else audit(n) for n in range(100)])
        kept = list(reversed([event(n) if n % 3 else audit(n) for n in range(5, 100)]))
        assert [record async for record in backend.stream()] == kept
        span = backend.stream(since=1e9 + 20, until=1e9 + 30)
        assert [record async for record in span] == kept[69:80]


async def test_pages_are_bounded_in_bytes(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        pads = [
            PersistedEvent("local", "a", "Happened", {"n": n, "pad": "x" * 300_000}, 1e9) for n in range(9)
        ]
        await backend.record_batch(pads)

        def first_page(connection):
            span = _queries.begin_streaming(connection, None, None, RetentionPolicy(), 0.0)
            return _queries.read_below(connection, span)

        page = await backend._read(first_page, None)
        assert page is not None
        assert page[0] == pads[:-5:-1]
        assert [record async for record in backend.stream()] == pads[::-1]


async def test_a_stream_is_one_moment_of_the_store_less_what_is_compacted_away(path, monkeypatch):
    monkeypatch.setattr(_queries, "_PAGE_ROWS", 10)
    async with aclosing(SQLitePersistence(path)) as backend, aclosing(SQLitePersistence(path)) as other:
        await backend.record_batch(events(*range(100)))
        async with aclosing(backend.stream()) as records:
            found = await take(records, 10)
            await other.record_batch(events(*range(100, 120)))
            other.retention = RetentionPolicy(max_records=70)
            assert (await other.compact()).removed_records == 50
            damage(path)
            await other.recover(REPAIR)
            found += [record async for record in records]
        assert found == events(*range(99, 49, -1))


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_stream_does_not_go_on_in_another_database(path, monkeypatch, replaced):
    monkeypatch.setattr(_queries, "_PAGE_ROWS", 10)
    other = path.with_name("other.db")
    async with aclosing(SQLitePersistence(other)) as backend:
        await backend.record_batch(events(*range(50)))
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_batch(events(*range(100)))
        async with aclosing(backend.stream()) as records:
            await take(records, 10)
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink()
            if replaced:
                other.rename(path)
            with pytest.raises(PersistenceError, match="removed or replaced"):
                await take(records, 1)


# -- by many processes


@one_loop
async def test_nothing_is_lost_or_doubled_while_processes_write_compact_and_recover(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        await check_a_follower(backend, f"sqlite:{path}?max_age_seconds=10s", (REBUILDER, path, 8))


# -- by random operations

moments = st.integers(0, 30).map(float)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.lists(st.builds(event, st.integers(0, 9), moments), max_size=9)),
        st.tuples(st.just("compact"), st.integers(0, 12)),
        st.tuples(st.just("recover"), st.none()),
        st.tuples(st.just("reopen"), st.none()),
        st.tuples(st.just("remove"), st.none()),
        st.tuples(st.just("stream"), st.tuples(st.none() | moments, st.none() | moments)),
    ),
    max_size=12,
)


async def run(path: Path, steps, limit: int) -> None:
    kept: list = []
    async with aclosing(SQLitePersistence(path)) as follower:
        writer = SQLitePersistence(path)
        async with aclosing(follower.follow(limit=limit)) as records:
            for kind, what in steps:
                if kind == "record":
                    await writer.record_batch(what)
                    kept += what
                    # Read at once, because a record that is compacted away unread need not come. The first
                    # look is at the newest.
                    assert await take(records, len(what)) == what
                elif kind == "compact":
                    writer.retention = RetentionPolicy(max_records=what)
                    assert (await writer.compact()).after_records == min(what, len(kept))
                    kept = kept[max(0, len(kept) - what) :]
                elif kind == "recover" and kept:
                    damage(path)
                    assert (await writer.recover(REPAIR)).repaired_files
                elif kind == "reopen":
                    await writer.aclose()
                    writer = SQLitePersistence(path)
                elif kind == "remove":
                    for suffix in ("", "-wal", "-shm"):
                        path.with_name(path.name + suffix).unlink(missing_ok=True)
                    kept = []
                elif kind == "stream":
                    since, until = what
                    found = [record async for record in follower.stream(since=since, until=until)]
                    low, high = (0.0 if since is None else since), (99.0 if until is None else until)
                    assert found == [one for one in reversed(kept) if low <= one.timestamp <= high]
            end = event(99)
            await writer.record_event(end)
            assert await take(records, 1) == [end]
        await writer.aclose()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=operations)
def test_random_operations_are_followed_exactly(steps):
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, Path(folder, "papyra.db"), steps, 1000)
