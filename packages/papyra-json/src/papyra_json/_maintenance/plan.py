"""What stays of each file: the retention policy, applied to what a walk has found."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from papyra_json._fs.files import Range
from papyra_json._record.lines import forward

if TYPE_CHECKING:
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._maintenance.scanner import Scanner, SegmentScan

__all__ = ["Kept", "keep_newest", "keep_valid"]


@dataclass(slots=True)
class Kept:
    """The records of one file that stay, as the ranges of its bytes."""

    walk: SegmentScan
    records: int
    ranges: list[Range] = field(default_factory=list[Range])

    @property
    def size(self) -> int:
        """How long the file will be."""
        return sum(end - start for start, end in self.ranges) + self._adds_newline

    @property
    def unchanged(self) -> bool:
        """Whether the file stays as it is."""
        whole = [(0, self.walk.file.size)] if self.walk.file.size else []
        return self.ranges == whole and not self._adds_newline and not self.walk.damaged

    @property
    def _adds_newline(self) -> bool:
        return self.walk.lacks_newline and bool(self.ranges) and self.ranges[-1][1] == self.walk.file.size


def keep_valid(walk: Scanner) -> list[Kept]:
    """Keep every valid record."""
    return [Kept(file, file.records, _between(file.invalid_ranges, 0, file.file.size)) for file in walk.files]


def keep_newest(walk: Scanner, policy: RetentionPolicy) -> list[Kept]:
    """Keep the valid records that are young enough, of them the newest so many, of them the newest so many bytes."""
    skip = skip_bytes = 0
    if policy.max_records is not None:
        skip = sum(file.young for file in walk.files) - policy.max_records
    if policy.max_total_bytes is not None:
        skip_bytes = sum(file.young_bytes for file in walk.files) - policy.max_total_bytes
    kept: list[Kept] = []
    for file in walk.files:
        kept.append(_cut(file, skip, skip_bytes))
        skip -= file.young
        skip_bytes -= file.young_bytes
    return kept


def _cut(file: SegmentScan, skip: int, skip_bytes: int) -> Kept:
    """Keep what comes after ``skip`` records and ``skip_bytes`` bytes of records, whichever is more."""
    dropped = file.dropped_ranges
    if skip <= 0 and skip_bytes <= 0:
        return Kept(file, file.young, _between(dropped, 0, file.file.size))
    if file.young < skip or file.young_bytes < skip_bytes:
        return Kept(file, 0)
    # The last block that begins before the cut; the lines in it are counted once more.
    block = bisect_left(file.marks, True, key=lambda mark: mark[1] >= skip and mark[2] >= skip_bytes) - 1
    offset, passed, passed_bytes = file.marks[block]
    start = _find(file, dropped, offset, skip - passed, skip_bytes - passed_bytes)
    return Kept(file, file.young - start[1] - passed, _between(dropped, start[0], file.file.size))


def _find(
    file: SegmentScan, dropped: list[Range], offset: int, skip: int, skip_bytes: int
) -> tuple[int, int]:
    """Return the offset after so many records and bytes from ``offset`` on, and how many records that were."""
    ranges = iter(dropped)
    hole = next(ranges, None)
    passed = 0
    for start, end, lines in forward(file.file, offset, file.file.size):
        for index, line in enumerate(lines):
            if passed >= skip and skip_bytes <= 0:
                return start, passed
            stop = end if index == len(lines) - 1 else start + len(line) + 1
            while hole is not None and hole[1] <= start:
                hole = next(ranges, None)
            if hole is None or not hole[0] <= start < hole[1]:
                passed += 1
                skip_bytes -= stop - start
            start = stop
    return file.file.size, passed


def _between(dropped: list[Range], start: int, end: int) -> list[Range]:
    """Return what is left of ``start`` to ``end`` without the dropped ranges."""
    ranges: list[Range] = []
    for low, high in dropped:
        if low > start:
            ranges.append((start, low))
        start = max(start, high)
    if start < end:
        ranges.append((start, end))
    return ranges
