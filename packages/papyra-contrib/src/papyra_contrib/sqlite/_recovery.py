"""Repair a damaged database: copy every readable row into a new one, which then replaces it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papyra.persistence.blocking import Part
from papyra.persistence.models import (
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra_contrib._rows import row_is_valid
from papyra_contrib.sqlite._batch_ids import copy_batch_ids
from papyra_contrib.sqlite._connect import connect, connect_for_reading, use_wal
from papyra_contrib.sqlite._errors import primary_code
from papyra_contrib.sqlite._files import (
    beside,
    create_private,
    free_name,
    keep_aside,
    keep_orphan,
    orphan_log,
    resting,
)
from papyra_contrib.sqlite._queries import number_range
from papyra_contrib.sqlite._scan import scan
from papyra_contrib.sqlite._schema import (
    COLUMNS,
    NotOurs,
    identity_of,
    is_initialized,
    last_number,
    lay_out,
    select_rows,
)
from papyra_contrib.sqlite._statement_progress import along
from papyra_contrib.sqlite._swap import clear_building, finish_swap, publish, published, stranger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import PersistenceAnomaly, PersistenceRecoveryConfig
    from papyra_contrib._rows import StoredRow
    from papyra_contrib.sqlite._database import Database

__all__ = ["recover"]

MAX_FAILED_READS = 200_000  # of a damaged part, before the rest of it is given up


def recover(
    store: Database,
    config: PersistenceRecoveryConfig,
    name: str,
    work: Work,
    *,
    dry_run: bool = False,
) -> PersistenceRecoveryReport:
    """Scan, and repair the damage as ``config`` allows.

    A healthy database and that of another program stay as they are.
    """
    report = PersistenceScanReport(name, scan(store, work, work.part(0, 1)))
    if not report.has_anomalies or config.mode is PersistenceRecoveryMode.IGNORE:
        return PersistenceRecoveryReport(name, report)
    folder = Path(config.quarantine_dir or store.path.parent).absolute()
    with store.guarded():
        if dry_run:
            return _forecast(store, config, report, folder)
        with store.exclusively(work):
            return _repair(store, config, report, folder, work)


def _forecast(
    store: Database, config: PersistenceRecoveryConfig, report: PersistenceScanReport, folder: Path
) -> PersistenceRecoveryReport:
    damaged = _of_database(report.anomalies, store.path)
    strangers = (_movable_stranger(store.path), orphan_log(store.path))
    moved = [free_name(file, folder) for file in strangers if file is not None]
    if damaged:
        store.refuse_if_irregular()
        if _must_be_kept(config, store.path):
            moved.append(free_name(store.path, folder))
    repaired = damaged or published(store.path) is not None
    return PersistenceRecoveryReport(
        report.backend, report, (str(store.path),) if repaired else (), tuple(map(str, moved))
    )


def _repair(
    store: Database,
    config: PersistenceRecoveryConfig,
    report: PersistenceScanReport,
    folder: Path,
    work: Work,
) -> PersistenceRecoveryReport:
    done, work.total = work.total, 3 * work.total
    finished = finish_swap(store.path)
    moved = _move_strangers(store.path, folder)
    # Scan again now that no other process can write: one may have repaired it meanwhile.
    if not _of_database(scan(store, work, Part(work, done, 2 * done)), store.path):
        repaired = finished or _of_database(report.anomalies, store.path)
        return PersistenceRecoveryReport(
            report.backend, report, (str(store.path),) if repaired else (), moved
        )
    store.refuse_if_irregular()
    keep = _must_be_kept(config, store.path)
    store.disconnect()
    try:
        _build(store, work, Part(work, 2 * done, 3 * done))
        if keep:
            moved += (str(keep_aside(store.path, folder)),)
        publish(store.path)
    except BaseException:
        clear_building(store.path)
        raise
    store.mended()
    return PersistenceRecoveryReport(report.backend, report, (str(store.path),), moved)


def _must_be_kept(config: PersistenceRecoveryConfig, path: Path) -> bool:
    """Whether the damaged file goes to the quarantine; a database of another program is a `NotOurs`."""
    recognized = _recognized(path)
    # A file that can't be recognized as a store may be a user's only copy: never drop it.
    return config.mode is PersistenceRecoveryMode.QUARANTINE or not recognized


def _of_database(anomalies: Sequence[PersistenceAnomaly], path: Path) -> bool:
    """Whether any of the anomalies is more than a file beside the database."""
    return any(anomaly.path == str(path) for anomaly in anomalies)


def _movable_stranger(path: Path) -> Path | None:
    """Return the file that is in the way of a recovery, if it is one that can be quarantined."""
    found = stranger(path)
    if found is None or not found.is_file() or found.is_symlink() or beside(found, "-journal").exists():
        return None
    return found


def _move_strangers(path: Path, folder: Path) -> tuple[str, ...]:
    """Quarantine the files that are in the way of a recovery or of a new database."""
    moved: list[Path] = []
    if found := _movable_stranger(path):
        moved.append(keep_aside(found, folder))
        for suffix in ("", "-wal", "-shm"):
            beside(found, suffix).unlink(missing_ok=True)
    if log := orphan_log(path):
        moved.append(keep_orphan(log, folder))
    return tuple(map(str, moved))


def _recognized(path: Path) -> bool:
    """Whether the file is a database of ours, damaged or not; one of another program is a `NotOurs`."""
    with closing(connect_for_reading(path, resting(path))) as connection:
        try:
            # Lets SQLite read on if the schema is damaged, or the file is shorter than its header says.
            connection.execute("PRAGMA writable_schema = ON")
            return is_initialized(connection, path)
        except NotOurs:
            raise
        except sqlite3.Error:
            return False


def _build(store: Database, work: Work, progress: Part) -> None:
    building = clear_building(store.path)
    create_private(building, like=store.path)
    places = ", ".join("?" * len(COLUMNS.split(",")))
    insert = f"INSERT INTO facts ({COLUMNS}) VALUES ({places})"  # noqa: S608 - fixed words
    with closing(connect(building, "rw")) as target, closing(connect(store.path, "ro")) as source:
        source.execute("PRAGMA writable_schema = ON")
        low, high = number_range(source, store.path)
        use_wal(target, building, work, store.busy_timeout)
        lay_out(target, *_origin(source, high))
        with work.interruptible(source):
            target.execute("BEGIN")
            rows = along(_readable(source, (low, high), work), progress, low, high)
            target.executemany(insert, map(_as_text, rows))
            with suppress(
                sqlite3.Error, AttributeError, UnicodeDecodeError
            ):  # damaged: then a batch may be doubled
                copy_batch_ids(source, target)
            target.execute("COMMIT")
        # Closing does this as well but reports no failure, and only the main file is published.
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _origin(source: sqlite3.Connection, highest: int) -> tuple[str | None, int]:
    """Return the identity of a damaged database and its last number, with which followers can continue."""
    try:
        identity = identity_of(source)
    except sqlite3.Error:
        return None, 0  # then no row can be read either
    try:
        return identity, last_number(source)
    except sqlite3.Error:
        return identity, highest


def _as_text(row: StoredRow) -> list[Any]:
    # Valid rows hold only text that was UTF-8 when it was written.
    return [part.decode() if isinstance(part, bytes) else part for part in row]


def _readable(source: sqlite3.Connection, numbers: tuple[int, int], work: Work) -> Iterator[StoredRow]:
    """Yield every valid row that can be reached, in order; halve each range that can't be read as a whole."""
    failures, todo = 0, [numbers]
    while todo and failures < MAX_FAILED_READS:
        low, high = todo.pop()
        try:
            for row in select_rows(source, "WHERE seq BETWEEN ? AND ? ORDER BY seq", (low, high)):
                if not low <= row.number <= high:  # in a damaged tree, a page of rows may be reachable twice
                    continue
                low = row.number + 1
                if row_is_valid(row):
                    yield row
        except sqlite3.Error as error:
            work.check()
            if primary_code(error) == sqlite3.SQLITE_BUSY:
                raise
            failures += 1
            if low < high:
                middle = (low + high) // 2
                todo += [(middle + 1, high), (low, middle)]
