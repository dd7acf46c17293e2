"""Follows a table: the server sends a notification after each commit, and rows are read by number."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from psycopg import errors, sql

from papyra_contrib._following import ServerFollower
from papyra_contrib.postgres._queries import find, numbered_rows

if TYPE_CHECKING:
    from papyra.persistence.blocking import Work
    from papyra.persistence.models import PersistedRecord
    from papyra_contrib.postgres._connection import Connection, Database
    from papyra_contrib.postgres._schema import Tables

__all__ = ["Follower"]

WAIT_SECONDS = 0.2  # for a notification; then a closed or cancelled follower ends
PAGE_ROWS = 500


class Follower(ServerFollower):
    """One listening connection, and the number of the last row that was read."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._tables = tables
        self._connection: Connection | None = None
        self._identity = ""
        self._last = 0

    def connect(self, work: Work) -> None:
        """Connect, and start to listen."""
        self._listening(work)

    def begin(self, work: Work) -> list[PersistedRecord]:
        """Return the newest records that match, oldest first. `next` continues after them."""
        connection = self._listening(work)
        with self._database.explained(), connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            if not self._tables.exist(connection):
                return []
            self._identity = self._tables.identity(connection)
            row = connection.execute(self._tables.sql("SELECT coalesce(max(seq), 0) FROM {facts}")).fetchone()
            self._last = int(row[0]) if row else 0
            return find(connection, self._tables, self.newest, self.policy, self.now, self.matches)

    def next(self, work: Work) -> list[PersistedRecord]:
        """Return the next records that match. Wait for them for at most `WAIT_SECONDS`."""
        connection = self._listening(work)
        with self._database.explained():
            rows = self._read(connection)
            if not rows:
                for _ in connection.notifies(timeout=WAIT_SECONDS, stop_after=1):
                    pass
                rows = self._read(connection)
        if rows:
            self._last = rows[-1][0]
        return [record for _, record in rows if record is not None and self.matches(record)]

    def _read(self, connection: Connection) -> list[tuple[int, PersistedRecord | None]]:
        # The tables may be dropped after the look whether they exist: then nothing is there to read.
        with suppress(errors.UndefinedTable), connection.transaction():
            if not self._tables.exist(connection):
                return []
            identity = self._tables.identity(connection)
            if identity != self._identity:  # the table was created again, so all its rows are new
                self._identity, self._last = identity, 0
            rest = sql.SQL("WHERE seq > %s ORDER BY seq LIMIT %s")
            return list(numbered_rows(connection, self._tables, rest, (self._last, PAGE_ROWS)))
        return []

    def _listening(self, work: Work) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect(work)
            with self._database.explained():
                self._connection.execute(self._tables.sql("LISTEN {channel}"))
        self._connection.work = work
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
