"""Report the progress of a long statement, and of reading many rows."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from papyra.persistence.blocking import CallbackFailed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from papyra.persistence.blocking import Part
    from papyra_contrib._rows import StoredRow

__all__ = ["along", "ticking"]

_TICK_STEPS = 20_000  # of SQLite's virtual machine: about a millisecond
_REPORT_ROWS = 500


def along(rows: Iterable[StoredRow], part: Part, lowest: int, highest: int) -> Iterator[StoredRow]:
    """Yield the rows, and report the progress that their numbers show."""
    for count, row in enumerate(rows):
        if count % _REPORT_ROWS == 0:
            part.reach((row.number - lowest) / (highest - lowest + 1))
        yield row


@contextmanager
def ticking(connection: sqlite3.Connection, part: Part, steps: int) -> Generator[None]:
    """Report the progress of the statements inside.

    ``steps`` estimates what they take of SQLite's virtual machine.
    """
    ticks, stopped = 0, None

    def tick() -> int:
        nonlocal ticks, stopped
        ticks += 1
        try:
            part.reach(ticks * _TICK_STEPS / max(steps, 1))
        except CallbackFailed as error:  # SQLite itself reports only an interrupt
            stopped = error
        return stopped is not None

    connection.set_progress_handler(tick, _TICK_STEPS)
    try:
        yield
    except sqlite3.Error:
        if stopped is not None:
            raise stopped from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
    part.reach(1.0)
