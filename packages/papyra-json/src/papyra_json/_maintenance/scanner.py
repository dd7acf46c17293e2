"""One walk over a set that finds everything a scan, a recovery and a compaction need to know.

The walk reads each file once, forward, with constant memory: it keeps no lines, only where the files have
something to report or to drop, and one mark a block to find a record by its number later.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from papyra.persistence.models import PersistenceAnomaly, PersistenceAnomalyType
from papyra_json._fileset.time_index import entry_for
from papyra_json._record.decode import (
    KNOWN_HEADS,
    MAX_LINE_BYTES,
    InvalidLine,
    all_plain,
    decode,
    sequence_of,
)
from papyra_json._record.lines import forward
from papyra_json._record.time_range import Times, times_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from papyra_json._fileset.lock import Notes
    from papyra_json._fileset.names import Segment
    from papyra_json._fileset.time_index import Entry
    from papyra_json._fs.files import Range

__all__ = ["Gap", "Scanner", "SegmentScan"]


@dataclass(slots=True)
class SegmentScan:
    """What one file holds: how many records, and which bytes are none or too old."""

    file: Segment
    lines: int = 0
    records: int = 0  # valid ones
    young: int = 0  # of them, those the age limit keeps
    young_bytes: int = 0
    lacks_newline: bool = False  # the last record is whole but for its newline
    damaged: bool = False  # it is compressed, and not all of it could be read
    times: Times | None = None  # of all lines, if they are asked for
    invalid: array[int] = field(default_factory=lambda: array("Q"))  # start, end, start, end, ...
    old: array[int] = field(default_factory=lambda: array("Q"))
    marks: list[tuple[int, int, int]] = field(
        default_factory=list[tuple[int, int, int]]
    )  # a block's offset; young, bytes before it

    @property
    def invalid_ranges(self) -> list[Range]:
        """The bytes that are no valid record."""
        return _pairs(self.invalid)

    @property
    def lost(self) -> tuple[Segment, list[Range]] | None:
        """What would be dropped as no valid record: these bytes of a file. Of what is damaged while compressed, all."""
        if self.damaged:
            stored = self.file.as_stored()
            return stored, [(0, stored.size)]
        return (self.file, self.invalid_ranges) if self.invalid else None

    @property
    def dropped_ranges(self) -> list[Range]:
        """The bytes that are no valid record, or one that is too old; in order."""
        return sorted(_pairs(self.invalid) + _pairs(self.old)) if self.old else self.invalid_ranges


def _is_terminated(file: Segment, line: bytes, start: int, end: int) -> bool:
    # Of a line that is too long only its beginning was given.
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
    """``seq`` did not count up by one; ``made`` tells that a record between was dropped by this walk's findings."""

    before: int
    after: int
    made: bool


class Scanner:
    """A walk over files, oldest first, at the Unix time whose oldest kept record is ``oldest``.

    ``advance`` is told how many bytes each step was, and may raise to end the walk. With ``known`` the times of the files
    are learnt of which it tells nothing, at 0.4 us a line.
    """

    def __init__(
        self,
        notes: Notes,
        oldest: float = float("-inf"),
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
        """Scanner over the next file."""
        walk = SegmentScan(file)
        if self._known is not None and file.packed is None and not entry_for(file, file.size, self._known):
            walk.times = Times()
        self.files.append(walk)
        self._read(self.files[-1], 0)

    def resume(self, files: Sequence[Segment]) -> bool:
        """Go on where the last file, opened anew, has grown; False if more than that has changed.

        What stood before the last newline can't have changed, then: writers only append to it.
        """
        if [walk.file.identity for walk in self.files] != [file.identity for file in files] or not files:
            return False
        if any(walk.file.stored != file.stored for walk, file in zip(self.files[:-1], files, strict=False)):
            return False
        last = self.files[-1]
        size = last.file.size
        if files[-1].size < size or last.lacks_newline or last.invalid[-1:] == array("Q", [size]):
            return False
        for walk, file in zip(self.files, files, strict=True):
            walk.file = file
        self._read(last, size)
        return True

    def _read(self, walk: SegmentScan, begin: int) -> None:
        for start, end, lines in forward(walk.file, begin, walk.file.size):
            walk.marks.append((start, walk.young, walk.young_bytes))
            ended = end - start > len(lines[0]) or len(lines) > 1  # by a newline
            if ended and self._oldest == float("-inf") and (self._all_well(lines) or all_plain(lines)):
                walk.records += len(lines)
                walk.young += len(lines)
                walk.young_bytes += end - start
            else:
                self._look_closely(walk, walk.lines + 1, start, end, lines)
            walk.lines += len(lines)
            if walk.times is not None:
                walk.times.add(times_in(lines))
            self._advance(end - start)
        for detail in walk.file.damage:
            walk.damaged = True
            self._report(PersistenceAnomalyType.UNREADABLE_FILE, walk, detail, None, None)

    def _all_well(self, lines: list[bytes]) -> bool:
        """Tell whether all lines are as we write them, with numbers that go on; then count them.

        This is what a scan spends its time on: a CRC and one comparison a line, 0.6 us.
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

    def _look_closely(self, walk: SegmentScan, number: int, start: int, end: int, lines: list[bytes]) -> None:
        last = len(lines) - 1
        for index, line in enumerate(lines):
            stop = end if index == last else start + len(line) + 1
            torn = index == last and not _is_terminated(walk.file, line, start, end)
            try:
                seq = sequence_of(line)
                old = self._oldest > float("-inf") and decode(line).timestamp < self._oldest
            except InvalidLine as error:
                self._drop(walk, error, number + index, start, stop, torn=torn)
            else:
                self._take(walk, seq, number + index, start, stop, old=old)
                if torn:
                    walk.lacks_newline = True
                    self._report(
                        PersistenceAnomalyType.TORN_TAIL,
                        walk,
                        "a whole record, but for its newline",
                        number + index,
                        start,
                    )
            start = stop

    def _drop(
        self, walk: SegmentScan, error: InvalidLine, line: int, start: int, end: int, *, torn: bool
    ) -> None:
        _add(walk.invalid, start, end)
        self._dropped = True
        self._invalid += 1
        if torn:
            detail = f"{end - start} bytes after the last newline are no record: {error}"
            self._report(PersistenceAnomalyType.TORN_TAIL, walk, detail, line, start)
        else:
            self._report(error.type, walk, str(error), line, start)

    def _take(
        self, walk: SegmentScan, seq: int | None, number: int, start: int, end: int, *, old: bool
    ) -> None:
        walk.records += 1
        if seq is not None:
            if self.last_seq and seq != self.last_seq + 1 and not self._explained(seq):
                detail = f"seq goes from {self.last_seq} to {seq}"
                self._report(PersistenceAnomalyType.SEQUENCE_GAP, walk, detail, number, start)
            self.last_seq, self._invalid = seq, 0
        if old:
            _add(walk.old, start, end)
            self._dropped = True
            return
        walk.young += 1
        walk.young_bytes += end - start
        if seq is not None:
            if self._kept_seq and seq != self._kept_seq + 1:
                self.gaps.append(Gap(self._kept_seq, seq, self._dropped))
            self._kept_seq = seq
            self._dropped = False

    def _explained(self, seq: int) -> bool:
        """Tell whether a gap to ``seq`` is known, or is but the lines that were reported as invalid."""
        return self._notes.knows_gap(self.last_seq, seq) or 0 < seq - self.last_seq - 1 <= self._invalid

    @property
    def kept_seq(self) -> int:
        """The ``seq`` of the last record that stays."""
        return self._kept_seq

    def _report(
        self,
        kind: PersistenceAnomalyType,
        walk: SegmentScan,
        detail: str,
        line: int | None,
        offset: int | None,
    ) -> None:
        self.anomalies.append(PersistenceAnomaly(kind, str(walk.file.path), detail, line, offset))
