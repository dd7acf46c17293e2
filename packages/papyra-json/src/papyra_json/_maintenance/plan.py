"""Plan which parts of each file stay: the retention policy, applied to the findings of a scan."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from papyra_json._fs.files import NEWLINE, Range
from papyra_json._record.lines import forward, has_junk

if TYPE_CHECKING:
    from collections.abc import Container

    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._maintenance.scanner import Scanner, SegmentScan

__all__ = ["Kept", "keep_newest", "keep_valid"]


@dataclass(slots=True)
class Kept:
    """The records of one file that stay, as ranges of its bytes."""

    scan: SegmentScan
    records: int
    ranges: list[Range] = field(default_factory=list[Range])

    @property
    def size(self) -> int:
        """The size of the new file."""
        return sum(1 if part == NEWLINE else part[1] - part[0] for part in self.ranges) + self._adds_newline

    @property
    def unchanged(self) -> bool:
        """Whether the file stays as it is."""
        whole = [(0, self.scan.file.size)] if self.scan.file.size else []
        return self.ranges == whole and not self._adds_newline and not self.scan.damaged

    @property
    def _adds_newline(self) -> bool:
        return self.scan.lacks_newline and bool(self.ranges) and self.ranges[-1][1] == self.scan.file.size


def keep_valid(scanner: Scanner) -> list[Kept]:
    """Keep every valid record."""
    return [
        Kept(scan, scan.records, _between(scan.invalid_ranges, 0, scan.file.size, scan.joined))
        for scan in scanner.files
    ]


def keep_newest(scanner: Scanner, policy: RetentionPolicy, max_files: int | None = None) -> list[Kept]:
    """Keep the valid records within the age limit, then the newest ``max_records``, then ``max_total_bytes``.

    Only the newest ``max_files`` files keep records.
    """
    skip = skip_bytes = 0
    if policy.max_records is not None:
        skip = sum(scan.young for scan in scanner.files) - policy.max_records
    if policy.max_total_bytes is not None:
        skip_bytes = sum(scan.young_bytes for scan in scanner.files) - policy.max_total_bytes
    excess = 0 if max_files is None else len(scanner.files) - max_files
    kept: list[Kept] = []
    for index, scan in enumerate(scanner.files):
        kept.append(Kept(scan, 0) if index < excess else _cut(scan, skip, skip_bytes))
        skip -= scan.young
        skip_bytes -= scan.young_bytes
    return kept


def _cut(scan: SegmentScan, skip: int, skip_bytes: int) -> Kept:
    """Keep the records after ``skip`` records and ``skip_bytes`` bytes of records, whichever is more."""
    dropped = scan.dropped_ranges
    if skip <= 0 and skip_bytes <= 0:
        return Kept(scan, scan.young, _between(dropped, 0, scan.file.size, scan.joined))
    if scan.young < skip or scan.young_bytes < skip_bytes:
        return Kept(scan, 0)
    # The last block that begins before the cut; its lines are counted once more.
    block = bisect_left(scan.blocks, True, key=lambda block: block[1] >= skip and block[2] >= skip_bytes) - 1
    offset, passed, passed_bytes = scan.blocks[block]
    start = _find(scan, dropped, offset, skip - passed, skip_bytes - passed_bytes)
    ranges = _between(dropped, start[0], scan.file.size, scan.joined)
    return Kept(scan, scan.young - start[1] - passed, ranges)


def _find(
    scan: SegmentScan, dropped: list[Range], offset: int, skip: int, skip_bytes: int
) -> tuple[int, int]:
    """Return the offset after ``skip`` records and ``skip_bytes`` bytes from ``offset``, and their number."""
    ranges = iter(dropped)
    hole = next(ranges, None)
    passed = 0
    for start, end, lines in forward(scan.file, offset, scan.file.size):
        for index, line in enumerate(lines):
            stop = end if index == len(lines) - 1 else start + len(line) + 1
            while hole is not None and hole[1] <= start:
                hole = next(ranges, None)
            if has_junk(line):
                records = _between(
                    [part for part in dropped if part[0] < stop and part[1] > start], start, stop
                )
            else:
                records = [] if hole is not None and hole[0] <= start < hole[1] else [(start, stop)]
            for first, last in records:
                if passed >= skip and skip_bytes <= 0:
                    return first, passed
                passed += 1
                skip_bytes -= last - first
            start = stop
    return scan.file.size, passed


def _between(dropped: list[Range], start: int, end: int, joined: Container[int] = ()) -> list[Range]:
    """Return ``start`` to ``end`` without the dropped ranges.

    Records that NULs had joined get newlines between them.
    """
    ranges: list[Range] = []
    for low, high in dropped:
        if low > start:
            ranges.append((start, low))
            if low in joined:
                ranges.append(NEWLINE)
        start = max(start, high)
    if start < end:
        ranges.append((start, end))
    return ranges
