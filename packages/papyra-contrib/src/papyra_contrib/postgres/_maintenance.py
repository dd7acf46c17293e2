"""Scan, recovery and compaction of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from papyra.persistence.models import (
    CompactionReport,
    PersistenceAnomaly,
    PersistenceAnomalyType,
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra_contrib.postgres._queries import kept_boundary, numbered_rows

if TYPE_CHECKING:
    from papyra.persistence.blocking import Work
    from papyra.persistence.models import PersistenceRecoveryConfig
    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib.postgres._connection import Connection
    from papyra_contrib.postgres._schema import Tables

__all__ = ["compact", "recover", "scan"]

CHECK_ROWS = 1000  # between two reports of progress


def damaged_rows(connection: Connection, tables: Tables, work: Work) -> list[int]:
    """Return the numbers of the rows whose check sum is wrong."""
    row = connection.execute(tables.sql("SELECT count(*) FROM {facts}")).fetchone()
    work.total = int(row[0]) if row else 0
    damaged: list[int] = []
    for position, (number, record) in enumerate(
        numbered_rows(connection, tables, sql.SQL("ORDER BY seq"), ()), 1
    ):
        if position % CHECK_ROWS == 0:
            work.check()
            work.reach(position)
        if record is None:
            damaged.append(number)
    return damaged


def scan(connection: Connection, tables: Tables, name: str, work: Work) -> list[PersistenceAnomaly]:
    """Report each row whose check sum is wrong. Needs a transaction."""
    return [_anomaly(name, number) for number in damaged_rows(connection, tables, work)]


def _anomaly(name: str, number: int) -> PersistenceAnomaly:
    detail = f"row {number} is not what was written"
    return PersistenceAnomaly(PersistenceAnomalyType.CRC_MISMATCH, name, detail, line=number)


def recover(
    connection: Connection,
    tables: Tables,
    config: PersistenceRecoveryConfig,
    backend: str,
    name: str,
    work: Work,
    *,
    dry_run: bool,
) -> PersistenceRecoveryReport:
    """Delete damaged rows, or move them to the quarantine table, in one transaction."""
    with connection.transaction():
        numbers = damaged_rows(connection, tables, work)
        report = PersistenceScanReport(backend, tuple(_anomaly(name, number) for number in numbers))
        if not numbers or config.mode is PersistenceRecoveryMode.IGNORE:
            return PersistenceRecoveryReport(backend, report)
        quarantine = config.mode is PersistenceRecoveryMode.QUARANTINE
        if not dry_run:
            _remove(connection, tables, numbers, quarantine=quarantine)
    kept_in = (tables.quarantine_name,) if quarantine else ()
    return PersistenceRecoveryReport(backend, report, (name,), kept_in)


def _remove(connection: Connection, tables: Tables, numbers: list[int], *, quarantine: bool) -> None:
    if quarantine:
        connection.execute(tables.sql("CREATE TABLE IF NOT EXISTS {quarantine} (LIKE {facts})"))
        connection.execute(
            tables.sql("INSERT INTO {quarantine} SELECT * FROM {facts} WHERE seq = ANY(%s)"), (numbers,)
        )
    connection.execute(tables.sql("DELETE FROM {facts} WHERE seq = ANY(%s)"), (numbers,))


def compact(
    connection: Connection,
    tables: Tables,
    policy: RetentionPolicy,
    now: float,
    backend: str,
    work: Work,
    *,
    dry_run: bool,
) -> CompactionReport:
    """Delete the records beyond retention, while others write. A vacuum frees the space for new rows."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        boundary = kept_boundary(connection, tables, policy, policy.oldest_kept(now), down_to=0)
        statement = "SELECT count(*), coalesce(sum(size), 0), count(*) FILTER ({0}), coalesce(sum(size) FILTER ({0}), 0)"
        kept = "WHERE seq >= %s AND timestamp >= %s"
        values = (boundary.first, boundary.oldest)
        row = connection.execute(
            tables.sql(f"{statement.format(kept)} FROM {{facts}}"), values + values
        ).fetchone()
        before, before_bytes, after, after_bytes = map(int, row) if row else (0, 0, 0, 0)
        work.total = before
        work.reach(after)
        if not dry_run and after < before:
            connection.execute(tables.sql("DELETE FROM {facts} WHERE seq < %s OR timestamp < %s"), values)
            connection.execute(
                tables.sql(
                    "DELETE FROM {batches} WHERE stored_at < now() - interval '1 day' "
                    "AND NOT EXISTS (SELECT FROM {facts} WHERE {facts}.run = {batches}.run)"
                )
            )
    if not dry_run and after < before:
        connection.execute(tables.sql("VACUUM {facts}"))
    return CompactionReport(backend, before, after, before_bytes, after_bytes)
