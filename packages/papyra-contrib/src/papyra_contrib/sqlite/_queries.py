"""The queries: the newest rows that match, pages of the whole store, and where retention begins.

Each page is read from one state of the database and says where the next one begins. Numbers are given in the
order of the commits and never twice, so nothing is lost or doubled between pages, whatever others write or
compact.
"""

from __future__ import annotations

import math
import re
import sqlite3
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from papyra.persistence.models import PersistedAudit, PersistedRecord
from papyra.persistence.paging import Page, bad_cursor
from papyra.persistence.payload import clean_text
from papyra.persistence.query import Query
from papyra_contrib._rows import KINDS, read_row
from papyra_contrib.sqlite._files import stored_bytes
from papyra_contrib.sqlite._schema import identity_of, last_number, select_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import TypeGuard

    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib._rows import StoredRow

__all__ = [
    "NOWHERE",
    "SMALLEST",
    "Boundary",
    "Place",
    "Span",
    "begin_following",
    "begin_streaming",
    "count_rows",
    "find",
    "kept_boundary",
    "number_range",
    "place_of",
    "read_above",
    "read_below",
    "read_page",
]

SMALLEST = -(2**63)
_GREATEST = 2**63 - 1
_MIN_ROW_BYTES = 32  # bounds how many rows a file can hold
_PAGE_ROWS = 500
_PAGE_BYTES = 2**20
_CURSOR = re.compile(r"([0-9a-f]{16}):([0-9]{1,18})")

_R = TypeVar("_R", bound=PersistedRecord)


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where retention begins.

    A row is kept if its time is at least ``oldest`` and its number at least ``first``.
    """

    oldest: float
    first: int


def find(
    connection: sqlite3.Connection,
    query: Query[_R],
    policy: RetentionPolicy,
    now: float,
    wanted: Callable[[_R], bool] | None = None,
) -> list[_R]:
    """Return what matches and is kept, oldest first.

    With a limit, the cost depends on it and not on the store.
    """
    oldest = policy.oldest_kept(now)
    numbered = ((row.number, read_row(row)) for row in select_rows(connection, *_terms(query, oldest)))
    # SQLite looks for the next row when it is asked for, so the limit may count whole rows alone.
    whole = (
        (number, record)
        for number, record in numbered
        if _is_of_kind(record, query) and (wanted is None or wanted(record))
    )
    newest = list(islice(whole, None if query.limit is None else min(query.limit, _GREATEST)))
    if not newest:
        return []
    boundary = kept_boundary(connection, policy, oldest, down_to=newest[-1][0])
    return [record for number, record in reversed(newest) if number >= boundary.first]


def _is_of_kind(record: PersistedRecord | None, query: Query[_R]) -> TypeGuard[_R]:
    return record is not None and (query.kind is None or isinstance(record, query.kind))


def kept_boundary(
    connection: sqlite3.Connection, policy: RetentionPolicy, oldest: float, *, down_to: int
) -> Boundary:
    """Return where retention begins, looking no further back than the row ``down_to``."""
    first = down_to
    if policy.max_records is not None:
        first = _first_by_count(connection, policy.max_records, oldest, first)
    if policy.max_total_bytes is not None:
        first = _first_by_bytes(connection, policy.max_total_bytes, oldest, first)
    return Boundary(oldest, first)


def count_rows(connection: sqlite3.Connection, query: Query[Any], policy: RetentionPolicy, now: float) -> int:
    """Return how many rows match and are kept, at most ``query.limit``."""
    oldest = policy.oldest_kept(now)
    boundary = kept_boundary(connection, policy, oldest, down_to=SMALLEST)
    where, values = _matching_terms(query, oldest)
    counted = f"SELECT count(*) FROM facts WHERE {where} AND seq >= ?"  # noqa: S608 - fixed words; values are bound
    number: int = connection.execute(counted, [*values, boundary.first]).fetchone()[0]
    return number if query.limit is None else min(number, query.limit)


# -- page by page


@dataclass(frozen=True, slots=True)
class Place:
    """How far a follower has read; ``more`` if there was more than a page."""

    identity: str | None = None
    last: int = 0
    more: bool = False


NOWHERE = Place()
"""The place of a follower that began before the database existed: all its records will be new."""


@dataclass(frozen=True, slots=True)
class Span:
    """The rows that a stream has not yielded yet: from the number ``first`` up to, but without, ``below``."""

    identity: str
    since: float
    until: float
    first: int
    below: int


class _Page(NamedTuple):
    records: list[PersistedRecord]
    end: int | None  # the number of the last row on it; None if it is the last page


def begin_following(
    connection: sqlite3.Connection,
    limit: int,
    wanted: Callable[[PersistedRecord], bool] | None,
    policy: RetentionPolicy,
    now: float,
) -> tuple[list[PersistedRecord], Place]:
    """Return the newest ``limit`` wanted records, oldest first, and the place behind them."""
    newest: Query[PersistedRecord] = Query(limit=limit)
    records = find(connection, newest, policy, now, wanted)
    return records, Place(identity_of(connection), last_number(connection))


def read_above(
    connection: sqlite3.Connection, place: Place, wanted: Callable[[PersistedRecord], bool] | None
) -> tuple[list[PersistedRecord], Place]:
    """Return the wanted records on the page above a place, and the place behind that."""
    identity, last = identity_of(connection), last_number(connection)
    above = place.last if identity == place.identity else 0  # all is new in another database
    records, end = _page(select_rows(connection, "WHERE seq > ? ORDER BY seq", (above,)))
    # Where an older copy was restored, `last` goes back, and new rows have numbers that were read before.
    place = Place(identity, last) if end is None else Place(identity, end, more=True)
    return (records if wanted is None else list(filter(wanted, records))), place


def place_of(cursor: str | None) -> Place:
    """Return the place that a cursor names, which `read_page` made; anything else is a `ValueError`."""
    if not cursor:
        return NOWHERE
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise bad_cursor(cursor)
    return Place(match[1], int(match[2]))


def read_page(
    connection: sqlite3.Connection,
    query: Query[_R],
    place: Place,
    limit: int,
    policy: RetentionPolicy,
    now: float,
) -> Page[_R]:
    """Return the first ``limit`` records above a place that match and are kept, oldest first."""
    identity, last = identity_of(connection), last_number(connection)
    # Where an older copy was restored, `last` is lower, and new rows get numbers that were read before.
    above = min(place.last, last) if identity == place.identity else 0
    oldest = policy.oldest_kept(now)
    boundary = kept_boundary(connection, policy, oldest, down_to=SMALLEST)
    where, values = _matching_terms(query, oldest)
    rows = select_rows(
        connection, f"WHERE {where} AND seq > ? AND seq >= ? ORDER BY seq", [*values, above, boundary.first]
    )
    records: list[_R] = []
    for row in rows:
        record = read_row(row)
        if _is_of_kind(record, query):
            records.append(record)
        if len(records) == limit:
            return Page(records, f"{identity}:{row.number}")
    return Page(records, f"{identity}:{last}")


def begin_streaming(
    connection: sqlite3.Connection,
    since: float | None,
    until: float | None,
    policy: RetentionPolicy,
    now: float,
) -> Span:
    """Return the span of all that is kept now between two times."""
    boundary = kept_boundary(connection, policy, policy.oldest_kept(now), down_to=SMALLEST)
    return Span(
        identity_of(connection),
        boundary.oldest if since is None else max(since, boundary.oldest),
        math.inf if until is None else until,
        boundary.first,
        last_number(connection) + 1,
    )


def read_below(
    connection: sqlite3.Connection, span: Span
) -> tuple[list[PersistedRecord], Span | None] | None:
    """Return the page at the upper end of a span, newest first, and what is left.

    None in another database.
    """
    if identity_of(connection) != span.identity:
        return None
    records, end = _page(
        select_rows(
            connection,
            "WHERE seq >= ? AND seq < ? AND timestamp BETWEEN ? AND ? ORDER BY seq DESC",
            (span.first, span.below, span.since, span.until),
        )
    )
    return records, None if end is None else replace(span, below=end)


def _page(rows: Iterable[StoredRow]) -> _Page:
    records: list[PersistedRecord] = []
    size = 0
    for count, row in enumerate(rows, 1):
        record = read_row(row)
        if record is not None:
            records.append(record)
            size += len(row.payload)
        if count == _PAGE_ROWS or size > _PAGE_BYTES:
            return _Page(records, row.number)
    return _Page(records, None)


# -- conditions and bounds


def _terms(query: Query[_R], oldest: float) -> tuple[str, list[Any]]:
    where, values = _matching_terms(query, oldest)
    return f"WHERE {where} ORDER BY seq DESC", values


def _matching_terms(query: Query[Any], oldest: float) -> tuple[str, list[Any]]:
    """Return the condition of rows that match and are not older than ``oldest``, and its values."""
    since = oldest if query.since is None else max(query.since, oldest)
    terms: list[tuple[str, Any]] = []
    if query.kind is not None:
        terms.append(("kind = ?", KINDS[query.kind]))
    for column, wanted in (("type", query.type), ("actor", query.actor)):
        if wanted is not None:
            terms.append((f"{column} = ?", clean_text(wanted)))
            if query.kind in (None, PersistedAudit):  # audits have the columns, but nothing in them
                terms.append(("kind <> ?", KINDS[PersistedAudit]))
    if since > float("-inf"):
        terms.append(("timestamp >= ?", since))
    if query.until is not None:
        terms.append(("timestamp <= ?", query.until))
    where = " AND ".join(term for term, _ in terms) or "TRUE"
    return where, [value for _, value in terms]


def _first_by_count(connection: sqlite3.Connection, count: int, oldest: float, down_to: int) -> int:
    if count == 0:
        return _GREATEST
    newest: int | None = connection.execute("SELECT max(seq) FROM facts").fetchone()[0]
    if newest is None or newest - down_to < count:
        return down_to  # no two rows have one number, so there can't be more than that
    last = connection.execute(
        "SELECT seq FROM facts WHERE seq >= ? AND timestamp >= ? ORDER BY seq DESC LIMIT 1 OFFSET ?",
        (down_to, oldest, min(count - 1, _GREATEST)),
    ).fetchone()
    return down_to if last is None else int(last[0])


def _first_by_bytes(connection: sqlite3.Connection, limit: int, oldest: float, down_to: int) -> int:
    first, left = _GREATEST, limit
    for seq, size in connection.execute(
        "SELECT seq, size FROM facts WHERE seq >= ? AND timestamp >= ? ORDER BY seq DESC", (down_to, oldest)
    ):
        left -= size
        if left < 0:
            break
        first = seq
    return first


def number_range(connection: sqlite3.Connection, path: Path) -> tuple[int, int]:
    """Return the lowest and highest number a row may have.

    From the table, else an index, else the file's size.
    """
    lowest = _first_number(connection, "min")
    highest = _first_number(connection, "max")
    low = 1 if lowest is None else lowest
    return low, low + stored_bytes(path) // _MIN_ROW_BYTES if highest is None else highest


def _first_number(connection: sqlite3.Connection, end: str) -> int | None:
    for place in ("", "INDEXED BY facts_by_kind"):
        statement = f"SELECT {end}(seq) FROM facts {place} WHERE kind >= ''"  # noqa: S608 - fixed words
        try:
            (number,) = connection.execute(statement).fetchone()
        except sqlite3.Error:
            continue
        if isinstance(number, int):
            return number
    return None
