"""How the times of records lie: nearly in order, and by how much they do not."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from math import inf, isfinite, nextafter
from operator import sub
from typing import TYPE_CHECKING

from papyra_json._decode import InvalidLine, decode

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

    def add(self, times: Sequence[float]) -> None:
        """Take in the records that come next."""
        if not times:
            return
        ordered = sorted(times)
        if not isfinite(sum(ordered)):
            self.oldest, self.newest, self.disorder = -inf, inf, inf
            return
        back = self.newest - ordered[0]
        if ordered != times:
            back = max(back, *map(sub, accumulate(times, max), times))
        if back > 0:
            self.disorder = max(self.disorder, nextafter(back, inf))  # the difference was rounded
        self.oldest = min(self.oldest, float(ordered[0]))
        self.newest = max(self.newest, float(ordered[-1]))


def times_in(lines: Sequence[bytes]) -> list[float]:
    """Return the times of the records in lines; more may come of those that are no records."""
    found = _TIMES.findall(b"\n".join(lines))
    if len(found) == len(lines):
        with suppress(ValueError):
            return list(map(float, found))
    return [time for line in lines if (time := _time_in(line)) is not None]


def times_of(records: Sequence[PersistedRecord], lines: Sequence[bytes]) -> Sequence[float]:
    """Return the times of records that were laid out as ``lines``: 30 ns a record, a tenth of `times_in`."""
    times = [record.timestamp for record in records]
    # Of other types, and of what is not finite, the encoder makes something else.
    return times if {float}.issuperset(map(type, times)) and isfinite(sum(times)) else times_in(lines)


def _time_in(line: bytes) -> float | None:
    found = _TIMES.search(line)
    if found is not None:
        with suppress(ValueError):
            return float(found[1])
    try:
        return decode(line).timestamp
    except InvalidLine:
        return None
