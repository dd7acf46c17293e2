"""The queries: rows that match, within the retention policy."""

from __future__ import annotations

import re
from contextlib import closing
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from psycopg import sql

from papyra.persistence.models import PersistedAudit, PersistedRecord
from papyra.persistence.paging import Page, bad_cursor
from papyra.persistence.payload import clean_text
from papyra_contrib._rows import KINDS, StoredRow, read_row
from papyra_contrib.postgres._schema import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib.postgres._connection import Connection
    from papyra_contrib.postgres._schema import Tables

__all__ = [
    "Boundary",
    "count",
    "find",
    "kept_boundary",
    "numbered_rows",
    "page_after",
    "page_below",
    "place_of",
    "storable",
    "stored_row",
]

PAGE_ROWS = 500
MAX_LIMIT = 2**62
_CURSOR = re.compile(r"([0-9a-f]{16})-([0-9]{1,19})")

_R = TypeVar("_R", bound=PersistedRecord)


class Boundary(NamedTuple):
    """Where retention begins.

    A row is kept if its time is at least ``oldest`` and its number at least ``first``.
    """

    oldest: float
    first: int


def stored_row(row: tuple[Any, ...]) -> StoredRow:
    """Return a row in the form that all SQL stores share, with texts as bytes."""
    return StoredRow(*(restored(value).encode() if isinstance(value, str) else value for value in row))


def storable(text: str) -> str:
    """Escape NUL, which PostgreSQL does not allow in texts, with the character U+0001."""
    return text.replace("\x01", "\x01\x01").replace("\0", "\x010") if "\0" in text or "\x01" in text else text


def restored(text: str) -> str:
    """Undo `storable`."""
    if "\x01" not in text:
        return text
    return "\x01".join(part.replace("\x010", "\0") for part in text.split("\x01\x01"))


def find(
    connection: Connection,
    tables: Tables,
    query: Query[_R],
    policy: RetentionPolicy,
    now: float,
    matches: Callable[[PersistedRecord], bool] | None = None,
) -> list[_R]:
    """Return the newest ``query.limit`` records that match and are kept, oldest first.

    Damaged rows are left out.
    """
    oldest = policy.oldest_kept(now)
    where, values = _where(query, oldest)
    if query.limit is not None and query.since is None and query.until is None and oldest == -inf:
        _read_from_the_newest(connection, tables, always=query.type is None and query.actor is None)
    rows = numbered_rows(connection, tables, sql.SQL("WHERE {} ORDER BY seq DESC").format(where), values)
    whole = (
        (number, record)
        for number, record in rows
        if record is not None and (matches is None or matches(record))
    )
    newest = list(islice(whole, query.limit if query.limit is None else min(query.limit, MAX_LIMIT)))
    if not newest:
        return []
    boundary = kept_boundary(connection, tables, policy, oldest, down_to=newest[-1][0])
    return [record for number, record in reversed(newest) if number >= boundary.first]  # type: ignore[misc]  # the query names the kind


def _read_from_the_newest(connection: Connection, tables: Tables, *, always: bool) -> None:
    """Keep the planner from sorting rows, ``always`` or if the table has no statistics.

    Without statistics, it would sort all rows first. With them, it knows when the index finds a few faster.
    """
    statement = (
        "SELECT set_config('enable_sort', 'off', true) FROM pg_class "
        "WHERE oid = {name}::regclass AND (reltuples < 0 OR %s)"
    )
    connection.execute(tables.sql(statement, name=sql.Literal(tables.name)), (always,))


def page_below(
    connection: Connection,
    tables: Tables,
    query: Query[Any],
    policy: RetentionPolicy,
    now: float,
    below: int | None,
) -> tuple[list[PersistedRecord], int]:
    """Return the next records below a row, newest first, and the row to continue below; 0 at the end."""
    oldest = policy.oldest_kept(now)
    where, values = _where(query, oldest)
    rest = sql.SQL("WHERE {} AND seq < %s ORDER BY seq DESC LIMIT %s").format(where)
    rows = list(
        numbered_rows(connection, tables, rest, [*values, MAX_LIMIT if below is None else below, PAGE_ROWS])
    )
    if not rows:
        return [], 0
    first = kept_boundary(connection, tables, policy, oldest, down_to=rows[-1][0]).first
    kept = [record for number, record in rows if record is not None and number >= first]
    return kept, rows[-1][0] if rows[-1][0] >= first else 0


def place_of(cursor: str | None) -> tuple[str, int]:
    """Return the store and the row that a cursor names; a text that is not a cursor is a `ValueError`."""
    if not cursor:
        return "", 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise bad_cursor(cursor)
    return match[1], int(match[2])


def page_after(
    connection: Connection,
    tables: Tables,
    query: Query[_R],
    policy: RetentionPolicy,
    now: float,
    place: tuple[str, int],
    limit: int,
) -> Page[_R]:
    """Return the first ``limit`` records after a row that match and are kept, in the order of the commits."""
    identity = tables.identity(connection)
    oldest = policy.oldest_kept(now)
    after = place[1] if place[0] == identity else 0
    first = kept_boundary(connection, tables, policy, oldest, down_to=after + 1).first
    where, values = _where(query, oldest)
    rest = sql.SQL("WHERE {} AND seq > %s AND seq >= %s ORDER BY seq").format(where)
    records: list[_R] = []
    last = after
    for number, record in numbered_rows(connection, tables, rest, [*values, after, first]):
        last = number
        if record is not None:
            records.append(record)  # type: ignore[arg-type]  # the query names the kind
        if len(records) == limit:
            break
    return Page(records, f"{identity}-{last}")


def count(
    connection: Connection, tables: Tables, query: Query[Any], policy: RetentionPolicy, now: float
) -> int:
    """Count the rows that match and are kept, at most ``query.limit``.

    Rows are not read, so damaged ones count.
    """
    oldest = policy.oldest_kept(now)
    where, values = _where(query, oldest)
    first = kept_boundary(connection, tables, policy, oldest, down_to=0).first
    statement = tables.sql("SELECT count(*) FROM {facts} WHERE seq >= %s AND ") + where
    row = connection.execute(statement, [first, *values]).fetchone()
    number = int(row[0]) if row else 0
    return number if query.limit is None else min(number, query.limit)


def numbered_rows(
    connection: Connection, tables: Tables, rest: sql.Composable, values: Iterable[Any]
) -> Iterator[tuple[int, PersistedRecord | None]]:
    """Yield number and record of rows, None for a damaged one. At most a page of them is in memory.

    Needs a transaction.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    statement = sql.SQL("SELECT {} FROM {} {}").format(columns, tables.facts, rest)
    # Closed twice: if the connection is lost, the first close raises before the cursor counts as closed.
    with closing(connection.cursor(name="papyra")) as cursor, cursor:
        cursor.itersize = PAGE_ROWS
        cursor.execute(statement, list(values))
        for row in cursor:
            yield row[0], read_row(stored_row(row))


def kept_boundary(
    connection: Connection, tables: Tables, policy: RetentionPolicy, oldest: float, *, down_to: int
) -> Boundary:
    """Return where retention begins. Do not search below the row ``down_to``."""
    first = down_to
    if policy.max_records is not None:
        first = _first_by_count(connection, tables, policy.max_records, oldest, first)
    if policy.max_total_bytes is not None:
        first = _first_by_bytes(connection, tables, policy.max_total_bytes, oldest, first)
    return Boundary(oldest, first)


def _first_by_count(connection: Connection, tables: Tables, limit: int, oldest: float, down_to: int) -> int:
    if limit == 0:
        return MAX_LIMIT
    statement = (
        "SELECT seq FROM {facts} WHERE seq >= %s AND timestamp >= %s ORDER BY seq DESC OFFSET %s LIMIT 1"
    )
    row = connection.execute(tables.sql(statement), (down_to, oldest, min(limit - 1, MAX_LIMIT))).fetchone()
    return down_to if row is None else int(row[0])


def _first_by_bytes(connection: Connection, tables: Tables, limit: int, oldest: float, down_to: int) -> int:
    statement = (
        "SELECT min(seq) FROM (SELECT seq, sum(size) OVER (ORDER BY seq DESC) AS total FROM {facts} "
        "WHERE seq >= %s AND timestamp >= %s) AS newest WHERE total <= %s"
    )
    row = connection.execute(tables.sql(statement), (down_to, oldest, limit)).fetchone()
    return MAX_LIMIT if row is None or row[0] is None else int(row[0])


def _where(query: Query[Any], oldest: float) -> tuple[sql.Composable, list[Any]]:
    terms: list[tuple[str, Any]] = [
        ("timestamp >= %s", oldest if query.since is None else max(query.since, oldest))
    ]
    if query.until is not None:
        terms.append(("timestamp <= %s", query.until))
    if query.kind is not None:
        terms.append(("kind = %s", KINDS[query.kind]))
    for column, wanted in (("type", query.type), ("actor", query.actor)):
        if wanted is not None:
            terms.append((f"{column} = %s", storable(clean_text(wanted))))
            if query.kind in (None, PersistedAudit):  # audits have the columns, but nothing in them
                terms.append(("kind <> %s", KINDS[PersistedAudit]))
    fixed = (sql.SQL(term) for term, _ in terms)  # pyright: ignore[reportArgumentType] - fixed words; values are bound
    words = sql.SQL(" AND ").join(fixed)
    return words, [value for _, value in terms]
