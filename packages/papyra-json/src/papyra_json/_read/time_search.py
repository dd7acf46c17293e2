"""Find the parts of a file that may hold records of some times, by binary search."""

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

MIN_SEARCH_BYTES = 2**16  # fewer bytes are read rather than searched
PROBE_BYTES = 2**12
MAX_PROBE_BYTES = 2**22


def worth_reading(file: Segment, entries: Sequence[Entry], low: float, high: float) -> list[Range]:
    """Return, in order, the ranges of a file that may hold records between two times.

    No line is in two ranges.
    """
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
    """Return the range within the bytes that an entry covers."""
    times = entry.times
    if times.newest < low or times.oldest > high:
        return entry.end, entry.end
    start, stop = 0, entry.end
    end, step = stop, MIN_SEARCH_BYTES
    # First from the end in growing steps, because most queries are for new records, then by halves.
    while times.oldest < low and stop - start > MIN_SEARCH_BYTES:
        middle, step = max((start + stop) // 2, stop - step), 2 * step
        found = _record_after(file, middle, stop)
        if found is not None and found[2] + times.disorder < low:
            start = found[1]  # the records before it are too old as well
        else:
            stop = middle
    low_end, step = start, MIN_SEARCH_BYTES
    while times.newest > high and end - low_end > MIN_SEARCH_BYTES:
        middle, step = max((low_end + end) // 2, end - step), 2 * step
        found = _record_after(file, middle, end)
        if found is not None and found[2] - times.disorder > high:
            end = found[0]  # the records after it are too young as well
        else:
            low_end = middle
    return start, end


def _record_after(file: Segment, offset: int, end: int) -> tuple[int, int, float] | None:
    """Return the start, end and time of the first record after an offset; None if none is found soon."""
    size = PROBE_BYTES
    while True:
        data = file.read_at(min(size, end - offset), offset)
        at = data.find(b"\n") + 1
        while at and (after := data.find(b"\n", at) + 1):
            try:
                return offset + at, offset + after, decode(data[at : after - 1]).timestamp
            except InvalidLine:
                at = after
        if len(data) < size or size >= MAX_PROBE_BYTES:
            return None
        size *= 4
