"""What a writer knows of the times in its file, and when it writes that down."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from papyra_json._fileset.time_index import Entry, check_at, entry_for
from papyra_json._record.lines import forward
from papyra_json._record.time_range import Times, times_in

if TYPE_CHECKING:
    from papyra_json._fileset.lock import SetLock
    from papyra_json._segment.segment import Segment

__all__ = ["Tracker"]

_STEP = 2**16  # bytes that are appended before the table is written anew; a reader reads so many more
_AGAIN = 2**20  # bytes that are appended before the table is looked at anew
_MOST = 2**24  # bytes that others appended and that are read to know on; where nothing is known it is a step


class Tracker:
    """Follows the times in the file that is appended to, for the holder of the set's lock."""

    def __init__(self, lock: SetLock) -> None:
        self._lock = lock
        self._file: Segment | None = None
        self._times: Times | None = None  # of all records; None if they are not known
        self._number: int | None = None
        self._noted = 0  # up to where the table tells, or was looked at in vain

    def begin(self, file: Segment, end: int) -> None:
        """Look what is known of a file that ends at ``end``, and read what is not, if it is not much."""
        self._file, self._times, self._number, self._noted = file, Times(), None, 0
        if end:
            with suppress(OSError):
                entry = entry_for(file, end, self._lock.read_table())
                if entry is not None:
                    self._times, self._number, self._noted = entry.times, entry.number, entry.end
            self._read(self._noted, end)

    def go_on(self, file: Segment, start: int, end: int) -> None:
        """Take in what others have appended to the file since it ended at ``start``."""
        self._file = file
        self._read(start, end)

    def add(self, times: Times) -> None:
        """Take in the times of records that come next."""
        if self._times is not None:
            self._times.add(times)

    def note(self, end: int, *, at_once: bool = False) -> None:
        """Write down what is known of the file up to its ``end``, unless that was done a few bytes ago.

        To be called when it is written, so that what a crash leaves out is read again.
        """
        if self._file is None:
            return
        if self._times is None:
            if end - self._noted >= _AGAIN:  # a compaction may have learnt all times meanwhile
                self.begin(self._file, end)
                self._noted = max(self._noted, end if self._times is None else 0)
            return
        if end - self._noted < (1 if at_once else _STEP):
            return
        with suppress(OSError):  # the facts are stored, and a full disk must not make them look lost
            if self._number is None:
                entries = self._lock.read_table()
                own = entry_for(self._file, end, entries)
                highest = max((entry.number for entry in entries), default=0)
                self._number = highest + 1 if own is None else own.number
            self._lock.write_entry(Entry(self._number, end, check_at(self._file, end), self._times))
            self._noted = end

    def _read(self, start: int, end: int) -> None:
        if self._file is None or self._times is None or end - start > (_MOST if start else _STEP):
            self._times = None
            return
        try:
            for _, _, lines in forward(self._file, start, end):
                self._times.add(times_in(lines))
        except OSError:
            self._times = None
