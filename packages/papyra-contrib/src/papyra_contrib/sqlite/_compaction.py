"""Delete the rows that retention no longer keeps, and give their space back."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from papyra.persistence.models import CompactionReport
from papyra_contrib.sqlite._errors import primary_code
from papyra_contrib.sqlite._files import stored_bytes
from papyra_contrib.sqlite._queries import SMALLEST, kept_boundary, number_range
from papyra_contrib.sqlite._statement_progress import ticking

if TYPE_CHECKING:
    from pathlib import Path

    from papyra.persistence.blocking import Part, Work
    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib.sqlite._database import Database
    from papyra_contrib.sqlite._queries import Boundary

__all__ = ["compact", "preview"]

_BEYOND = "timestamp < :oldest OR seq < :first"

# Steps of SQLite's virtual machine for each row, as measured with SQLite 3.40: they only shape the progress.
_COUNT_STEPS, _DELETE_STEPS, _VACUUM_STEPS = 12, 20, 17


def preview(
    store: Database, policy: RetentionPolicy, now: float, name: str, work: Work, progress: Part
) -> CompactionReport:
    """Report what `compact` would do; the bytes after it are an estimate from the rows that would be left."""
    before_bytes = stored_bytes(store.path)

    def read(connection: sqlite3.Connection) -> CompactionReport:
        with ticking(connection, progress, _COUNT_STEPS * _rows_at_most(connection, store.path)):
            boundary = _boundary(connection, policy, now)
            records, size = connection.execute("SELECT count(*), total(size) FROM facts").fetchone()
            beyond, beyond_size = connection.execute(
                f"SELECT count(*), total(size) FROM facts WHERE {_BEYOND}",  # noqa: S608 - fixed words
                _values(boundary),
            ).fetchone()
        after = before_bytes if not beyond else int(before_bytes * (1 - beyond_size / max(size, 1)))
        return CompactionReport(name, records, records - beyond, before_bytes, after)

    return store.read(work, read, CompactionReport(name, 0, 0, before_bytes, before_bytes))


def compact(
    store: Database, policy: RetentionPolicy, now: float, name: str, work: Work, progress: Part
) -> CompactionReport:
    """Delete what the policy no longer keeps, rewrite the database without the gaps, and empty its log."""
    if not store.path.exists():
        store.refuse_if_irregular()
        return CompactionReport(name, 0, 0, 0, 0)
    before_bytes = stored_bytes(store.path)
    with store.transaction(work) as connection:
        steps = (_COUNT_STEPS + _DELETE_STEPS) * _rows_at_most(connection, store.path)
        with ticking(connection, progress.part(0, 0.5), steps):
            boundary = _boundary(connection, policy, now)
            (before,) = connection.execute("SELECT count(*) FROM facts").fetchone()
            removed = connection.execute(f"DELETE FROM facts WHERE {_BEYOND}", _values(boundary)).rowcount  # noqa: S608 - fixed words
    _give_back(store, before - removed, work, progress.part(0.5, 1))
    return CompactionReport(name, before, before - removed, before_bytes, stored_bytes(store.path))


def _give_back(store: Database, rows: int, work: Work, progress: Part) -> None:
    with store.guarded(), store.exclusively(work):
        connection = store.connection(work)
        with work.interruptible(connection):
            if connection.execute("PRAGMA freelist_count").fetchone()[0]:
                with ticking(connection, progress, _VACUUM_STEPS * rows):
                    _vacuum(connection)
            # Reads that are going on may keep the log from being emptied; then a later checkpoint does it.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _vacuum(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("VACUUM")
    except sqlite3.OperationalError as error:
        # It needs room for a copy. Without it, new records still take the place of the deleted ones.
        if primary_code(error) != sqlite3.SQLITE_FULL:
            raise


def _rows_at_most(connection: sqlite3.Connection, path: Path) -> int:
    lowest, highest = number_range(connection, path)
    return highest - lowest + 1


def _boundary(connection: sqlite3.Connection, policy: RetentionPolicy, now: float) -> Boundary:
    return kept_boundary(connection, policy, policy.oldest_kept(now), down_to=SMALLEST)


def _values(boundary: Boundary) -> dict[str, float | int]:
    return {"oldest": boundary.oldest, "first": boundary.first}
