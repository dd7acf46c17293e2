"""Repair a damaged database: save every readable row into a new one and put that in its place."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papyra.persistence.models import (
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra_contrib.sqlite._files import beside, create_private, keep_aside, move_out
from papyra_contrib.sqlite._rows import COLUMNS, row_is_valid
from papyra_contrib.sqlite._scan import scan
from papyra_contrib.sqlite._schema import NotOurs, connect, is_initialized, lay_out, primary_code, use_wal
from papyra_contrib.sqlite._swap import clear_building, finish_swap, publish, stranger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from papyra.persistence.models import PersistenceAnomaly, PersistenceRecoveryConfig
    from papyra_contrib.sqlite._jobs import Job
    from papyra_contrib.sqlite._rows import StoredRow
    from papyra_contrib.sqlite._store import Store

__all__ = ["recover"]

_MOST_FAILURES = 200_000  # reads of a damaged part before the rest of it is given up
_LEAST_ROW = 32  # bytes; bounds how many rows a file can hold


def recover(
    store: Store, config: PersistenceRecoveryConfig, name: str, job: Job
) -> PersistenceRecoveryReport:
    """Scan, and repair what was found as ``config`` allows; a healthy or foreign database is left alone."""
    report = PersistenceScanReport(name, scan(store, job))
    if not report.has_anomalies or config.mode is PersistenceRecoveryMode.IGNORE:
        return PersistenceRecoveryReport(name, report)
    with store.guarded(), store.exclusively(job):
        finished = finish_swap(store.path)
        folder = Path(config.quarantine_dir or store.path.parent).absolute()
        moved = _move_stranger(store.path, folder)
        # Again, with all writers locked out: another may have repaired it meanwhile.
        if not _of_database(scan(store, job), store.path):
            repaired = finished or _of_database(report.anomalies, store.path)
            return PersistenceRecoveryReport(name, report, (str(store.path),) if repaired else (), moved)
        store.refuse_if_irregular()
        recognized = _recognized(store.path)
        store.disconnect()
        kept: Path | None = None
        try:
            _build(store, job)
            if config.mode is PersistenceRecoveryMode.QUARANTINE or not recognized:
                # A file that nothing shows to be ours may be somebody's only copy: never drop that.
                kept = keep_aside(store.path, folder)
            publish(store.path)
        except BaseException:
            clear_building(store.path)
            raise
        if kept is not None:
            moved += (str(move_out(kept, folder)),)
    return PersistenceRecoveryReport(name, report, (str(store.path),), moved)


def _of_database(anomalies: Sequence[PersistenceAnomaly], path: Path) -> bool:
    """Whether any of the anomalies is more than a file beside the database."""
    return any(anomaly.path != f"{path}.recovered" for anomaly in anomalies)


def _move_stranger(path: Path, folder: Path) -> tuple[str, ...]:
    """Quarantine a file that is in the way of a recovery, though this could be done without one."""
    found = stranger(path)
    if found is None or not found.is_file() or found.is_symlink() or beside(found, "-journal").exists():
        return ()
    kept = keep_aside(found, folder)
    for suffix in ("", "-wal", "-shm"):
        beside(found, suffix).unlink(missing_ok=True)
    return (str(move_out(kept, folder)),)


def _recognized(path: Path) -> bool:
    """Whether the file is a database of ours, damaged or not; one of another program is a `NotOurs`."""
    with closing(connect(path, "ro")) as connection:
        try:
            # Then SQLite reads on where the schema is damaged, or the file shorter than it says.
            connection.execute("PRAGMA writable_schema = ON")
            return is_initialized(connection, path)
        except NotOurs:
            raise
        except sqlite3.Error:
            return False


def _build(store: Store, job: Job) -> None:
    building = clear_building(store.path)
    create_private(building, like=store.path)
    places = ", ".join("?" * len(COLUMNS.split(",")))
    insert = f"INSERT INTO facts ({COLUMNS}) VALUES ({places})"  # noqa: S608 - fixed words
    with closing(connect(building, "rw")) as target, closing(connect(store.path, "ro")) as source:
        use_wal(target, building, job, store.busy_timeout)
        lay_out(target)
        source.execute("PRAGMA writable_schema = ON")
        with job.interruptible(source):
            target.execute("BEGIN")
            target.executemany(insert, map(_as_text, _readable(source, store.path, job)))
            target.execute("COMMIT")
        # Closing would do this as well, but would not tell if it failed; and only the main file is published.
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _as_text(row: StoredRow) -> list[Any]:
    # Valid rows hold only text that was UTF-8 when it was written.
    return [part.decode() if isinstance(part, bytes) else part for part in row]


def _readable(source: sqlite3.Connection, path: Path, job: Job) -> Iterator[StoredRow]:
    """Give every valid row that can be reached, in order, halving each range that can't be read through."""
    failures, todo = 0, [_range(source, path)]
    while todo and failures < _MOST_FAILURES:
        low, high = todo.pop()
        try:
            for row in source.execute(
                f"SELECT {COLUMNS} FROM facts WHERE seq BETWEEN ? AND ? ORDER BY seq",  # noqa: S608 - fixed words
                (low, high),
            ):
                low = row[0] + 1
                if row_is_valid(row):
                    yield row
        except sqlite3.Error as error:
            job.check()
            if primary_code(error) == sqlite3.SQLITE_BUSY:
                raise
            failures += 1
            if low < high:
                middle = (low + high) // 2
                todo += [(middle + 1, high), (low, middle)]


def _range(source: sqlite3.Connection, path: Path) -> tuple[int, int]:
    """Return the lowest and highest number a row may have: from the table, else an index, else the file's size."""
    lowest = _first_number(source, "min")
    highest = _first_number(source, "max")
    low = 1 if lowest is None else lowest
    return low, low + path.stat().st_size // _LEAST_ROW if highest is None else highest


def _first_number(source: sqlite3.Connection, end: str) -> int | None:
    for place in ("", "INDEXED BY facts_by_kind"):
        try:
            number = source.execute(f"SELECT {end}(seq) FROM facts {place} WHERE kind >= ''").fetchone()[0]  # noqa: S608 - fixed words
        except sqlite3.Error:
            continue
        if isinstance(number, int):
            return number
    return None
