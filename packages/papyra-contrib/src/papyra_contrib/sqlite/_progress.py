"""Tell how far long work has come, also in the middle of a statement."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from papyra.persistence.progress import Progress
    from papyra_contrib.sqlite._rows import StoredRow

__all__ = ["Meter", "Part", "Stopped", "ticking"]

_TICK = 20_000  # steps of SQLite's virtual machine: about a millisecond
_ROWS = 500


class Stopped(Exception):
    """What a caller's `Progress` raised; a type of its own, so that nobody takes it for trouble with the store."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Meter:
    """Calls a `Progress` whenever more is done than it was told of: ``total`` may grow, ``done`` never shrinks."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.total = total
        self._progress = progress
        self._done = -1

    def reach(self, done: float) -> None:
        """Tell that so much is done."""
        done = min(int(done), self.total)
        if self._progress is not None and done > self._done:
            self._done = done
            try:
                self._progress(done, self.total)
            except BaseException as error:
                raise Stopped(error) from error

    def part(self, begin: float, end: float) -> Part:
        """Return a part of the work, given as two shares of the total as it is now."""
        return Part(self, begin * self.total, end * self.total)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the work that is measured by itself, from 0 to 1."""

    meter: Meter
    begin: float
    end: float

    def at(self, share: float) -> None:
        """Tell that this share of the part is done."""
        self.meter.reach(self.begin + (self.end - self.begin) * min(share, 1.0))

    def part(self, begin: float, end: float) -> Part:
        """Return a part of this part."""
        size = self.end - self.begin
        return Part(self.meter, self.begin + begin * size, self.begin + end * size)

    def along(self, rows: Iterable[StoredRow], lowest: int, highest: int) -> Iterator[StoredRow]:
        """Give the rows on, and take their numbers for how far it is."""
        for count, row in enumerate(rows):
            if count % _ROWS == 0:
                self.at((row[0] - lowest) / (highest - lowest + 1))
            yield row


@contextmanager
def ticking(connection: sqlite3.Connection, part: Part, steps: int) -> Generator[None]:
    """Tell the progress of the statements inside, which take about so many steps of SQLite's virtual machine."""
    ticks, stopped = 0, None

    def tick() -> int:
        nonlocal ticks, stopped
        ticks += 1
        try:
            part.at(ticks * _TICK / max(steps, 1))
        except Stopped as error:  # SQLite would only say that it was interrupted
            stopped = error
        return stopped is not None

    connection.set_progress_handler(tick, _TICK)
    try:
        yield
    except sqlite3.Error:
        if stopped is not None:
            raise stopped from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
    part.at(1.0)
