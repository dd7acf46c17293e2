"""Look for damage: run SQLite's own check, and compare each row with its check sum."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.models import PersistenceAnomaly, PersistenceAnomalyType
from papyra_contrib._rows import row_is_valid
from papyra_contrib.sqlite._errors import is_damage, primary_code
from papyra_contrib.sqlite._files import complaint, orphan_log
from papyra_contrib.sqlite._queries import number_range
from papyra_contrib.sqlite._schema import NotOurs, identity_of, last_number, select_rows
from papyra_contrib.sqlite._statement_progress import along, ticking
from papyra_contrib.sqlite._swap import published, stranger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from papyra.persistence.blocking import Part, Work
    from papyra_contrib.sqlite._database import Database

__all__ = ["scan"]

MAX_COMPLAINTS = 100
_CHECK_STEPS = 36  # of SQLite's virtual machine for each row, as measured with SQLite 3.40


def scan(store: Database, work: Work, progress: Part) -> tuple[PersistenceAnomaly, ...]:
    """Return every anomaly, and change nothing; a file that this process can't read is an error."""
    path = str(store.path)
    problem = complaint(store.path)
    if problem:
        return (PersistenceAnomaly(PersistenceAnomalyType.UNREADABLE_FILE, path, problem),)
    with store.guarded():
        anomalies = list(_leftover(store.path))
    try:
        anomalies += store.read(work, lambda connection: list(_check(connection, path, progress)), [])
    except NotOurs as error:
        anomalies.append(PersistenceAnomaly(PersistenceAnomalyType.UNEXPECTED_FILE, path, str(error)))
    except PersistenceError as error:
        cause = error.__cause__
        if not (isinstance(cause, sqlite3.Error) and is_damage(cause)):
            raise  # nothing of the store can be read, so nothing can be said about it
        anomalies.append(_unreadable(cause, path))
    return tuple(anomalies)


def _leftover(path: Path) -> Iterator[PersistenceAnomaly]:
    if pending := published(path):
        detail = "a recovery was interrupted; another one, or the next record, finishes it"
        yield PersistenceAnomaly(PersistenceAnomalyType.UNEXPECTED_FILE, str(pending), detail)
    elif found := stranger(path):
        detail = "it has the name of a finished recovery, but no recovery wrote it; recover moves it away"
        yield PersistenceAnomaly(PersistenceAnomalyType.UNEXPECTED_FILE, str(found), detail)
    elif log := orphan_log(path):
        detail = (
            "the log of a database that was moved away without it; the next record, or recover, moves it away"
        )
        yield PersistenceAnomaly(PersistenceAnomalyType.UNEXPECTED_FILE, str(log), detail)


def _check(connection: sqlite3.Connection, path: str, progress: Part) -> Iterator[PersistenceAnomaly]:
    damaged = False
    try:
        connection.execute("PRAGMA cell_size_check = ON")
        identity_of(connection)
        last_number(connection)
        low, high = number_range(connection, Path(path))
        with ticking(connection, progress.part(0, 0.5), _CHECK_STEPS * (high - low + 1)):
            for (line,) in connection.execute(f"PRAGMA integrity_check({MAX_COMPLAINTS})"):
                if line != b"ok":
                    damaged = True
                    detail = line.decode("utf-8", "replace").replace("\n", "; ")
                    yield PersistenceAnomaly(PersistenceAnomalyType.INTEGRITY, path, detail)
        rows = select_rows(connection, "ORDER BY seq")
        for row in along(rows, progress.part(0.5, 1), low, high):
            if not row_is_valid(row):
                detail = f"record {row.number} does not match its check sum"
                yield PersistenceAnomaly(PersistenceAnomalyType.CRC_MISMATCH, path, detail)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        if not damaged:
            yield PersistenceAnomaly(PersistenceAnomalyType.INTEGRITY, path, str(error))


def _unreadable(error: sqlite3.Error, path: str) -> PersistenceAnomaly:
    corrupt = primary_code(error) == sqlite3.SQLITE_CORRUPT
    kind = PersistenceAnomalyType.INTEGRITY if corrupt else PersistenceAnomalyType.UNREADABLE_FILE
    return PersistenceAnomaly(kind, path, str(error))
