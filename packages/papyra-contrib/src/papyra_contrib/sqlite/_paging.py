"""All rows, or the new ones: page by page, so that memory does not grow with the store.

Each page is read from one state of the database, and says where the next one begins. Numbers are given in the order
of the commits and never twice, so nothing is lost or doubled between pages, whatever others write or compact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from papyra.persistence.query import Query
from papyra_contrib._rows import read_row
from papyra_contrib.sqlite._queries import SMALLEST, find, kept_boundary
from papyra_contrib.sqlite._schema import identity_of, last_number, select_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from papyra.persistence.models import PersistedRecord
    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib._rows import StoredRow

__all__ = ["NOWHERE", "Place", "Span", "begin_following", "begin_streaming", "read_above", "read_below"]

_PAGE_ROWS = 500
_PAGE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where a follower has read; ``more`` tells that there was more than a page."""

    identity: str | None = None
    last: int = 0
    more: bool = False


NOWHERE = Place()
"""The place of a follower who came before there was a database: all in it will be new."""


@dataclass(frozen=True, slots=True)
class Span:
    """What a stream has not given yet: rows from the number ``first`` up to, but not with, ``below``."""

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
    found = find(connection, newest, policy, now, wanted)
    return found, Place(identity_of(connection), last_number(connection))


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
    """Return the page at the upper end of a span, newest first, and what is left; None in another database."""
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
