"""The times in the file that a writer appends to, and their notes in the index."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from papyra_json._fileset.time_index import Entry, check_at, entry_for
from papyra_json._record.lines import forward
from papyra_json._record.time_range import Times, times_in

if TYPE_CHECKING:
    from papyra_json._fileset.lock import SetLock
    from papyra_json._segment.segment import Segment

__all__ = ["TimeTracker"]

NOTE_BYTES = 2**16  # appended before the entry is written again; readers read that much more
LOOK_AGAIN_BYTES = 2**20  # appended before the table is looked up again
MAX_CATCH_UP_BYTES = 2**24  # read at most to catch up with other writers; NOTE_BYTES where nothing is known


class TimeTracker:
    """Follows the times in the file that is appended to. Only for the holder of the set's lock."""

    def __init__(self, lock: SetLock) -> None:
        self._lock = lock
        self._file: Segment | None = None
        self._times: Times | None = None  # of all records; None if unknown
        self._number: int | None = None
        self._noted = 0  # offset already covered by the index, or looked up without a match

    def begin(self, file: Segment, end: int) -> None:
        """Look up the times of a file that ends at ``end``, and read the rest if it is small."""
        self._file, self._times, self._number, self._noted = file, Times(), None, 0
        if end:
            with suppress(OSError):
                entry = entry_for(file, end, self._lock.read_table())
                if entry is not None:
                    self._times, self._number, self._noted = entry.times, entry.number, entry.end
            self._read(self._noted, end)

    def catch_up(self, file: Segment, start: int, end: int) -> None:
        """Include the records that others have appended since the file ended at ``start``."""
        self._file = file
        self._read(start, end)

    def add(self, times: Times) -> None:
        """Include the times of the next records."""
        if self._times is not None:
            self._times.add(times)

    def note(self, end: int, *, at_once: bool = False) -> None:
        """Write an entry about the file up to ``end``, unless the last one is only a few bytes behind.

        Call it after the file was written: bytes that a crash leaves out of the entry are read again.
        """
        if self._file is None:
            return
        if self._times is None:
            if end - self._noted >= LOOK_AGAIN_BYTES:  # a compaction may have learned all times meanwhile
                self.begin(self._file, end)
                self._noted = max(self._noted, end if self._times is None else 0)
            return
        if end - self._noted < (1 if at_once else NOTE_BYTES):
            return
        with suppress(OSError):  # the records are stored, so a full disk must not fail them
            if self._number is None:
                entries = self._lock.read_table()
                own = entry_for(self._file, end, entries)
                highest = max((entry.number for entry in entries), default=0)
                self._number = highest + 1 if own is None else own.number
            self._lock.write_entry(Entry(self._number, end, check_at(self._file, end), self._times))
            self._noted = end

    def _read(self, start: int, end: int) -> None:
        limit = MAX_CATCH_UP_BYTES if start else NOTE_BYTES
        if self._file is None or self._times is None or end - start > limit:
            self._times = None
            return
        try:
            for _, _, lines in forward(self._file, start, end):
                self._times.add(times_in(lines))
        except OSError:
            self._times = None
