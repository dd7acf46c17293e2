"""What is read: the newest rows that match, within the retention policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from papyra.persistence.payload import clean_text
from papyra_contrib.sqlite._rows import COLUMNS, read_row

if TYPE_CHECKING:
    import sqlite3

    from papyra.persistence.models import PersistedRecord
    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib.sqlite._rows import StoredRow

__all__ = ["Boundary", "Query", "find", "kept_boundary"]

_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Query:
    """What a ``list_*`` call asks for."""

    kind: str
    limit: int | None = None
    since: float | None = None
    until: float | None = None
    word: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where retention begins: a row is kept if its time is at least ``oldest`` and its number at least ``first``."""

    oldest: float
    first: int


def find(
    connection: sqlite3.Connection, query: Query, policy: RetentionPolicy, now: float
) -> list[PersistedRecord]:
    """Return what matches and is kept, oldest first. With a limit, the cost depends on it and not on the store."""
    oldest = policy.oldest_kept(now)
    sql, values = _select(query, oldest)
    found: list[StoredRow] = connection.execute(sql, values).fetchall()
    if not found:
        return []
    boundary = kept_boundary(connection, policy, oldest, down_to=found[-1][0])
    records = (read_row(row) for row in reversed(found) if row[0] >= boundary.first)
    return [record for record in records if record is not None]


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


def _select(query: Query, oldest: float) -> tuple[str, list[Any]]:
    since = oldest if query.since is None else max(query.since, oldest)
    terms: list[tuple[str, Any]] = [("kind = ?", query.kind)]
    if query.word is not None:
        terms.append(("type = ?", clean_text(query.word)))
    if query.actor is not None:
        terms.append(("actor = ?", clean_text(query.actor)))
    if since > float("-inf"):
        terms.append(("timestamp >= ?", since))
    if query.until is not None:
        terms.append(("timestamp <= ?", query.until))
    where = " AND ".join(term for term, _ in terms)
    limit = -1 if query.limit is None else min(query.limit, _MOST)
    sql = f"SELECT {COLUMNS} FROM facts WHERE {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608 - fixed words; values are bound
    return sql, [*(value for _, value in terms), limit]


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
