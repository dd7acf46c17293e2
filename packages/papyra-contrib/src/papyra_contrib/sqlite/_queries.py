"""What is read: the newest rows that match, within the retention policy."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from papyra.persistence.models import PersistedAudit, PersistedRecord
from papyra.persistence.payload import clean_text
from papyra_contrib._rows import KINDS, read_row
from papyra_contrib.sqlite._files import stored_bytes
from papyra_contrib.sqlite._schema import select_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeGuard

    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy

__all__ = [
    "SMALLEST",
    "Boundary",
    "count_rows",
    "find",
    "is_of_kind",
    "kept_boundary",
    "matching_terms",
    "number_range",
]

SMALLEST = -(2**63)
_MOST = 2**63 - 1
_LEAST_ROW = 32  # bytes; bounds how many rows a file can hold

_R = TypeVar("_R", bound=PersistedRecord)


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where retention begins: a row is kept if its time is at least ``oldest`` and its number at least ``first``."""

    oldest: float
    first: int


def find(
    connection: sqlite3.Connection,
    query: Query[_R],
    policy: RetentionPolicy,
    now: float,
    wanted: Callable[[_R], bool] | None = None,
) -> list[_R]:
    """Return what matches and is kept, oldest first. With a limit, the cost depends on it and not on the store."""
    oldest = policy.oldest_kept(now)
    numbered = ((row.number, read_row(row)) for row in select_rows(connection, *_terms(query, oldest)))
    # SQLite looks for the next row when it is asked for, so the limit may count whole rows alone.
    whole = (
        (number, record)
        for number, record in numbered
        if is_of_kind(record, query) and (wanted is None or wanted(record))
    )
    found = list(islice(whole, None if query.limit is None else min(query.limit, _MOST)))
    if not found:
        return []
    boundary = kept_boundary(connection, policy, oldest, down_to=found[-1][0])
    return [record for number, record in reversed(found) if number >= boundary.first]


def is_of_kind(record: PersistedRecord | None, query: Query[_R]) -> TypeGuard[_R]:
    return record is not None and (query.kind is None or isinstance(record, query.kind))


def kept_boundary(
    connection: sqlite3.Connection, policy: RetentionPolicy, oldest: float, *, down_to: int
) -> Boundary:
    """Tell where retention begins, looking no further back than the row ``down_to``."""
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
    where, values = matching_terms(query, oldest)
    counted = f"SELECT count(*) FROM facts WHERE {where} AND seq >= ?"  # noqa: S608 - fixed words; values are bound
    found: int = connection.execute(counted, [*values, boundary.first]).fetchone()[0]
    return found if query.limit is None else min(found, query.limit)


def _terms(query: Query[_R], oldest: float) -> tuple[str, list[Any]]:
    where, values = matching_terms(query, oldest)
    return f"WHERE {where} ORDER BY seq DESC", values


def matching_terms(query: Query[Any], oldest: float) -> tuple[str, list[Any]]:
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
        return _MOST
    newest: int | None = connection.execute("SELECT max(seq) FROM facts").fetchone()[0]
    if newest is None or newest - down_to < count:
        return down_to  # no two rows have one number, so there can't be more than that
    last = connection.execute(
        "SELECT seq FROM facts WHERE seq >= ? AND timestamp >= ? ORDER BY seq DESC LIMIT 1 OFFSET ?",
        (down_to, oldest, min(count - 1, _MOST)),
    ).fetchone()
    return down_to if last is None else int(last[0])


def _first_by_bytes(connection: sqlite3.Connection, limit: int, oldest: float, down_to: int) -> int:
    first, left = _MOST, limit
    for seq, size in connection.execute(
        "SELECT seq, size FROM facts WHERE seq >= ? AND timestamp >= ? ORDER BY seq DESC", (down_to, oldest)
    ):
        left -= size
        if left < 0:
            break
        first = seq
    return first


def number_range(connection: sqlite3.Connection, path: Path) -> tuple[int, int]:
    """Return the lowest and highest number a row may have: from the table, else an index, else the file's size."""
    lowest = _first_number(connection, "min")
    highest = _first_number(connection, "max")
    low = 1 if lowest is None else lowest
    return low, low + stored_bytes(path) // _LEAST_ROW if highest is None else highest


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
