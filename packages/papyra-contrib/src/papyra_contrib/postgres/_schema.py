"""The tables of a store, and the migration of those of older versions."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from psycopg import sql

from papyra.exceptions import PersistenceError

if TYPE_CHECKING:
    from papyra_contrib.postgres._connection import Connection

__all__ = ["COLUMNS", "Tables"]

COLUMNS = (
    "seq",
    "kind",
    "timestamp",
    "system_id",
    "actor",
    "type",
    "run",
    "details",
    "payload",
    "size",
    "crc",
)

LOCK_CLASS = 0x50617079  # "Papy": the first half of the advisory locks
MAX_NAME_BYTES = 40  # PostgreSQL cuts names at 63, and the indexes' names are longer

# Each step makes the layout of its number from the one before it. Never change one that was released: add the
# next. seq is drawn under an advisory lock that the writer holds until it commits, so it has the order of the
# commits. The sequence has no cache, or a connection would keep numbers from one transaction to the next.
_STEPS = (
    """
    CREATE TABLE {facts} (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL,
        timestamp double precision NOT NULL,
        system_id text NOT NULL,
        actor text NOT NULL,
        type text NOT NULL,
        run text NOT NULL,
        details text NOT NULL,
        payload text NOT NULL,
        size integer NOT NULL,
        crc bigint NOT NULL
    );
    CREATE INDEX {by_time} ON {facts} (timestamp, seq);
    CREATE INDEX {by_type} ON {facts} (kind, type, seq);
    CREATE INDEX {by_actor} ON {facts} (actor, seq);
    CREATE INDEX {by_run} ON {facts} (run, seq);
    CREATE TABLE {batches} (run text PRIMARY KEY, batch_id text NOT NULL, stored_at timestamptz NOT NULL);
    """,
    # Trees of four indexes took most of a write: 8.6 us of the server for a row, with this one 2.5. It has
    # a summary of every 32 pages. A vacuum fills it in; newer pages are read in full.
    """
    DROP INDEX IF EXISTS {by_time}, {by_type}, {by_actor}, {by_run};
    CREATE INDEX {by_place} ON {facts} USING brin (
        timestamp,
        run,
        type text_bloom_ops (n_distinct_per_range = 20),
        actor text_bloom_ops (n_distinct_per_range = 1000)
    ) WITH (pages_per_range = 32, autosummarize = on);
    """,
)
VERSION = len(_STEPS)

# An index of ranges that is created on an empty table has a summary of its first range, which each of the
# first 1,700 rows would change.
_FORGET_FIRST_RANGE = "SELECT brin_desummarize_range({by_place_name}, 0)"


class Tables:
    """The quoted names of a store's tables, and the creation of the tables."""

    def __init__(self, table: str) -> None:
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", table) or len(table) > MAX_NAME_BYTES:
            raise ValueError(
                f"table must be a lower-case name of at most {MAX_NAME_BYTES} letters, digits and underscores, not {table!r}"
            )
        self.facts = sql.Identifier(table)
        self.batches = sql.Identifier(f"{table}_batches")
        self.quarantine = sql.Identifier(f"{table}_quarantine")
        self.channel = sql.Identifier(table)
        self._meta = sql.Identifier(f"{table}_store")
        self.name = table
        self.lock_statement = sql.SQL("SELECT pg_advisory_xact_lock({}, hashtext({}))").format(
            LOCK_CLASS, sql.Literal(table)
        )
        self.quarantine_name = f"{table}_quarantine"
        self._names: dict[str, sql.Composable] = {
            "by_place_name": sql.Literal(f"{table}_by_place"),
            "facts": self.facts,
            "batches": self.batches,
            "quarantine": self.quarantine,
            "channel": self.channel,
            "meta": self._meta,
            **{
                f"by_{word}": sql.Identifier(f"{table}_by_{word}")
                for word in ("time", "type", "actor", "run", "place")
            },
        }

    def sql(self, text: str, **values: sql.Composable) -> sql.Composed:
        """Return a statement with ``{facts}``, ``{batches}`` and the like replaced by quoted names."""
        return sql.SQL(text).format(**self._names, **values)  # pyright: ignore[reportArgumentType] - a text of this package

    def lock(self, connection: Connection) -> None:
        """Take the lock of the writers until the transaction ends."""
        connection.execute(self.lock_statement)

    def exist(self, connection: Connection) -> bool:
        """Whether the tables exist. Raise `PersistenceError` if a newer version made them."""
        row = connection.execute("SELECT to_regclass(%s)", (f"{self.name}_store",)).fetchone()
        return row is not None and row[0] is not None and self._version(connection) > 0

    def _version(self, connection: Connection) -> int:
        row = connection.execute(self.sql("SELECT version FROM {meta}")).fetchone()
        version = int(row[0]) if row else 0
        if version > VERSION:
            raise PersistenceError(
                f"the store {self.name!r} has version {version} of the layout, but this papyra-contrib knows version "
                f"{VERSION}. It was not touched; install a newer papyra-contrib."
            )
        return version

    def make(self, connection: Connection) -> None:
        """Create missing tables, inside a transaction. Several processes may do so at once."""
        self.lock(connection)
        connection.execute(
            self.sql("CREATE TABLE IF NOT EXISTS {meta} (version integer NOT NULL, identity text NOT NULL)")
        )
        version = self._version(connection)
        for step in _STEPS[version:]:
            connection.execute(self.sql(step))
        if version == 0:
            connection.execute(self.sql(_FORGET_FIRST_RANGE))
            connection.execute(
                self.sql("INSERT INTO {meta} VALUES (%s, %s)"), (VERSION, secrets.token_hex(8))
            )
        elif version < VERSION:
            connection.execute(self.sql("UPDATE {meta} SET version = %s"), (VERSION,))

    def identity(self, connection: Connection) -> str:
        """Return an id that distinguishes this store from a later one with the same name."""
        row = connection.execute(self.sql("SELECT identity FROM {meta}")).fetchone()
        return str(row[0]) if row else ""
