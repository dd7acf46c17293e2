"""The database: its layout, how it is told from other databases, and how connections to it are opened."""

from __future__ import annotations

import re
import secrets
import sqlite3
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from papyra.exceptions import PersistenceError
from papyra_contrib._rows import StoredRow
from papyra_contrib.sqlite._errors import primary_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Literal

    from papyra.persistence.blocking import Work
    from papyra_contrib.sqlite._files import Stamp

__all__ = [
    "COLUMNS",
    "INSERT",
    "NotOurs",
    "begin_writing",
    "bring_up_to_date",
    "connect",
    "connect_for_reading",
    "identity_of",
    "is_initialized",
    "last_number",
    "lay_out",
    "select_rows",
    "use_wal",
    "wait_for_recovery",
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
"""Of the layout. Version 1 has no columns ``run`` and ``details`` and no batch ids: it is read as it is, and the next write adds them."""

_READABLE_VERSIONS = (1, VERSION)

# The short columns come before the payload, so that retention reads no overflow pages.
# AUTOINCREMENT: a number is never given twice, though its row was the newest and is gone; followers rely on that.
# The identity tells the database from another that has its name later. It stands in the schema, without which
# no row can be read either, so a recovery has it whenever it saves rows.
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

# DEFAULT: a process that still runs an older version goes on with its INSERT.
_ADD_RUNS = (
    "ALTER TABLE facts ADD COLUMN run TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE facts ADD COLUMN details TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE batches (number INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, batch TEXT NOT NULL)",
    f"PRAGMA user_version = {VERSION}",
)

_IDENTITY = re.compile(rb"[0-9a-f]{16}")
_BUSY_SLICE = 0.1  # seconds; short, because SQLite can't be interrupted while it waits for a lock


class NotOurs(PersistenceError):
    """The file is a database, but this version of the backend must not write to it."""


def connect(path: Path, mode: Literal["ro", "rw", "ro&immutable=1"]) -> sqlite3.Connection:
    """Open an existing database for use in any one thread at a time; without a transaction of its own.

    One that nobody writes to may be opened as immutable: then no log or index is made beside it.
    """
    connection = sqlite3.connect(
        # Three slashes: a path that begins with two would be taken for a host.
        f"file://{quote(str(path).encode('utf-8', 'surrogateescape'))}?mode={mode}",
        uri=True,
        timeout=_BUSY_SLICE,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.text_factory = bytes  # damaged text must not raise
        connection.execute("PRAGMA trusted_schema = OFF")  # a crafted file must not run functions
    except BaseException:
        connection.close()
        raise
    return connection


def connect_for_reading(path: Path, rest: Stamp | None) -> sqlite3.Connection:
    """Open a database that must not be changed; with the stamp of one at `resting`, no file is made beside it."""
    return connect(path, "ro" if rest is None else "ro&immutable=1")


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
            "tables and indexes); it was not touched: give the backend a file of its own"
        )
    if version not in _READABLE_VERSIONS:
        raise NotOurs(
            f"{path} has version {version} of the layout, and this papyra-contrib knows up to version {VERSION}; "
            "it was not touched: install a newer papyra-contrib"
        )
    return True


def _version_of(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def select_rows(connection: sqlite3.Connection, rest: str, values: Sequence[Any] = ()) -> Iterator[StoredRow]:
    """Return the rows of ``SELECT ... FROM facts`` and ``rest``, from a database of any version of the layout."""
    columns = _COLUMNS_BEFORE_RUNS if _version_of(connection) == 1 else COLUMNS
    found = connection.execute(f"SELECT {columns} FROM facts {rest}", values)  # noqa: S608 - fixed words; values are bound
    return map(StoredRow._make, found)


def lay_out(connection: sqlite3.Connection, identity: str | None = None, last: int = 0) -> None:
    """Make the tables in an empty database, all or none; numbers will be above ``last``."""
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
    """Return what tells this database from all others, whatever file it is in."""
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


def use_wal(connection: sqlite3.Connection, path: Path, work: Work, timeout: float) -> None:
    """Keep a write-ahead log, so that reads and writes don't wait for each other."""
    (mode,) = _when_free(connection, "PRAGMA journal_mode = WAL", work, timeout).fetchone()
    if mode != b"wal":
        raise PersistenceError(f"SQLite can't keep a write-ahead log for {path}; use a local file system")


def wait_for_recovery(connection: sqlite3.Connection, work: Work, timeout: float) -> None:
    """Wait until another process has read the log of one that died, which may take its time."""
    _when_free(connection, "PRAGMA application_id", work, timeout).fetchall()


def begin_writing(connection: sqlite3.Connection, work: Work, timeout: float) -> None:
    """Begin a transaction that may write, waiting up to ``timeout`` seconds for another program's."""
    _when_free(connection, "BEGIN IMMEDIATE", work, timeout)


def _when_free(connection: sqlite3.Connection, statement: str, work: Work, timeout: float) -> sqlite3.Cursor:
    deadline = time.monotonic() + timeout
    while True:
        work.check()
        try:
            return connection.execute(statement)
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
