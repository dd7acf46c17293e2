"""All rows, or the new ones: page by page, so that memory does not grow with the store.

Each page is read from one state of the database, and says where the next one begins. Numbers are given in the order
of the commits and never twice, so nothing is lost or doubled between pages, whatever others write or compact.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from papyra.persistence.models import PersistedRecord
from papyra.persistence.paging import Page, bad_cursor
from papyra.persistence.query import Query
from papyra_contrib._rows import read_row
from papyra_contrib.sqlite._queries import SMALLEST, find, is_of_kind, kept_boundary, matching_terms
from papyra_contrib.sqlite._schema import identity_of, last_number, select_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib._rows import StoredRow

__all__ = [
    "NOWHERE",
    "Place",
    "Span",
    "begin_following",
    "begin_streaming",
    "place_of",
    "read_above",
    "read_below",
    "read_page",
]

_R = TypeVar("_R", bound=PersistedRecord)

_CURSOR = re.compile(r"([0-9a-f]{16}):([0-9]{1,18})")
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


def place_of(cursor: str | None) -> Place:
    """Return the place that a cursor names, which `read_page` made; anything else is a `ValueError`."""
    if not cursor:
        return NOWHERE
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise bad_cursor(cursor)
    return Place(found[1], int(found[2]))


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
    where, values = matching_terms(query, oldest)
    rows = select_rows(
        connection, f"WHERE {where} AND seq > ? AND seq >= ? ORDER BY seq", [*values, above, boundary.first]
    )
    found: list[_R] = []
    for row in rows:
        record = read_row(row)
        if is_of_kind(record, query):
            found.append(record)
        if len(found) == limit:
            return Page(found, f"{identity}:{row.number}")
    return Page(found, f"{identity}:{last}")


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
