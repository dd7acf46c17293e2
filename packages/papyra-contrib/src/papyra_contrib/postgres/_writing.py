"""A batch of records as one transaction, in four exchanges with the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from papyra_contrib._rows import SIZE, Row, timed_rows
from papyra_contrib.postgres._queries import storable
from papyra_contrib.postgres._schema import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import PersistedRecord
    from papyra_contrib.postgres._connection import Connection
    from papyra_contrib.postgres._schema import Tables

__all__ = ["write"]

PART_ROWS = 500  # sent while the next ones are made: the server works beside this process

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def write(
    connection: Connection, tables: Tables, records: Sequence[PersistedRecord], batch_id: str | None
) -> int:
    """Store records in a transaction of their own, and return their bytes; 0 if a batch of this id is stored.

    The connection is in autocommit. After an error the transaction is open, and the caller closes the
    connection.
    """
    cursor = connection.execute(_begin(tables, batch_id))
    while cursor.nextset():
        pass
    if batch_id is not None and cursor.rowcount != 1:
        connection.execute("ROLLBACK")
        return 0  # stored before, and the answer was lost
    size = 0
    statement = tables.sql(f"COPY {{facts}} ({', '.join(COLUMNS[1:])}) FROM STDIN")
    with connection.cursor() as into, into.copy(statement) as copy:
        for start in range(0, len(records), PART_ROWS):
            rows = timed_rows(records[start : start + PART_ROWS])
            size += sum(row[SIZE] for _, row in rows)
            copy.write(_copy_text(rows))
    connection.execute(tables.sql("NOTIFY {channel}; COMMIT"))
    return size


def _begin(tables: Tables, batch_id: str | None) -> sql.Composed:
    """Return what takes the writers' lock and notes the id as the last one of its run, if it is not that."""
    begin = sql.SQL("BEGIN; ") + tables.lock_statement
    if batch_id is None:
        return begin
    claim = (
        "; INSERT INTO {batches} VALUES ({run}, {batch}, now()) ON CONFLICT (run) DO UPDATE "
        "SET batch_id = excluded.batch_id, stored_at = now() WHERE {batches}.batch_id <> excluded.batch_id"
    )
    run = batch_id.rpartition(":")[0]
    return begin + tables.sql(claim, run=sql.Literal(run), batch=sql.Literal(batch_id))


def _copy_text(rows: Sequence[tuple[str, Row]]) -> str:
    """Return rows, each with its time as text, in the text format of ``COPY``."""
    text = _lines(rows)
    # One search in everything is cheaper than one in each value.
    if (
        text.count("\t") == len(rows) * (len(COLUMNS) - 2)
        and text.count("\n") == len(rows)
        and not any(special in text for special in "\r\0\x01")
    ):
        return text.replace("\\", r"\\")
    return _lines([(time, tuple(map(_escaped, row))) for time, row in rows])


def _lines(rows: Sequence[tuple[str, tuple[object, ...]]]) -> str:
    return "".join(
        [
            f"{kind}\t{time}\t{system}\t{actor}\t{word}\t{run}\t{details}\t{payload}\t{size}\t{crc}\n"
            for time, (kind, _, system, actor, word, run, details, payload, size, crc) in rows
        ]
    )


def _escaped(value: object) -> object:
    return storable(value).translate(_ESCAPES) if isinstance(value, str) else value
