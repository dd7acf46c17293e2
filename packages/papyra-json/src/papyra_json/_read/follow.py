"""New records of a set of files as they come, whatever others do to the files meanwhile. Plain blocking code.

The youngest file stays open from one look to the next. So no other file takes on its identity, and what was appended to it
before it was rotated, replaced, moved away or deleted can still be read. In files that are new to us, what was read
already ends at the youngest record that we know: a compaction's copy has one, the file after a rotation none.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from contextlib import closing, suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias

from papyra.persistence.query import Query
from papyra_json._fileset.lock import SetLock
from papyra_json._fs.files import identity
from papyra_json._maintenance.operations import open_shared
from papyra_json._read.query import matching
from papyra_json._record.decode import InvalidLine, decode
from papyra_json._record.lines import backward, forward
from papyra_json._segment.segment import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import PersistedRecord
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset.names import FileSet
    from papyra_json._segment.segment import Segment

    Wanted: TypeAlias = Callable[[PersistedRecord], bool]

__all__ = ["follow"]

_RECENT = 256  # records, far more than a torn tail loses
_FILES = 16

_Mark: TypeAlias = tuple[int, int, float]  # where a line ends, without its newline, its hash and its time


def follow(
    files: FileSet, limit: int, wanted: Wanted, policy: RetentionPolicy, now: float, work: Work
) -> Generator[list[PersistedRecord]]:
    """Yield the newest ``limit`` records that are wanted, then blocks of new ones; an empty block where there is none yet."""
    wanted = work.guarded(wanted)
    with closing(_Follower(files, work.check)) as follower:
        yield follower.begin(limit, wanted, policy, now)
        while True:
            for records in follower.look():
                found = list(filter(wanted, records))
                if found:
                    yield found
            yield []


class _Follower:
    """Knows what was read, and finds what is new."""

    def __init__(self, files: FileSet, check: Callable[[], None]) -> None:
        self.files = files
        self._check = check
        self._lock = SetLock(files.base, check)
        self._sign: object = None  # of the base, at the last look
        self._youngest: Segment | None = None  # then
        self._marks: deque[_Mark] = deque()  # of the last records read in it
        self._recent: deque[int] = deque(maxlen=_RECENT)  # hashes of the last records read, in whichever file
        self._ends: deque[int] = deque(maxlen=_FILES)  # and of the last record of each file
        self._lasting: deque[_Mark] = deque(maxlen=_RECENT)  # younger than all that was read since

    def close(self) -> None:
        """Close the files."""
        self._hold(None)
        self._lock.close()

    def begin(self, limit: int, wanted: Wanted, policy: RetentionPolicy, now: float) -> list[PersistedRecord]:
        """Return the newest records that are wanted, oldest first; what comes after them is new."""
        self._sign = self._look_at_base()
        with open_shared(self.files, self._lock)[0].raise_failure() as snapshot:
            ended = Snapshot()
            ended.files = [self._without_torn_line(file) for file in snapshot.files]
            for file in ended.files[-_FILES:]:
                self._meet(file, file.size)
                for mark in self._marks:
                    self._remember(mark)
            query: Query[PersistedRecord] = Query()
            records = filter(wanted, matching(ended, query, policy, now, self._check))
            found = list(islice(records, min(limit, sys.maxsize)))
            self._hold(snapshot.files.pop() if snapshot.files else None)
        found.reverse()
        return found

    def look(self) -> Iterator[list[PersistedRecord]]:
        """Yield what is new, in blocks."""
        sign = self._look_at_base()
        if sign == self._sign:
            return
        self._sign = sign
        with open_shared(self.files, self._lock)[0].raise_failure() as snapshot:
            files = snapshot.files
            growing = files[-1] if files and files[-1].path == self.files.base else None
            read = self._meet_again(files)
            if read is not None:
                start = self._marks[-1][0] if self._marks else 0
                yield from self._read(read, start, grows=_are_same(read, growing))
            index, start = self._first_new(files)
            for file in files[index:]:
                self._meet(file, start)
                yield from self._read(file, start, grows=_are_same(file, growing))
                read, start = file, 0
            if files and not _are_same(files[-1], read):
                self._meet(files[-1], files[-1].size)
            self._hold(files.pop() if files else None)

    def _look_at_base(self) -> object:
        """Return what is another thing once there is something new: of the youngest file, or of the folder without one."""
        for path in (self.files.base, self.files.base.parent):
            with suppress(FileNotFoundError, NotADirectoryError):
                status = path.stat(follow_symlinks=path is not self.files.base)
                return identity(status), status.st_size, status.st_mtime_ns
        return None

    # -- what was read

    def _hold(self, file: Segment | None) -> None:
        if self._youngest is not None:
            self._youngest.close()
        self._youngest = file

    def _remember(self, mark: _Mark) -> None:
        """Keep what it takes to know a record again.

        Where the last ones go first, for they are older than others, the age limit of a compaction leaves one that all
        that came later is older than.
        """
        self._recent.append(mark[1])
        while self._lasting and self._lasting[-1][2] <= mark[2]:
            self._lasting.pop()
        self._lasting.append(mark)

    def _meet(self, file: Segment, end: int) -> None:
        """Go to another file, of which everything before ``end`` is known."""
        if self._marks:
            self._ends.append(self._marks[-1][1])
        self._marks = _marks_before(file, end)

    def _meet_again(self, files: Sequence[Segment]) -> Segment | None:
        """Return the file that was the youngest, as long as it is now; None if what was read there is gone."""
        file = self._youngest
        if file is None:
            return None
        here = next((other for other in files if _are_same(file, other)), None)
        if here is not None:
            file = file.cut(here.size)
        elif file.packed is None:
            file = file.cut(os.fstat(file.fd).st_size)
        if not self._marks:
            return file
        while self._marks:
            if _stands(self._marks[-1], file):
                return file
            self._marks.pop()  # a torn tail that was cut, or a hand that wrote into the file
        self._hold(None)
        return None

    # -- what is new

    def _first_new(self, files: Sequence[Segment]) -> tuple[int, int]:
        """Return the first file, and the offset in it, from which on all records are new."""
        known = set(chain(self._recent, self._ends, (mark[1] for mark in self._lasting)))
        for index in range(len(files) - 1, -1, -1):
            file = files[index]
            if _are_same(file, self._youngest):
                return index + 1, 0
            for offset, line, _ in backward(file, file.size):
                self._check()
                if hash(line) in known:
                    return index, offset + len(line)
        return 0, 0

    def _read(self, file: Segment, start: int, *, grows: bool) -> Iterator[list[PersistedRecord]]:
        """Yield the records from an offset on, and remember them.

        A line without its newline is no record yet if the file ``grows``.
        """
        for begin, end, lines in forward(file, start, file.size):
            self._check()
            if grows and len(lines) == 1 and end - begin == len(lines[0]):
                return
            records: list[PersistedRecord] = []
            stop = begin - 1
            for line in lines:
                stop += 1 + len(line)
                try:
                    records.append(decode(line))
                except InvalidLine:
                    continue
                mark = (stop, hash(line), records[-1].timestamp)
                self._marks.append(mark)
                self._remember(mark)
            if records:
                yield records

    def _without_torn_line(self, file: Segment) -> Segment:
        """Return a file up to the last newline, if more may be appended to it."""
        if file.path == self.files.base:
            for offset, _, terminated in backward(file, file.size):
                return file if terminated else file.cut(offset)
        return file


def _marks_before(file: Segment, end: int) -> deque[_Mark]:
    marks: deque[_Mark] = deque(maxlen=_RECENT)
    for offset, line, _ in backward(file, end) if end else ():
        try:
            time = decode(line).timestamp
        except InvalidLine:
            continue
        marks.appendleft((offset + len(line), hash(line), time))
        if len(marks) == _RECENT:
            break
    return marks


def _stands(mark: _Mark, file: Segment) -> bool:
    """Tell whether the record that was marked still stands there."""
    for offset, line, _ in backward(file, min(mark[0] + 1, file.size)):
        return (offset + len(line), hash(line)) == mark[:2]
    return False


def _are_same(file: Segment, other: Segment | None) -> bool:
    return other is not None and file.identity == other.identity
