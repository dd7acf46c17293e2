"""How the times of records lie: nearly in order, and by how much they do not."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from math import inf, isfinite, nextafter
from operator import countOf, sub
from typing import TYPE_CHECKING

from papyra_json._record.decode import InvalidLine, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import PersistedRecord

__all__ = ["Times", "times_in", "times_of"]

# The end of a line as we write events and dead letters. No key after it can change what it says, and for a valid
# line the closing brace is the record's own, so the timestamp is, too.
_TIMES = re.compile(rb',"timestamp":(-?[0-9.eE+-]+),"seq":[0-9]+,"crc":"[0-9a-f]{8}"\}$', re.MULTILINE)


@dataclass(slots=True)
class Times:
    """Between which Unix times some records in a row lie.

    ``disorder`` bounds, in seconds, how far one lies behind the newest of those before it. So what stands before a
    record of the time ``t`` is no younger than ``t + disorder``, and what stands behind it no older than
    ``t - disorder``.
    """

    oldest: float = inf
    newest: float = -inf
    disorder: float = 0.0

    @classmethod
    def of(cls, times: list[float]) -> Times:
        """Return how some times in a row lie."""
        if not times:
            return cls()
        if len(times) == 1:
            return cls(times[0], times[0])
        ordered = sorted(times)
        back = 0.0 if ordered == times else max(map(sub, accumulate(times, max), times))
        # A difference was rounded, perhaps down.
        return cls(ordered[0], ordered[-1], nextafter(back, inf) if back > 0 else 0.0)

    def add(self, later: Times) -> None:
        """Take in the records that come next."""
        back = self.newest - later.oldest
        if back > 0:
            self.disorder = max(self.disorder, nextafter(back, inf))
        # Comparisons, for this is done for every append: 0.15 us, where min() and max() took 0.5.
        if later.disorder > self.disorder:
            self.disorder = later.disorder
        if later.oldest < self.oldest:
            self.oldest = later.oldest
        if later.newest > self.newest:
            self.newest = later.newest


def times_in(lines: Sequence[bytes]) -> Times:
    """Return how the times of the records in lines lie; lines that are no records may count, too."""
    found = _TIMES.findall(b"\n".join(lines))
    times: list[float] = []
    if len(found) == len(lines):
        with suppress(ValueError):
            times = list(map(float, found))
    if not times:
        times = [time for line in lines if (time := _time_in(line)) is not None]
    return Times.of(times) if isfinite(sum(times)) else Times(-inf, inf, inf)


def times_of(records: Sequence[PersistedRecord], lines: Sequence[bytes]) -> Times:
    """Return the same of records and what was made of them; 0.03 us a record, a tenth of what the lines alone take."""
    if len(records) == 1 and type(time := records[0].timestamp) is float and isfinite(time):
        return Times(time, time)  # 0.7 us less
    times = [record.timestamp for record in records]
    # Of what is no float, or is not finite, the encoder makes something else.
    plain = countOf(map(type, times), float) == len(times) and isfinite(sum(times))
    return Times.of(times) if plain else times_in(lines)


def _time_in(line: bytes) -> float | None:
    found = _TIMES.search(line)
    if found is not None:
        with suppress(ValueError):
            return float(found[1])
    try:
        return decode(line).timestamp
    except InvalidLine:
        return None
