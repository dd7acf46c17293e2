"""The last batch of each run, kept in the transaction of its records.

A batch that is offered again is not doubled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["copy_batch_ids", "has_batch", "note_batch"]

MAX_RUNS = 1_000


def has_batch(connection: sqlite3.Connection, batch_id: str) -> bool:
    """Return whether the records of this batch are stored. A run offers its last batch only."""
    row = connection.execute("SELECT 1 FROM batches WHERE run = ? AND batch = ?", (_run(batch_id), batch_id))
    return row.fetchone() is not None


def note_batch(connection: sqlite3.Connection, batch_id: str) -> None:
    """Keep the id of the run's last batch, and forget the runs that wrote nothing for the longest time."""
    connection.execute(
        "INSERT OR REPLACE INTO batches (run, batch) VALUES (?, ?)", (_run(batch_id), batch_id)
    )
    connection.execute(
        "DELETE FROM batches WHERE number <= (SELECT max(number) FROM batches) - ?", (MAX_RUNS,)
    )


def copy_batch_ids(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy the ids into a new database."""
    rows = source.execute("SELECT CAST(run AS BLOB), CAST(batch AS BLOB) FROM batches ORDER BY number")
    pairs = [(run.decode(), batch.decode()) for run, batch in rows]
    target.executemany("INSERT OR REPLACE INTO batches (run, batch) VALUES (?, ?)", pairs)


def _run(batch_id: str) -> str:
    return batch_id.rpartition(":")[0]
