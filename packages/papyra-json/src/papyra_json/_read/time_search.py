"""Which parts of a file can hold records of some times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_json._fileset.time_index import entry_for
from papyra_json._record.decode import InvalidLine, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra_json._fileset.time_index import Entry
    from papyra_json._fs.files import Range
    from papyra_json._segment.segment import Segment

__all__ = ["worth_reading"]

_FINE = 2**16  # bytes that are read rather than searched
_PROBE = 2**12
_MOST = 2**22  # bytes in which a probe looks for a record


def worth_reading(file: Segment, entries: Sequence[Entry], low: float, high: float) -> list[Range]:
    """Return, in order, the parts of a file that can hold records between two times; lines lie in one part each."""
    if file.packed is not None:
        return file.packed.between(low, high)
    entry = entry_for(file, file.size, entries)
    if entry is None:
        return [(0, file.size)]
    parts = [_narrowed(file, entry, low, high), (entry.end, file.size)]
    if parts[0][1] == parts[1][0]:
        parts = [(parts[0][0], file.size)]
    return [(start, end) for start, end in parts if start < end]


def _narrowed(file: Segment, entry: Entry, low: float, high: float) -> Range:
    """Return the part of what an entry is about."""
    times = entry.times
    if times.newest < low or times.oldest > high:
        return entry.end, entry.end
    start, stop = 0, entry.end
    end, step = stop, _FINE
    # From the end on in growing steps, for most ask for what is new, and then by halves.
    while times.oldest < low and stop - start > _FINE:
        middle, step = max((start + stop) // 2, stop - step), 2 * step
        found = _record_after(file, middle, stop)
        if found is not None and found[2] + times.disorder < low:
            start = found[1]  # what stands before it is older still
        else:
            stop = middle
    low_end, step = start, _FINE
    while times.newest > high and end - low_end > _FINE:
        middle, step = max((low_end + end) // 2, end - step), 2 * step
        found = _record_after(file, middle, end)
        if found is not None and found[2] - times.disorder > high:
            end = found[0]  # what stands behind it is younger still
        else:
            low_end = middle
    return start, end


def _record_after(file: Segment, offset: int, end: int) -> tuple[int, int, float] | None:
    """Return where the first record behind an offset begins and ends, and its time; None if none is found soon."""
    size = _PROBE
    while True:
        data = file.read_at(min(size, end - offset), offset)
        at = data.find(b"\n") + 1
        while at and (after := data.find(b"\n", at) + 1):
            try:
                return offset + at, offset + after, decode(data[at : after - 1]).timestamp
            except InvalidLine:
                at = after
        if len(data) < size or size >= _MOST:
            return None
        size *= 4
