"""Tell how far long work has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra.persistence.progress import Progress

__all__ = ["Meter", "Part", "Stopped"]


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
