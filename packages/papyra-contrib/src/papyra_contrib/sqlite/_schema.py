"""The layout of the database, and how to recognize one that is ours."""

from __future__ import annotations

import re
import secrets
import sqlite3
from typing import TYPE_CHECKING, Any

from papyra.exceptions import PersistenceError
from papyra_contrib._rows import StoredRow
from papyra_contrib.sqlite._connect import begin_writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from papyra.persistence.blocking import Work

__all__ = [
    "COLUMNS",
    "INSERT",
    "NotOurs",
    "bring_up_to_date",
    "identity_of",
    "is_initialized",
    "last_number",
    "lay_out",
    "select_rows",
]

COLUMNS = "seq, kind, timestamp, system_id, actor, type, run, details, payload, size, crc"
"""The columns of a `StoredRow`."""

_COLUMNS_BEFORE_RUNS = COLUMNS.replace("run, details", "'' AS run, '' AS details")

INSERT = (
    "INSERT INTO facts (kind, timestamp, system_id, actor, type, run, details, payload, size, crc) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

APPLICATION_ID = 0x50617079  # "Papy"
VERSION = 2
"""Of the layout.

Version 1 has no columns ``run`` and ``details`` and no batch ids. It can be read; the next write adds them.
"""

_READABLE_VERSIONS = (1, VERSION)

# The short columns come before the payload, so that retention reads no overflow pages.
# AUTOINCREMENT: no number is given twice, even if its row was the newest and was deleted. Followers rely on
# that. The identity differs from that of a later database with the same name. It is in the schema, without
# which no row can be read either, so a recovery that saves rows can always read it.
_LAYOUT = """
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    timestamp REAL NOT NULL,
    size INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    system_id TEXT NOT NULL,
    actor TEXT NOT NULL,
    type TEXT NOT NULL,
    run TEXT NOT NULL DEFAULT '',
    details TEXT NOT NULL DEFAULT '',
    payload TEXT NOT NULL
);
CREATE TABLE batches (number INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, batch TEXT NOT NULL);
CREATE INDEX facts_by_kind ON facts (kind, seq, timestamp);
CREATE INDEX facts_by_type ON facts (kind, type, seq, timestamp);
CREATE INDEX facts_by_actor ON facts (kind, actor, seq, timestamp);
CREATE VIEW store AS SELECT '{identity}' AS identity;
INSERT INTO sqlite_sequence (name, seq) VALUES ('facts', {last});
PRAGMA application_id = {application};
PRAGMA user_version = {version};
"""

# DEFAULT: the INSERT of a process that still runs an older version has no such columns.
_ADD_RUNS = (
    "ALTER TABLE facts ADD COLUMN run TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE facts ADD COLUMN details TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE batches (number INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, batch TEXT NOT NULL)",
    f"PRAGMA user_version = {VERSION}",
)

_IDENTITY = re.compile(rb"[0-9a-f]{16}")


class NotOurs(PersistenceError):
    """The file is a database, but this version of the backend must not write to it."""


def is_initialized(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the database is ours; False if it is empty yet. Any other one is a `NotOurs`."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = _version_of(connection)
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (application, version, tables) == (0, 0, 0):
        return False
    if application != APPLICATION_ID:
        raise NotOurs(
            f"{path} is an SQLite database of another program (application_id {application:#x}, {tables} "
            "tables and indexes); it was not touched. Give the backend a file of its own."
        )
    if version not in _READABLE_VERSIONS:
        raise NotOurs(
            f"{path} has version {version} of the layout, and this papyra-contrib knows up to version {VERSION}; "
            "it was not touched. Install a newer papyra-contrib."
        )
    return True


def _version_of(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def select_rows(connection: sqlite3.Connection, rest: str, values: Sequence[Any] = ()) -> Iterator[StoredRow]:
    """Return the rows of ``SELECT ...

    FROM facts`` and ``rest``, from a database of any version of the layout.
    """
    columns = _COLUMNS_BEFORE_RUNS if _version_of(connection) == 1 else COLUMNS
    rows = connection.execute(f"SELECT {columns} FROM facts {rest}", values)  # noqa: S608 - fixed words; values are bound
    return map(StoredRow._make, rows)


def lay_out(connection: sqlite3.Connection, identity: str | None = None, last: int = 0) -> None:
    """Create the tables in an empty database in one transaction; numbers will be above ``last``."""
    layout = _LAYOUT.format(
        identity=identity or secrets.token_hex(8), last=last, application=APPLICATION_ID, version=VERSION
    )
    connection.executescript(f"BEGIN IMMEDIATE; {layout} COMMIT;")


def bring_up_to_date(connection: sqlite3.Connection, work: Work, timeout: float) -> None:
    """Add the columns that a database of an older version lacks. No row is rewritten."""
    if _version_of(connection) == VERSION:
        return
    begin_writing(connection, work, timeout)
    try:
        if _version_of(connection) != VERSION:
            for statement in _ADD_RUNS:
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def identity_of(connection: sqlite3.Connection) -> str:
    """Return the identity of this database, which no other one has, whatever file it is in."""
    row = connection.execute("SELECT identity FROM store").fetchone()
    if row is None or not isinstance(row[0], bytes) or not _IDENTITY.fullmatch(row[0]):
        raise sqlite3.DatabaseError("the database has no identity")
    return row[0].decode()


def last_number(connection: sqlite3.Connection) -> int:
    """Return the highest number that a row has, or had before it was compacted away."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'facts'").fetchone()
    if row is None or not isinstance(row[0], int):
        raise sqlite3.DatabaseError("the database does not know the last number it gave")
    return row[0]
