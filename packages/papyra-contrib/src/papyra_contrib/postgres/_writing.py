"""A batch of records as one transaction, for which this process waits twice.

The driver's own ``copy`` can't be one of several statements, and would wait four times.
"""

from __future__ import annotations

import zlib
from itertools import chain
from typing import TYPE_CHECKING, cast

from psycopg import errors, generators, pq, sql

from papyra_contrib._rows import PART_ROWS, SIZE, Row, number_texts, ordinary_parts, to_rows
from papyra_contrib.postgres._queries import storable
from papyra_contrib.postgres._schema import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.pq.abc import PGresult

    from papyra.persistence.models import PersistedEvent, PersistedRecord
    from papyra_contrib.postgres._connection import Connection
    from papyra_contrib.postgres._schema import Tables

__all__ = ["write"]

MAX_UNSENT_BYTES = 2**20
"""The most bytes in libpq's buffer before a wait for the server. libpq moves its whole buffer after each
partial send, so hundreds of megabytes at once would take minutes."""

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def write(
    connection: Connection, tables: Tables, records: Sequence[PersistedRecord], batch_id: str | None
) -> int:
    """Store records in one transaction, and return their bytes, or 0 if a batch with this id is stored.

    The connection is in autocommit. After an error the transaction is open, and the caller closes the
    connection.
    """
    pgconn = connection.pgconn
    pgconn.send_query(_transaction(tables, batch_id).as_bytes(connection))
    pgconn.flush()
    # Each part is prepared while the server works on the one before.
    texts = (copy_text(records[start : start + PART_ROWS]) for start in range(0, len(records), PART_ROWS))
    first = next(texts)
    begun = _results(connection)
    if batch_id is not None and begun[-2].command_tuples != 1:  # the one before COPY
        pgconn.put_copy_end(b"this batch is stored")  # and the answer was lost
        connection.wait(generators.execute(pgconn))
        connection.execute("ROLLBACK")
        return 0
    size = unsent = 0
    for text, text_size in chain((first,), texts):
        data = text.encode()
        size += text_size
        for start in range(0, len(data), MAX_UNSENT_BYTES):
            piece = data[start : start + MAX_UNSENT_BYTES]
            if unsent + len(piece) > MAX_UNSENT_BYTES:
                connection.flush()
                unsent = 0
            while pgconn.put_copy_data(piece) == 0:
                connection.flush()
            unsent += len(piece)
    pgconn.put_copy_end()
    _results(connection)
    return size


def _transaction(tables: Tables, batch_id: str | None) -> sql.Composed:
    """Return all statements of a batch.

    They take the writers' lock, store the id as the last one of its run unless it is already, and copy.
    """
    begin = sql.SQL("BEGIN; ") + tables.lock_statement
    if batch_id is not None:
        claim = (
            "; INSERT INTO {batches} VALUES ({run}, {batch}, now()) ON CONFLICT (run) DO UPDATE "
            "SET batch_id = excluded.batch_id, stored_at = now() WHERE {batches}.batch_id <> excluded.batch_id"
        )
        run = batch_id.rpartition(":")[0]
        begin += tables.sql(claim, run=sql.Literal(run), batch=sql.Literal(batch_id))
    columns = ", ".join(COLUMNS[1:])
    return begin + tables.sql(f"; COPY {{facts}} ({columns}) FROM STDIN; NOTIFY {{channel}}; COMMIT")


def _results(connection: Connection) -> list[PGresult]:
    """Send the rest, and return the results of the statements, or raise the first error among them."""
    results: list[PGresult] = connection.wait(generators.execute(connection.pgconn))
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            if connection.closed:
                raise errors.OperationalError(result.error_message.decode(errors="replace"))
            raise errors.error_from_result(result)
    return results


def copy_text(records: Sequence[PersistedRecord]) -> tuple[str, int]:
    """Return records in the text format of ``COPY``, and their bytes as stored."""
    return _text_of_events(records) or _text_of_rows(to_rows(records))


def _text_of_events(records: Sequence[PersistedRecord]) -> tuple[str, int] | None:
    """Return the text of ordinary events without making rows, or None if there are other records."""
    parts = ordinary_parts(records)
    if parts is None:
        return None
    events = cast("Sequence[PersistedEvent]", records)
    sizes = list(map(len, parts.bodies))
    sums = list(map(zlib.crc32, parts.bodies))
    columns = (events, parts.times, parts.payloads, number_texts(sizes), number_texts(sums))
    lines = [
        (
            "event",
            time,
            event.system_id,
            event.actor_address,
            event.event_type,
            event.run,
            "",
            payload,
            size,
            crc,
        )
        for event, time, payload, size, crc in zip(*columns, strict=True)
    ]
    text = _escaped_at_once(_lines(lines), len(lines))
    return None if text is None else (text, sum(sizes))


def _text_of_rows(rows: Sequence[Row]) -> tuple[str, int]:
    values = [(row[0], repr(row[1]), *row[2:SIZE], *map(str, row[SIZE:])) for row in rows]
    text = _escaped_at_once(_lines(values), len(rows))
    if text is None:
        text = _lines([tuple(map(_escaped, row)) for row in values])
    return text, sum(row[SIZE] for row in rows)


def _escaped_at_once(text: str, rows: int) -> str | None:
    """Return rows with their backslashes escaped, or None if a value has another special character.

    One search in the whole text is cheaper than one in each value.
    """
    if (
        text.count("\t") == rows * (len(COLUMNS) - 2)
        and text.count("\n") == rows
        and not any(special in text for special in "\r\0\x01")
    ):
        return text.replace("\\", r"\\")
    return None


def _lines(rows: Sequence[tuple[str, ...]]) -> str:
    # Joined, not formatted: a member of a string enum is stored as its text, like in the check sum.
    return "\n".join(map("\t".join, rows)) + "\n"


def _escaped(text: str) -> str:
    return storable(text).translate(_ESCAPES)
