"""One pass over a set that finds everything a scan, a recovery and a compaction need to know.

It reads each file once, forward, in constant memory. It keeps no lines, only the ranges to report or to drop,
and for each block the number of records before it, to find a record by its position later.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING
from zlib import crc32

from papyra.persistence.models import PersistenceAnomaly, PersistenceAnomalyType
from papyra_json._fileset.time_index import entry_for
from papyra_json._record.decode import (
    KNOWN_HEADS,
    MAX_LINE_BYTES,
    InvalidLine,
    decode,
    plain_times,
    sequence_of,
)
from papyra_json._record.lines import forward, has_junk, pieces
from papyra_json._record.time_range import Times, times_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from papyra_json._fileset.notes import Notes
    from papyra_json._fileset.time_index import Entry
    from papyra_json._fs.files import Range
    from papyra_json._segment.segment import Segment

__all__ = ["Gap", "Scanner", "SegmentScan"]


@dataclass(slots=True)
class SegmentScan:
    """The findings about one file: how many records, and which bytes are invalid or too old."""

    file: Segment
    lines: int = 0
    records: int = 0  # valid ones
    young: int = 0  # of them, those that the age limit keeps
    young_bytes: int = 0
    lacks_newline: bool = False  # the last record is whole except for its newline
    damaged: bool = False  # it is compressed, and a part of it could not be read
    times: Times | None = None  # of all lines, if they are learned
    invalid: array[int] = field(default_factory=lambda: array("Q"))  # start, end, start, end, ...
    old: array[int] = field(default_factory=lambda: array("Q"))
    split: bool = False  # whether the last block ended within a line, after a long run of NULs
    joined: set[int] = field(default_factory=set[int])  # ends of records that NULs separate from the next
    blocks: list[tuple[int, int, int]] = field(
        default_factory=list[tuple[int, int, int]]
    )  # a block's offset; the young records and their bytes before it

    @property
    def invalid_ranges(self) -> list[Range]:
        """The bytes that are not valid records."""
        return _pairs(self.invalid)

    @property
    def lost(self) -> tuple[Segment, list[Range]] | None:
        """The file and the ranges that a recovery drops as invalid.

        Of a damaged compressed file, everything.
        """
        if self.damaged:
            stored = self.file.as_stored()
            return stored, [(0, stored.size)]
        return (self.file, self.invalid_ranges) if self.invalid else None

    @property
    def dropped_ranges(self) -> list[Range]:
        """The bytes that are invalid or too old, in order."""
        return sorted(_pairs(self.invalid) + _pairs(self.old)) if self.old else self.invalid_ranges


def _is_terminated(file: Segment, line: bytes, start: int, end: int) -> bool:
    # Only the beginning of a line that is too long was given.
    return end - start > len(line) and (len(line) <= MAX_LINE_BYTES or file.read_at(1, end - 1) == b"\n")


def _pairs(flat: array[int]) -> list[Range]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _add(flat: array[int], start: int, end: int) -> None:
    if flat and flat[-1] == start:
        flat[-1] = end
    else:
        flat.extend((start, end))


@dataclass(frozen=True, slots=True)
class Gap:
    """``seq`` did not count up by one; ``made`` says that dropping a record makes the gap."""

    before: int
    after: int
    made: bool


class Scanner:
    """A pass over files, oldest first. Records older than the Unix time ``oldest`` count as old.

    ``advance`` gets the number of bytes of each step, and may raise to end the pass. With ``known``, the
    times of the files without an entry in it are learned, at 0.4 us a line.
    """

    def __init__(
        self,
        notes: Notes,
        oldest: float = -inf,
        advance: Callable[[int], None] = lambda _: None,
        known: Sequence[Entry] | None = None,
    ) -> None:
        self.files: list[SegmentScan] = []
        self.anomalies: list[PersistenceAnomaly] = []
        self.gaps: list[Gap] = []
        self.last_seq = 0
        self._notes = notes
        self._oldest = oldest
        self._advance = advance
        self._kept_seq = 0  # the seq of the last record that stays; 0 before the first
        self._dropped = False  # whether something was dropped since
        self._invalid = 0  # lines since the last number
        self._known = known

    def add(self, file: Segment) -> None:
        """Read the next file."""
        scan = SegmentScan(file)
        if self._known is not None and file.packed is None and not entry_for(file, file.size, self._known):
            scan.times = Times()
        self.files.append(scan)
        self._read(scan, 0)

    def resume(self, files: Sequence[Segment]) -> bool:
        """Read the rest of the last file, opened again; False if more than that has changed.

        Writers only append, so the bytes before the last newline can't have changed.
        """
        if [scan.file.identity for scan in self.files] != [file.identity for file in files] or not files:
            return False
        if any(scan.file.stored != file.stored for scan, file in zip(self.files[:-1], files, strict=False)):
            return False
        last = self.files[-1]
        size = last.file.size
        if files[-1].size < size or last.lacks_newline or last.invalid[-1:] == array("Q", [size]):
            return False
        for scan, file in zip(self.files, files, strict=True):
            file.unreadable = scan.file.unreadable
            scan.file = file
        self._read(last, size)
        return True

    def _read(self, scan: SegmentScan, begin: int) -> None:
        for start, end, lines in forward(scan.file, begin, scan.file.size):
            scan.blocks.append((start, scan.young, scan.young_bytes))
            scan.lines -= scan.split
            ended = end - start > len(lines[0]) or len(lines) > 1  # by a newline
            times = self._times_if_young(lines, scan.times) if ended else None
            if times is not None:
                scan.records += len(lines)
                scan.young += len(lines)
                scan.young_bytes += end - start
            else:
                self._look_closely(scan, scan.lines + 1, start, end, lines)
            scan.lines += len(lines)
            scan.split = not ended and end < scan.file.size
            if scan.times is not None:
                scan.times.add(times or times_in(lines))
            self._advance(end - start)
        self._report_damage(scan)

    def _times_if_young(self, lines: list[bytes], wanted: Times | None) -> Times | None:
        """Return the times of a block if all lines are valid and young enough; then count them.

        The times are computed only where an age limit or the index needs them.
        """
        needed = wanted is not None or self._oldest > -inf
        times = Times()
        if needed and lines[0].startswith(KNOWN_HEADS) and (times := times_in(lines)).oldest < self._oldest:
            return None
        if self._all_well(lines):
            return times
        found = plain_times(lines)
        if found is None:
            return None
        times = Times.of(found) if needed else times
        return None if times.oldest < self._oldest else times

    def _report_damage(self, scan: SegmentScan) -> None:
        for offset, detail in scan.file.damage:
            scan.damaged = scan.damaged or offset is None
            self._report(PersistenceAnomalyType.UNREADABLE_FILE, scan, detail, None, offset)

    def _all_well(self, lines: list[bytes]) -> bool:
        """Return whether all lines are as we write them, with numbers that count up; then count them.

        A scan spends its time here: a CRC and one comparison a line, 0.6 us.
        """
        seq = self.last_seq
        if seq == 0 or seq != self._kept_seq or self._dropped:
            return False
        for line in lines:
            seq += 1
            if not line.endswith(
                b',"seq":%d,"crc":"%08x"}' % (seq, crc32(line[:-18]))
            ) or not line.startswith(KNOWN_HEADS):
                return False
        self.last_seq = self._kept_seq = seq
        return True

    def _look_closely(self, scan: SegmentScan, number: int, start: int, end: int, lines: list[bytes]) -> None:
        last = len(lines) - 1
        for index, line in enumerate(lines):
            stop = end if index == last else start + len(line) + 1
            torn = index == last and end == scan.file.size and not _is_terminated(scan.file, line, start, end)
            if has_junk(line):
                self._take_pieces(scan, number + index, start, stop, line, torn=torn)
            else:
                self._judge(scan, line, number + index, start, stop, torn=torn)
            start = stop

    def _judge(
        self, scan: SegmentScan, line: bytes, number: int, start: int, end: int, *, torn: bool
    ) -> None:
        try:
            seq = sequence_of(line)
            old = self._oldest > -inf and decode(line).timestamp < self._oldest
        except InvalidLine as error:
            self._drop(scan, error, number, start, end, torn=torn)
            return
        self._take(scan, seq, number, start, end, old=old)
        if torn:
            scan.lacks_newline = True
            detail = "the last record is whole except for its newline"
            self._report(PersistenceAnomalyType.TORN_TAIL, scan, detail, number, start)

    def _take_pieces(
        self, scan: SegmentScan, number: int, start: int, end: int, line: bytes, *, torn: bool
    ) -> None:
        """Take the whole records out of a line with NULs or a byte order mark, and drop the rest."""
        at = start
        for offset, piece in pieces(line):
            begin, stop = start + offset, start + offset + len(piece)
            stop = end if stop == start + len(line) else stop
            try:
                sequence_of(piece)
            except InvalidLine:
                continue
            if at < begin:
                self._drop_junk(scan, number, at, begin, torn=False)
            self._judge(scan, piece, number, begin, stop, torn=torn and stop == end)
            if stop != end:
                scan.joined.add(stop)
            at = stop
        if at < end:
            self._drop_junk(scan, number, at, end, torn=torn)

    def _drop_junk(self, scan: SegmentScan, number: int, start: int, end: int, *, torn: bool) -> None:
        if scan.split and scan.invalid[-1:] == array("Q", [start]):
            scan.invalid[-1] = end  # the same run of NULs, already reported
            if torn:
                first = self.anomalies.pop()
                detail = f"{end - (first.offset or 0)} bytes after the last newline are not a record"
                self._report(PersistenceAnomalyType.TORN_TAIL, scan, detail, first.line, first.offset)
            return
        error = InvalidLine(f"{end - start} bytes of NULs, a byte order mark or other bytes around them")
        self._drop(scan, error, number, start, end, torn=torn)

    def _drop(
        self, scan: SegmentScan, error: InvalidLine, line: int, start: int, end: int, *, torn: bool
    ) -> None:
        _add(scan.invalid, start, end)
        self._dropped = True
        self._invalid += 1
        if torn:
            detail = f"{end - start} bytes after the last newline are not a record: {error}"
            self._report(PersistenceAnomalyType.TORN_TAIL, scan, detail, line, start)
        else:
            self._report(error.type, scan, str(error), line, start)

    def _take(
        self, scan: SegmentScan, seq: int | None, number: int, start: int, end: int, *, old: bool
    ) -> None:
        scan.records += 1
        if seq is not None:
            if self.last_seq and seq != self.last_seq + 1 and not self._explained(seq):
                detail = f"seq goes from {self.last_seq} to {seq}"
                self._report(PersistenceAnomalyType.SEQUENCE_GAP, scan, detail, number, start)
            self.last_seq, self._invalid = seq, 0
        if old:
            _add(scan.old, start, end)
            self._dropped = True
            return
        scan.young += 1
        scan.young_bytes += end - start
        if seq is not None:
            if self._kept_seq and seq != self._kept_seq + 1:
                self.gaps.append(Gap(self._kept_seq, seq, self._dropped))
            self._kept_seq = seq
            self._dropped = False

    def _explained(self, seq: int) -> bool:
        """Return whether a gap to ``seq`` is known, or consists of lines that were reported as invalid."""
        return self._notes.knows_gap(self.last_seq, seq) or 0 < seq - self.last_seq - 1 <= self._invalid

    @property
    def kept_seq(self) -> int:
        """The ``seq`` of the last record that stays."""
        return self._kept_seq

    def _report(
        self,
        kind: PersistenceAnomalyType,
        scan: SegmentScan,
        detail: str,
        line: int | None,
        offset: int | None,
    ) -> None:
        self.anomalies.append(PersistenceAnomaly(kind, str(scan.file.path), detail, line, offset))
