"""R8 to R11, R15, R35: PostgreSQL in trouble, with a real server that dies and answers that are lost."""

from __future__ import annotations

import enum
import gc
import math
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import OperationalError, sql

from papyra.exceptions import BackendURLError, PersistenceError
from papyra.persistence import open_backend
from papyra.persistence.models import (
    PersistedDeadLetter,
    PersistedEvent,
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
)
from papyra_contrib import _rows
from papyra_contrib.postgres import PostgresPersistence, _queries, _schema, _writing
from papyra_contrib.postgres._connection import Connection

from .._loops import one_loop
from ..patterns.support import until
from ._outage import (
    SWEEP_FACTS,
    SWEEP_TIMES,
    check_a_follower_over_a_restart,
    check_a_lost_answer,
    event,
    record_over_outages,
)
from ._postgres_server import PostgresServer
from ._swallowing_proxy import SwallowingProxy

COPY_DONE = b"c\0\0\0\4"  # the last message of a batch, which the server commits then


@pytest.fixture
def own_server():
    server = PostgresServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def proxy(own_server):
    with tempfile.TemporaryDirectory(prefix="papyra-") as folder:
        made = SwallowingProxy(Path(folder, ".s.PGSQL.5432"), own_server.folder / ".s.PGSQL.5432", COPY_DONE)
        made.folder = folder
        yield made
        made.close()


async def stored_numbers(server: PostgresServer, table: str) -> list[int]:
    with server.connect() as connection:
        rows = connection.execute(f"SELECT payload::json->>'n' FROM {table} ORDER BY seq").fetchall()
    return [int(str(number)) for (number,) in rows]


# -- R9: an answer that is lost makes no double and loses nothing


async def test_r09_a_batch_is_stored_once_when_the_answer_to_its_commit_is_lost(own_server, proxy, table):
    backend = PostgresPersistence(f"host={proxy.folder} user=papyra dbname=postgres", table=table)
    await backend.open()
    await check_a_lost_answer(backend, proxy)
    await backend.aclose()
    assert await stored_numbers(own_server, table) == [1, 2, 3]


async def test_r09_equal_ids_of_two_runs_are_two_batches(postgres_server, table):
    backend = PostgresPersistence(postgres_server.conninfo, table=table)
    await backend.record_batch([event(1, "one")], batch_id="one:1")
    await backend.record_batch([event(2, "two")], batch_id="two:1")
    await backend.record_batch([event(1, "one")], batch_id="one:1")
    await backend.aclose()
    assert await stored_numbers(postgres_server, table) == [1, 2]


async def facts_over_outages(server: PostgresServer, proxy: SwallowingProxy, table: str, facts: int) -> None:
    backend = PostgresPersistence(f"host={proxy.folder} user=papyra dbname=postgres", table=table)
    expected = await record_over_outages(backend, server, proxy, facts)
    with server.connect() as connection:
        rows = connection.execute(
            f"SELECT actor, type FROM {table} WHERE type IN ('ActorStarted', 'ActorStopped') ORDER BY seq"
        ).fetchall()
    assert len(rows) == len(set(rows)) == facts
    assert rows == expected


async def test_r09_no_fact_is_lost_or_doubled_over_outages(own_server, proxy, table):
    await facts_over_outages(own_server, proxy, table, 1000)


@pytest.mark.sweep
@pytest.mark.parametrize("time", SWEEP_TIMES)
async def test_r09_no_fact_of_many_is_lost_or_doubled(own_server, proxy, table, time):
    await facts_over_outages(own_server, proxy, table, SWEEP_FACTS)


# -- R11: a server that is away is not healthy


async def test_r11_a_server_that_is_away_is_an_error_at_start_and_for_ping(own_server, table):
    backend = PostgresPersistence(own_server.conninfo, table=table, timeout=2.0)
    own_server.kill()
    with pytest.raises(PersistenceError, match="Check that the server runs there"):
        await backend.ping()
    assert not backend.healthy
    own_server.start()
    await backend.ping()
    assert backend.healthy
    assert await backend.list_events() == []  # the probe left nothing
    await backend.aclose()


async def test_r11_a_read_only_server_takes_no_record(own_server, table):
    backend = PostgresPersistence(
        f"{own_server.conninfo} options='-c default_transaction_read_only=on'", table=table
    )
    with pytest.raises(PersistenceError, match="name the primary server"):
        await backend.ping()
    await backend.aclose()


async def test_a_server_that_stalls_ends_no_call_except_its_own(own_server, table):
    """A stalled server holds a call for ``timeout`` seconds, and a cancelled caller not even that long."""
    backend = PostgresPersistence(own_server.conninfo, table=table, timeout=1.0)
    await backend.record_event(event(1))
    slow = PostgresPersistence(own_server.conninfo, table=table, timeout=60.0)
    await slow.list_events()  # connected
    new = PostgresPersistence(own_server.conninfo, table=table, timeout=60.0)
    own_server.signal_all(signal.SIGSTOP)
    try:
        with pytest.raises(PersistenceError, match="no answer within 1 s"):
            await backend.record_event(event(2))
        for cancelled in (slow, new):  # in a call, and before there is a connection
            with anyio.fail_after(30), anyio.move_on_after(0.2) as scope:
                await cancelled.list_events()
            assert scope.cancelled_caught
        with pytest.raises(PersistenceError, match="no connection within 1 s") as raised:
            await PostgresPersistence(own_server.conninfo, table=table, timeout=1.0).ping()
        assert raised.value.retry is True
    finally:
        own_server.signal_all(signal.SIGCONT)
    await backend.record_event(event(3))
    assert 3 in await stored_numbers(own_server, table)
    for one in (backend, slow, new):
        await one.aclose()


# -- followers


@pytest.fixture
def looks(monkeypatch):
    """Let a follower look often; return the connection of each look, and whether the tables existed."""
    made: list[tuple[int, bool]] = []
    real = _schema.Tables.exist

    def exist(tables, connection):
        found = real(tables, connection)
        made.append((connection.info.backend_pid, found))
        return found

    monkeypatch.setattr(_schema.Tables, "exist", exist)
    monkeypatch.setattr("papyra_contrib.postgres._follower.WAIT_SECONDS", 0.01)
    return made


async def test_a_follower_of_a_quiet_store_keeps_its_connection(postgres_server, table, looks):
    """With psycopg 3.3 it looked again after the time-out of the store only, and over a new connection."""
    async with (
        aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend,
        aclosing(backend.follow(limit=0)) as records,
        anyio.create_task_group() as group,
    ):

        async def read() -> None:
            await anext(records)

        group.start_soon(read)  # not `anext` itself: older anyio takes coroutines only
        await until(lambda: len(looks) >= 10)
        group.cancel_scope.cancel()
    assert len({connection for connection, _ in looks}) == 1


async def test_all_is_new_in_a_table_that_is_made_later_or_anew(postgres_server, table, looks):
    seen: list[int] = []
    async with (
        aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend,
        aclosing(backend.follow(limit=0)) as records,
        anyio.create_task_group() as group,
    ):

        async def read() -> None:
            async for record in records:
                seen.extend([record.payload["n"]])

        group.start_soon(read)
        for number in (1, 2):
            looks.clear()
            await until(lambda: looks and not looks[-1][1])
            async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as writer:
                await writer.record_event(event(number))
            await until(lambda number=number: number in seen)
            with postgres_server.connect() as connection:
                names = "SELECT tablename FROM pg_tables WHERE tablename ~ %s"
                for (name,) in connection.execute(names, (f"^{table}(_[a-z]+)?$",)).fetchall():
                    connection.execute(f"DROP TABLE {name} CASCADE")
        group.cancel_scope.cancel()
    assert seen == [1, 2]


async def test_a_follower_outlives_a_restart_of_the_server(own_server, table):
    backend = PostgresPersistence(own_server.conninfo, table=table)
    await check_a_follower_over_a_restart(backend, own_server)
    await backend.aclose()


@pytest.mark.parametrize("limit", [0, 2])
async def test_a_follower_outlives_a_cut_in_its_first_read(postgres_server, table, monkeypatch, limit):
    async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend:
        await backend.record_batch([event(1), event(2), event(3)])
        real = _schema.Tables.identity
        cut: list[int] = []
        again = anyio.Event()

        def identity(tables, connection):
            if not cut:
                cut.append(connection.info.backend_pid)
                with postgres_server.connect() as other:
                    other.execute("SELECT pg_terminate_backend(%s)", cut)
            elif len(cut) == 1:  # the second try of the first read
                cut.append(connection.info.backend_pid)
                anyio.from_thread.run_sync(again.set)
            return real(tables, connection)

        monkeypatch.setattr(_schema.Tables, "identity", identity)
        seen: list[int] = []
        async with anyio.create_task_group() as group, aclosing(backend.follow(limit=limit)) as records:

            async def write_when_it_reads() -> None:
                await again.wait()
                await backend.record_event(event(4))

            group.start_soon(write_when_it_reads)
            async for record in records:
                seen.append(record.payload["n"])
                if seen[-1] == 4:
                    break
    assert len(cut) == 2
    assert cut[0] != cut[1]
    assert seen == ([2, 3, 4] if limit else [4])


async def test_three_writers_and_a_follower_miss_and_double_nothing(postgres_server, table):
    backends = [PostgresPersistence(postgres_server.conninfo, table=table) for _ in range(4)]
    await backends[3].open()
    seen: list[int] = []

    async def write(number: int) -> None:
        for turn in range(40):
            await backends[number].record_batch([event(number * 1000 + turn * 2 + one) for one in (0, 1)])

    # With a limit: the writers may be quicker than the follower's first look.
    async with anyio.create_task_group() as group, aclosing(backends[3].follow(limit=1000)) as records:
        for number in range(3):
            group.start_soon(write, number)
        async for record in records:
            seen.append(record.payload["n"])
            if len(seen) == 240:
                break
    assert seen == await stored_numbers(postgres_server, table)
    assert len(set(seen)) == 240
    for backend in backends:
        await backend.aclose()


async def test_r35_connections_draw_numbers_in_the_order_of_their_commits(postgres_server, table):
    """Also one of an older version, which stays connected and knows of nothing but the lock."""
    older = (
        f"BEGIN; SELECT pg_advisory_xact_lock({_schema.LOCK_CLASS}, hashtext('{table}')); INSERT INTO {table} (kind, "
        "timestamp, system_id, actor, type, run, details, payload, size, crc) VALUES ('event', 0, '', '', '', '', '', "
    )
    async with (
        aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as one,
        aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as other,
    ):
        await one.open()
        with postgres_server.connect() as connection:
            for number in range(0, 9, 3):
                await one.record_batch([event(number)], batch_id=f"one:{number}")
                await other.record_event(event(number + 1))
                connection.execute(f"""{older} '{{"n": {number + 2}}}', 0, 0); COMMIT""")
    assert await stored_numbers(postgres_server, table) == list(range(9))


async def test_r35_a_new_table_does_not_know_its_first_range(postgres_server, table):
    """Its index would change with each of the first rows."""
    async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend:
        await backend.record_event(event(1))
    with postgres_server.connect() as connection:
        made = connection.execute(f"SELECT brin_summarize_range('{table}_by_place', 0)").fetchone()
    assert made == (1,)  # it is made only now


async def test_r35_a_batch_that_the_server_refuses_leaves_nothing(postgres_server, table):
    async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend:
        await backend.open()
        with postgres_server.connect() as connection:
            connection.execute(f"ALTER TABLE {table} ADD CHECK (actor <> 'bad')")
        bad = PersistedEvent("shop", "bad", "ActorStarted", {"n": 0}, 1.5, "run")
        with pytest.raises(PersistenceError, match="violates check constraint") as raised:
            await backend.record_batch([*map(event, range(1000)), bad], batch_id="run:1")
        assert raised.value.retry is False
        await backend.record_batch([event(1)], batch_id="run:1")
    assert await stored_numbers(postgres_server, table) == [1]


LARGE = [
    PersistedEvent("shop", "shop:1", "ActorStarted", {"n": n, "pad": "x" * 100_000}, 1.5, "run")
    for n in range(60)
]


async def test_r35_a_batch_may_be_larger_than_what_the_driver_keeps(postgres_server, table):
    async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend:
        await backend.record_batch([*LARGE, *map(event, range(60, 1000)), *LARGE], batch_id="run:1")
    assert await stored_numbers(postgres_server, table) == [*range(1000), *range(60)]


def call_at_a_flush(monkeypatch, number: int, called) -> list[int]:
    """Call something with the connection before its flush of this number; return the numbers of them."""
    flushes: list[int] = []
    real = Connection.flush

    def flush(connection):
        flushes.append(len(flushes) + 1)
        if flushes[-1] == number:
            called(connection)
        real(connection)

    monkeypatch.setattr(Connection, "flush", flush)
    return flushes


async def test_r35_a_large_part_goes_to_the_server_in_pieces(postgres_server, table, monkeypatch):
    """libpq moves all that it keeps each time that the socket takes something."""
    flushes = call_at_a_flush(monkeypatch, 0, None)
    async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend:
        await backend.record_batch(LARGE, batch_id="run:1")
    assert len(LARGE) < _rows.PART_ROWS
    assert len(flushes) >= 60 * 100_000 // _writing.MAX_UNSENT_BYTES > 1
    assert await stored_numbers(postgres_server, table) == list(range(60))


async def test_r35_a_batch_that_is_cancelled_ends_at_its_next_piece(postgres_server, table, monkeypatch):
    """Also while the server takes all at once, so that no wait lasts until it looks."""
    scope = anyio.CancelScope()

    def cancel(connection):
        anyio.from_thread.run_sync(scope.cancel)
        while not connection.work.cancelled:
            time.sleep(0.001)

    flushes = call_at_a_flush(monkeypatch, 2, cancel)
    async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend:
        await backend.open()
        with scope:
            await backend.record_batch(LARGE, batch_id="run:1")
        assert scope.cancelled_caught
        assert flushes == [1, 2]
        await backend.record_batch([event(1)], batch_id="run:1")
    assert await stored_numbers(postgres_server, table) == [1]


async def test_r35_a_server_that_stops_amid_a_batch_ends_it(own_server, table, monkeypatch):
    flushes = call_at_a_flush(monkeypatch, 2, lambda _: own_server.signal_all(signal.SIGSTOP))
    async with aclosing(PostgresPersistence(own_server.conninfo, table=table, timeout=1.0)) as backend:
        await backend.open()
        try:
            with pytest.raises(PersistenceError, match="no answer within 1 s"):
                await backend.record_batch(LARGE, batch_id="run:1")
        finally:
            own_server.signal_all(signal.SIGCONT)
        assert len(flushes) < 5
        await backend.record_batch([event(1)], batch_id="run:2")
    assert await stored_numbers(own_server, table) == [1]


# -- encodings: text goes as UTF-8, whatever the database and the URL have


@pytest.fixture
def database(own_server, request):
    """The address of a database of an encoding, with what the URL says."""
    encoding, said = request.param
    with own_server.connect() as connection:
        connection.execute(
            f"CREATE DATABASE other ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    return f"host={own_server.folder} user=papyra dbname=other {said}"


@pytest.mark.parametrize(
    "database",
    [
        ("LATIN1", ""),
        ("WIN1252", ""),
        ("SQL_ASCII", ""),
        ("UTF8", "client_encoding=LATIN1"),
        ("UTF8", "options='-c client_encoding=WIN1252'"),
    ],
    indirect=True,
)
async def test_r35_text_is_the_same_in_a_database_of_each_encoding(database, table):
    records = [
        PersistedEvent("café", "à", "é", {"é": "\xe9é"}, 1.5, "ü"),
        PersistedEvent("shop", "shop:1", "ActorStarted", {"n": 1}, 1.5, "run"),
    ]
    async with aclosing(PostgresPersistence(database, table=table)) as backend:
        for _ in range(2):
            await backend.record_batch(records, batch_id="ü:1")
        assert await backend.list_events() == records
        assert await backend.list_events(actor="à") == records[:1]
        assert not (await backend.scan()).has_anomalies


@pytest.mark.parametrize("database", [("LATIN1", "")], indirect=True)
async def test_r35_text_that_a_database_cannot_hold_is_an_error(database, table):
    async with aclosing(PostgresPersistence(database, table=table)) as backend:
        with pytest.raises(PersistenceError, match="use a database with the encoding UTF8") as raised:
            await backend.record_batch([PersistedEvent("shop", "日", "x", {}, 1.5, "run")], batch_id="run:1")
        assert raised.value.retry is False
        assert await backend.list_events() == []


# -- maintenance, and what else the table promises


async def test_damaged_rows_go_to_a_quarantine_table(postgres_server, table):
    backend = PostgresPersistence(postgres_server.conninfo, table=table)
    await backend.record_batch([event(1), event(2), event(3)])
    with postgres_server.connect() as connection:
        connection.execute(f"UPDATE {table} SET payload = 'spoiled' WHERE seq = 2")
    (anomaly,) = (await backend.scan()).anomalies
    assert anomaly.line == 2
    report = await backend.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE))
    assert report.quarantined_files == (f"{table}_quarantine",)
    assert [one.payload["n"] for one in await backend.list_events()] == [1, 3]
    with postgres_server.connect() as connection:
        assert connection.execute(f"SELECT payload FROM {table}_quarantine").fetchall() == [("spoiled",)]
    await backend.aclose()


async def test_a_store_of_a_newer_version_is_left_alone(postgres_server, table):
    backend = PostgresPersistence(postgres_server.conninfo, table=table)
    await backend.open()
    with postgres_server.connect() as connection:
        connection.execute(f"UPDATE {table}_store SET version = 99")
    other = PostgresPersistence(postgres_server.conninfo, table=table)
    with pytest.raises(PersistenceError, match="install a newer papyra-contrib"):
        await other.record_event(event(1))
    await backend.aclose()
    await other.aclose()


async def test_reads_create_nothing(postgres_server, table):
    backend = PostgresPersistence(postgres_server.conninfo, table=table)
    assert await backend.list_events() == []
    assert not (await backend.scan()).has_anomalies
    await backend.ping()
    with postgres_server.connect() as connection:
        assert connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,)
    await backend.aclose()


async def test_a_connection_that_is_lost_amid_a_read_leaves_no_open_cursor(postgres_server, table):
    """The driver warns of one when it is collected."""
    async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend:
        await backend.record_batch([event(1), event(2)])
    with (
        postgres_server.connect() as connection,
        postgres_server.connect() as other,
        connection.transaction(),
    ):
        rows = _queries.numbered_rows(connection, _schema.Tables(table), sql.SQL("ORDER BY seq"), ())
        next(rows)
        other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(OperationalError):
            rows.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del rows
            gc.collect()


async def test_the_newest_records_are_read_without_a_sort_of_all(postgres_server, table, monkeypatch):
    plans: list[str] = []
    real = _queries.numbered_rows

    def explained(connection, tables, rest, values):
        statement = sql.SQL("EXPLAIN SELECT seq FROM {} {}").format(tables.facts, rest)
        plans.append(str(connection.execute(statement, list(values)).fetchall()))
        return real(connection, tables, rest, values)

    backend = PostgresPersistence(postgres_server.conninfo, table=table)
    await backend.record_batch([event(number) for number in range(3000)])
    monkeypatch.setattr(_queries, "numbered_rows", explained)
    assert [one.payload["n"] for one in await backend.list_events(limit=3)] == [2997, 2998, 2999]
    assert [one.payload["n"] for one in await backend.list_events(limit=1, actor="shop:1")] == [2999]
    assert len(plans) == 2
    assert not any("Sort" in plan for plan in plans)
    await backend.aclose()


async def test_r35_a_rare_actor_is_found_by_the_index_and_not_by_reading_all(postgres_server, table):
    backend = PostgresPersistence(postgres_server.conninfo, table=table)
    await backend.record_batch(
        [PersistedEvent("shop", f"shop:{n // 2}", "ActorStarted", {}, float(n), "run") for n in range(20_000)]
    )
    with postgres_server.connect() as connection:
        connection.execute(f"VACUUM ANALYZE {table}")
        for term in ("actor = 'shop:7'", "type = 'Rare'", "run = 'other'", "timestamp > 19990"):
            plan = connection.execute(f"EXPLAIN SELECT seq FROM {table} WHERE {term}").fetchall()
            assert f"{table}_by_place" in str(plan), plan
    assert len(await backend.list_events(limit=10, actor="shop:7")) == 2
    await backend.aclose()


async def test_r35_a_table_of_the_first_layout_gets_the_index_of_today(postgres_server, table, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(_schema, "_STEPS", _schema._STEPS[:1])
        older.setattr(_schema, "VERSION", 1)
        older.setattr(_schema, "_FORGET_FIRST_RANGE", "SELECT 1")
        backend = PostgresPersistence(postgres_server.conninfo, table=table)
        await backend.record_event(event(1))
        await backend.aclose()
    backend = PostgresPersistence(postgres_server.conninfo, table=table)
    await backend.record_event(event(2))
    assert [one.payload["n"] for one in await backend.list_events()] == [1, 2]
    with postgres_server.connect() as connection:
        names = connection.execute(
            "SELECT indexname FROM pg_indexes WHERE tablename = %s ORDER BY 1", (table,)
        )
        assert [name for (name,) in names] == [f"{table}_by_place", f"{table}_pkey"]
    await backend.aclose()


@pytest.mark.parametrize(
    "text", ["a\\b", "a\tb", "a\nb\r", "\\.", "\\N", "a\0b\x01", "\x010", "é\u2028\U0001f600", "'; --"]
)
async def test_r35_every_text_comes_back_as_it_was(postgres_server, table, text):
    backend = PostgresPersistence(postgres_server.conninfo, table=table)
    records = [
        PersistedEvent(text, text, text, {text: text, "none": None}, 1.5, "run"),
        PersistedEvent("shop", "shop:1", "ActorStarted", {}, 2.5, text),
        PersistedEvent("shop", "shop:1", "ActorStarted", {}, float("inf"), ""),
    ]
    await backend.record_batch(records, batch_id=f"{text}:1".replace("\0", ""))
    await backend.record_batch(records, batch_id=f"{text}:1".replace("\0", ""))
    assert await backend.list_events() == records
    assert not (await backend.scan()).has_anomalies
    await backend.aclose()


async def test_r35_a_text_of_another_type_is_stored_as_a_text(postgres_server, table):
    records = [
        PersistedEvent("shop", "shop:1", "ActorStarted", {}, 1.5, "run"),
        PersistedEvent(Word.ONE, Word.ONE, Word.ONE, {}, 1.5, Word.ONE),
        PersistedDeadLetter(Word.ONE, Word.ONE, Word.ONE, "x", 1.5, Word.ONE, Word.ONE, Word.ONE, Word.ONE),
    ]
    async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend:
        await backend.record_batch(records[:2])
        await backend.record_batch(records[2:])
        assert not (await backend.scan()).has_anomalies
        assert [*await backend.list_events(), *await backend.list_dead_letters()] == records


async def test_an_empty_name_of_a_target_is_not_none(postgres_server, table):
    letters = [PersistedDeadLetter("shop", "shop:1", "x", "x", 1.5, target_name=name) for name in ("", None)]
    async with aclosing(PostgresPersistence(postgres_server.conninfo, table=table)) as backend:
        await backend.record_batch(letters)
        assert await backend.list_dead_letters() == letters


@pytest.mark.parametrize(
    "value",
    [2**70, -(2**70), 1.5, None, True, float("nan"), float("inf"), "\ud800", ["é", {"a": ()}], object],
)
def test_rows_are_the_same_with_and_without_orjson(value, monkeypatch):
    record = PersistedEvent("shop", "shop:1", "ActorStarted", {"value": value}, 1.5, "run")
    fast = _rows.to_rows([record])
    monkeypatch.setattr(_rows, "orjson", None)
    assert _rows.to_rows([record]) == fast


STRANGE_TIMES = (0.5, 1e15, 1e22, float("nan"), float("inf"), -1.0, 7, True)
ordinary_events = st.builds(
    PersistedEvent,
    st.sampled_from(["shop", "a shop"]),
    st.integers(0, 10**9).map("shop:{}".format),
    st.sampled_from(["ActorStarted", ""]),
    st.dictionaries(st.text("abn", max_size=3), st.sampled_from([1, 1.5, True, "a\tb", [{}]]), max_size=2),
    st.floats(1.0, 1e14),
    st.sampled_from(["run", "", "r"]),
)
strange_events = st.builds(
    PersistedEvent,
    st.sampled_from(["shop", "\ud800"]),
    st.sampled_from(["shop:1", "é", "a\tb\n", "\r", "\0\x01", "a\\b"]),
    st.just("ActorStarted"),
    st.sampled_from(
        [{}, {"a": None}, {"a": "null"}, {"a": "é"}, {"a": float("nan")}, {"a": 2**70}, {"a": "\ud800"}]
    ),
    st.one_of(st.floats(), st.integers(-(10**20), 10**20), st.sampled_from(STRANGE_TIMES)),
    st.just("run"),
)
letters = st.builds(
    PersistedDeadLetter, *[st.sampled_from(["shop", "é", "\t"])] * 4, st.floats(), st.just("stopped")
)
batches = st.one_of(
    st.lists(ordinary_events, min_size=1), st.lists(ordinary_events | strange_events | letters, min_size=1)
)


@given(batches)
def test_rows_that_are_made_together_are_those_of_each_record(records):
    assert repr(_rows.to_rows(records)) == repr(list(map(_rows.to_row, records)))


def text_of_each(rows) -> tuple[str, int]:
    """Return what `copy_text` returns, with each value of each row escaped by itself."""
    texts = [(row[0], repr(row[1]), *row[2 : _rows.SIZE], *map(str, row[_rows.SIZE :])) for row in rows]
    lines = "".join("\t".join(map(_writing._escaped, row)) + "\n" for row in texts)
    return lines, sum(row[_rows.SIZE] for row in rows)


class Word(enum.StrEnum):
    """A text that formats as something else."""

    ONE = "one"

    def __str__(self) -> str:
        return "another text"

    __format__ = object.__format__


ODD_TEXTS = (
    "", "a", "\t", "\n", "\r", "\\", "\\N", "\\.", "\0", "\x01", "\x7f", "é", "\ud800", "null", "event",
    "5 6", "x" * 300, Word.ONE,
)  # fmt: skip
ODD_PAYLOADS = (
    {}, None, [], "x", 1, {"a": None}, {"a": "null"}, {"null": 1}, {"a": math.nan}, {"a": 2**70}, {"a": "\ud800"},
    {"a": "é"}, {"a": "\t\n\r\0\x01\\"}, {1: 2}, {"a": (1, 2)}, {"a": {1}}, {"a": b"x"}, {"a": -0.0}, {"a": 1e-7},
    {"a": Word.ONE}, *({"a": "x" * (2**20 - less)} for less in (0, 8, 9)), {"a": "é" * 2**19}, {"a": "\\" * 2**18},
)  # fmt: skip
ODD_TIMES = (
    0.0, -0.0, 1.0, 0.99999, 0.1, 1e-5, 1e-7, 5e-324, 999999999999999.9, 1e15, 1e16, 1e17, 1e22, 1e300, math.inf,
    -math.inf, math.nan, -1.0, 7, True, 2**70, 1764279000.123456,
)  # fmt: skip
ODD_VALUES = [
    *((field, text) for field in (0, 1, 2, 5) for text in ODD_TEXTS),
    *((3, payload) for payload in ODD_PAYLOADS),
    *((4, time) for time in ODD_TIMES),
]


@pytest.mark.parametrize(("field", "value"), ODD_VALUES, ids=[f"{f}-{v!r:.20}" for f, v in ODD_VALUES])
def test_one_odd_value_makes_no_difference_to_rows_and_their_text(field, value):
    """At every place of a batch that is ordinary otherwise, so that the short path is all but taken."""
    for size in (1, 3):
        for place in range(size):
            fields = [["shop", "shop:1", "ActorStarted", {"n": n}, 1.5 + n, "run"] for n in range(size)]
            fields[place][field] = value
            records = [PersistedEvent(*one) for one in fields]
            rows = list(map(_rows.to_row, records))
            assert repr(_rows.to_rows(records)) == repr(rows)
            assert _writing.copy_text(records) == text_of_each(rows)


@given(batches)
def test_r35_the_text_of_a_copy_is_that_of_each_row(records):
    rows = list(map(_rows.to_row, records))
    assert _writing.copy_text(records) == text_of_each(rows)


@pytest.mark.parametrize(
    ("kind", "payload", "details"),
    [
        (b"event", b"[", b""),
        (b"event", b"[" * 100_000, b""),
        (b"event\xff", b"{}", b""),
        (b"dead_letter", b"{}", b"7"),
        (b"audit", b"{}", b""),
        (b"audit", b"7", b""),
    ],
)
def test_a_row_that_another_program_wrote_is_not_a_record_whatever_its_sum(kind, payload, details):
    body = _rows._body(1.0, kind, b"shop", b"shop:1", b"T", b"", details, payload)
    sums = (len(body), zlib.crc32(body))
    row = _rows.StoredRow(1, kind, 1.0, b"shop", b"shop:1", b"T", b"", details, payload, *sums)
    assert _rows.row_is_valid(row)
    assert _rows.read_row(row) is None
    assert not _rows.row_is_valid(row._replace(timestamp=1))


def test_ordinary_events_take_the_short_path():
    """Or the two tests above compare the long one with itself."""
    records = [event(number) for number in (1, 2, 3)]
    assert _rows.ordinary_parts(records) is not None
    assert _writing._text_of_events(records) == _writing.copy_text(records)
    assert (
        _rows.ordinary_parts([*records, PersistedEvent("shop", "é", "ActorStarted", {}, 1.5, "run")]) is None
    )


@pytest.mark.parametrize("wrong", [b"shop", 5, None, ["shop"]])
@pytest.mark.parametrize("place", range(3))
async def test_a_field_of_the_wrong_type_is_an_error_and_not_a_text(wrong, place):
    fields = ["shop", "shop:1", "ActorStarted", {}, 1.5, "run"]
    fields[place] = wrong
    with pytest.raises(PersistenceError, match="a field of the wrong type"):
        _writing.copy_text([event(1), PersistedEvent(*fields)])


# -- R15: URLs


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
async def test_r15_both_schemes_open_the_store(postgres_server, table, scheme):
    url = postgres_server.url(table=table).replace("postgres://", f"{scheme}://", 1)
    backend = open_backend(url)
    assert isinstance(backend, PostgresPersistence)
    await backend.record_event(event(1))
    assert await stored_numbers(postgres_server, table) == [1]
    await backend.aclose()


async def test_r15_an_error_names_the_server_and_not_the_password():
    backend = open_backend("postgres://papyra:topsecret@127.0.0.1:1/shop?timeout=2s")
    with pytest.raises(PersistenceError, match=r"127\.0\.0\.1:1, database shop") as raised:
        await backend.ping()
    assert "topsecret" not in str(raised.value) + repr(raised.value.__cause__)
    await backend.aclose()


@pytest.fixture
def refusing_server(own_server):
    """A server that wants a password of the role ``guest``, and lets the role ``reader`` make no table."""
    access = own_server.folder / "data" / "pg_hba.conf"
    access.write_text("local all guest scram-sha-256\n" + access.read_text())
    with own_server.connect() as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'right'")
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("SELECT pg_reload_conf()")
    return own_server


@one_loop
async def test_r15_a_refusal_says_what_to_do(refusing_server, table):
    """A wrong password and a missing database had the advice to look whether the server runs."""
    for words, problem in (
        ("user=papyra dbname=missing", 'database "missing" does not exist. Create the database'),
        ("user=guest password=wrong dbname=postgres", 'failed for user "guest". Give a user and password'),
        ("user=guest dbname=postgres", "no password supplied. Give a user and password"),
        ("user=unknown dbname=postgres", 'role "unknown" does not exist. Give a user and password'),
        ("user=reader dbname=postgres", "for schema public. Grant the user CREATE on the schema"),
    ):
        async with aclosing(
            PostgresPersistence(f"host={refusing_server.folder} {words}", table=table)
        ) as backend:
            with pytest.raises(PersistenceError) as refused:
                await backend.record_event(event(1))
        assert problem in str(refused.value)
        assert refused.value.retry is ("reader" not in words)  # a connection may succeed later


def test_without_the_library_it_says_what_to_install():
    program = (
        "import sys; sys.modules['psycopg'] = sys.modules['orjson'] = None\n"
        "from papyra.persistence import open_backend\n"
        "try: open_backend('postgres://h/d')\n"
        "except ImportError as error: print(error)\n"
        "import papyra_contrib.sqlite, papyra_contrib._rows as rows\n"
        "assert rows.orjson is None\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "the plugin 'postgres' of papyra-contrib" in shown
    assert "pip install 'papyra-contrib[postgres]'" in shown


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgres://h/d?table=", "non-empty value"),
        ("postgres:", "needs an address"),
        ("postgres://h/d?table=Bad-Name", "lower-case name"),
        ("postgres://h/d?timeout=0s", "above 0"),
        ("postgres://h/d?colour=red", "no option 'colour'"),
    ],
)
def test_a_bad_url_says_what_is_wrong(url, problem):
    with pytest.raises(BackendURLError, match=problem):
        open_backend(url)
