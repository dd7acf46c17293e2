"""The times of some records: their range, and how far they are out of order."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from math import inf, isfinite, nextafter
from operator import countOf, sub
from typing import TYPE_CHECKING

from papyra_json._record.decode import InvalidLine, decode
from papyra_json._record.lines import has_junk, pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import PersistedRecord

__all__ = ["Times", "times_in", "times_of"]

# The end of a line as we write events and dead letters. A later key can't change its meaning, and in a valid
# line the closing brace is the record's own, so the timestamp is too.
_TIMES = re.compile(rb',"timestamp":(-?[0-9.eE+-]+),"seq":[0-9]+,"crc":"[0-9a-f]{8}"\}$', re.MULTILINE)


@dataclass(slots=True)
class Times:
    """The range of the Unix times of consecutive records.

    ``disorder`` bounds, in seconds, how far a record is older than the newest one before it. So the records
    before one of the time ``t`` are at most ``t + disorder``, and the records after it at least ``t -
    disorder``.
    """

    oldest: float = inf
    newest: float = -inf
    disorder: float = 0.0

    @classmethod
    def of(cls, times: list[float]) -> Times:
        """Return the range of consecutive times; everything is possible if one is not finite."""
        if not times:
            return cls()
        if not isfinite(sum(times)):
            return cls(-inf, inf, inf)
        if len(times) == 1:
            return cls(times[0], times[0])
        ordered = sorted(times)
        back = 0.0 if ordered == times else max(map(sub, accumulate(times, max), times))
        # The difference was rounded, perhaps down.
        return cls(ordered[0], ordered[-1], nextafter(back, inf) if back > 0 else 0.0)

    def add(self, later: Times) -> None:
        """Include the records that come next."""
        back = self.newest - later.oldest
        if back > 0:
            self.disorder = max(self.disorder, nextafter(back, inf))
        # Comparisons, because every append does this: 0.15 us, where min() and max() took 0.5.
        if later.disorder > self.disorder:
            self.disorder = later.disorder
        if later.oldest < self.oldest:
            self.oldest = later.oldest
        if later.newest > self.newest:
            self.newest = later.newest


def times_in(lines: Sequence[bytes]) -> Times:
    """Return the times of the records in lines; invalid lines may count too."""
    content = b"\n".join(lines)
    matches = _TIMES.findall(content)
    times: list[float] = []
    if len(matches) == len(lines) and b"\0" not in content:
        with suppress(ValueError):
            times = list(map(float, matches))
    if not times:
        times = [time for line in lines for time in _times_in_line(line)]
    return Times.of(times)


def times_of(records: Sequence[PersistedRecord], lines: Sequence[bytes]) -> Times:
    """Return the times of records and of the lines they became.

    0.03 us a record, a tenth of the lines' cost.
    """
    if len(records) == 1 and type(time := records[0].timestamp) is float and isfinite(time):
        return Times(time, time)  # saves 0.7 us
    times = [record.timestamp for record in records]
    # The encoder replaces a time that is not a float, or not finite.
    plain = countOf(map(type, times), float) == len(times) and isfinite(sum(times))
    return Times.of(times) if plain else times_in(lines)


def _times_in_line(line: bytes) -> list[float]:
    parts = [part for _, part in pieces(line)] if has_junk(line) else [line]
    return [time for part in parts if (time := _time_in(part)) is not None]


def _time_in(line: bytes) -> float | None:
    match = _TIMES.search(line)
    if match is not None:
        with suppress(ValueError):
            return float(match[1])
    try:
        return decode(line).timestamp
    except InvalidLine:
        return None
