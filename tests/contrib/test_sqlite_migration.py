"""Databases of version 1, whose rows had no run, are read as they are, and get the new columns at the next
write.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import aclosing, closing

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence.models import (
    PersistedAudit,
    PersistedDeadLetter,
    PersistedEvent,
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
)
from papyra_contrib.sqlite import SQLitePersistence

VERSION_1 = """
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    timestamp REAL NOT NULL,
    size INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    system_id TEXT NOT NULL,
    actor TEXT NOT NULL,
    type TEXT NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX facts_by_kind ON facts (kind, seq, timestamp);
CREATE INDEX facts_by_type ON facts (kind, type, seq, timestamp);
CREATE INDEX facts_by_actor ON facts (kind, actor, seq, timestamp);
CREATE VIEW store AS SELECT '0123456789abcdef' AS identity;
INSERT INTO sqlite_sequence (name, seq) VALUES ('facts', 0);
PRAGMA application_id = 1348563065;
PRAGMA user_version = 1;
"""
INSERT_1 = (
    "INSERT INTO facts (kind, timestamp, system_id, actor, type, payload, size, crc) VALUES (?,?,?,?,?,?,?,?)"
)

EVENT = PersistedEvent("local", "local:1", "ActorStarted", {}, 1e9)
LETTER = PersistedDeadLetter("local", "local:2", "str", "late", 1e9 + 1)
AUDIT = PersistedAudit("local", 1e9 + 2, 5, 3, 1, 1, 2, ("a",), (), 7)
NEW = PersistedEvent("local", "local:3", "ActorStarted", {"type": "app.Orders"}, 1e9 + 3, "0Run00000001")


def row_1(kind, timestamp, actor, word, payload):
    """Build a row as version 1 did."""
    text = json.dumps(payload, separators=(",", ":"))
    head = f"{timestamp!r} {len(kind)} {len('local')} {len(actor)} {len(word)} "
    body = f"{head}{kind}local{actor}{word}{text}".encode()
    return kind, timestamp, "local", actor, word, text, len(body), zlib.crc32(body)


ROWS_1 = (
    row_1("event", 1e9, "local:1", "ActorStarted", {}),
    row_1("dead_letter", 1e9 + 1, "local:2", "str", "late"),
    row_1("audit", 1e9 + 2, "", "", {
        "total_actors": 5, "alive_actors": 3, "stopping_actors": 1, "restarting_actors": 1, "registry_size": 2,
        "registry_orphans": ["a"], "registry_dead": [], "dead_letters_count": 7,
    }),
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "facts.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(VERSION_1)
        connection.executemany(INSERT_1, ROWS_1)
    return path


def version(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


async def everything(backend):
    return [*await backend.list_events(), *await backend.list_dead_letters(), *await backend.list_audits()]


async def test_r01_an_old_database_is_read_and_not_changed(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        assert await everything(backend) == [EVENT, LETTER, AUDIT]
        assert [record async for record in backend.stream()] == [AUDIT, LETTER, EVENT]
        assert not (await backend.scan()).has_anomalies
        assert await backend.list_events(actor="local:1", event_type="ActorStarted") == [EVENT]
    assert version(path) == 1


async def test_r01_a_write_adds_the_columns_and_keeps_the_rows(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(NEW)
        assert await everything(backend) == [EVENT, NEW, LETTER, AUDIT]
        assert not (await backend.scan()).has_anomalies
    assert version(path) == 2
    async with aclosing(SQLitePersistence(path)) as backend:
        assert await everything(backend) == [EVENT, NEW, LETTER, AUDIT]
        assert (await backend.compact()).invalid_records == 0
        assert await everything(backend) == [EVENT, NEW, LETTER, AUDIT]


async def test_r01_a_change_that_fails_leaves_the_old_database_as_it_was(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE batches (of_another_program)")
        connection.commit()
        before = list(connection.iterdump())
    async with aclosing(SQLitePersistence(path)) as backend:
        with pytest.raises(PersistenceError, match="table batches already exists"):
            await backend.record_event(NEW)
        assert await everything(backend) == [EVENT, LETTER, AUDIT]
    with closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before


async def test_a_process_of_the_old_version_goes_on_writing(path):
    async with aclosing(SQLitePersistence(path)) as backend:
        with closing(sqlite3.connect(path, isolation_level=None)) as older:
            older.execute(INSERT_1, ROWS_1[0])
            await backend.record_event(NEW)
            older.execute(INSERT_1, ROWS_1[0])
        assert await backend.list_events() == [EVENT, EVENT, NEW, EVENT]
        assert not (await backend.scan()).has_anomalies


async def test_a_follower_of_an_old_database_sees_what_the_new_version_writes(path):
    async with aclosing(SQLitePersistence(path)) as backend, aclosing(backend.follow(limit=1)) as records:
        assert await anext(records) == AUDIT
        await backend.record_event(NEW)
        assert await anext(records) == NEW


@pytest.mark.parametrize("mode", [PersistenceRecoveryMode.REPAIR, PersistenceRecoveryMode.QUARANTINE])
async def test_a_damaged_old_database_is_repaired_into_a_new_one(path, mode):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE facts SET payload = '\"changed\"' WHERE kind = 'dead_letter'")
    async with aclosing(SQLitePersistence(path)) as backend:
        assert len((await backend.scan()).anomalies) == 1
        await backend.recover(PersistenceRecoveryConfig(mode))
        assert await everything(backend) == [EVENT, AUDIT]
        assert not (await backend.scan()).has_anomalies
    assert version(path) == 2
