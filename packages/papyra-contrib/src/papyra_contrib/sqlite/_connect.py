"""Open connections to a database, and wait for other programs that have it locked."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from papyra.exceptions import PersistenceError
from papyra_contrib.sqlite._errors import primary_code

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from papyra.persistence.blocking import Work
    from papyra_contrib.sqlite._files import Stamp

__all__ = ["begin_writing", "connect", "connect_for_reading", "use_wal", "wait_for_recovery"]

BUSY_SECONDS = 0.1  # short, because SQLite can't be interrupted while it waits for a lock


def connect(path: Path, mode: Literal["ro", "rw", "ro&immutable=1"]) -> sqlite3.Connection:
    """Open an existing database for use in any one thread at a time; without a transaction of its own.

    One without a writer may be opened as immutable: no log or index is created beside it then.
    """
    connection = sqlite3.connect(
        # Three slashes: a path that begins with two would be taken for a host.
        f"file://{quote(str(path).encode('utf-8', 'surrogateescape'))}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = bytes  # damaged text must not raise
    connection.execute("PRAGMA trusted_schema = OFF")  # a crafted file must not run functions
    return connection


def connect_for_reading(path: Path, rest: Stamp | None) -> sqlite3.Connection:
    """Open a database that must not be changed.

    With the stamp of one at `resting`, no file is made beside it.
    """
    return connect(path, "ro" if rest is None else "ro&immutable=1")


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
