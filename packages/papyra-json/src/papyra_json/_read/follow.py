"""Follow the new records of a set while other processes change its files. Plain blocking code.

The youngest file stays open from one look to the next. So no other file gets its identity, and records that
were appended before it was rotated, replaced, moved away or deleted can still be read. In files that were not
seen before, the records already read end at the youngest record that is known: a compaction's copy has one,
the file after a rotation none.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from contextlib import closing, suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias

from papyra.persistence.files import identity
from papyra.persistence.query import Query
from papyra_json._fileset.lock import SetLock
from papyra_json._fileset.snapshot import open_shared
from papyra_json._read.query import matching
from papyra_json._record.decode import InvalidLine, decode
from papyra_json._record.lines import backward, forward, has_junk, pieces, pieces_backward

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import PersistedRecord
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset.names import FileSet
    from papyra_json._segment.segment import Segment

    Wanted: TypeAlias = Callable[[PersistedRecord], bool]

__all__ = ["follow"]

RECENT_RECORDS = 256  # remembered; a torn tail loses far fewer
RECENT_FILES = 16

_Seen: TypeAlias = tuple[int, int, float]  # where a record ends, without its newline, its hash and its time


def follow(
    files: FileSet, limit: int, wanted: Wanted, policy: RetentionPolicy, now: float, work: Work
) -> Generator[list[PersistedRecord]]:
    """Yield the newest ``limit`` records that are wanted, then blocks of new ones.

    An empty block if there is none yet.
    """
    wanted = work.guarded(wanted)
    with closing(_Follower(files, work.check)) as follower:
        yield follower.begin(limit, wanted, policy, now)
        while True:
            for records in follower.look():
                newest = list(filter(wanted, records))
                if newest:
                    yield newest
            yield []


class _Follower:
    """Remembers the records that were read, and finds the new ones."""

    def __init__(self, files: FileSet, check: Callable[[], None]) -> None:
        self.files = files
        self._check = check
        self._lock = SetLock(files.base, check)
        self._state: object = None  # of the base, at the last look
        self._youngest: Segment | None = None  # then
        self._seen: deque[_Seen] = deque()  # the last records read in it
        self._recent: deque[int] = deque(
            maxlen=RECENT_RECORDS
        )  # hashes of the last records read, in any file
        self._ends: deque[int] = deque(maxlen=RECENT_FILES)  # and of the last record of each file
        self._lasting: deque[_Seen] = deque(maxlen=RECENT_RECORDS)  # younger than all records read later

    def close(self) -> None:
        """Close the files."""
        self._hold(None)
        self._lock.close()

    def begin(self, limit: int, wanted: Wanted, policy: RetentionPolicy, now: float) -> list[PersistedRecord]:
        """Return the newest records that are wanted, oldest first; all records after them are new."""
        self._state = self._state_of_base()
        with open_shared(self.files, self._lock).raise_failure() as snapshot:
            opened = snapshot.files
            snapshot.files = [self._without_torn_line(file) for file in opened]
            for file in snapshot.files[-RECENT_FILES:]:
                self._meet(file, file.size)
                for seen in self._seen:
                    self._remember(seen)
            query: Query[PersistedRecord] = Query()
            records = filter(wanted, matching(snapshot, query, policy, now, self._check))
            newest = list(islice(records, min(limit, sys.maxsize)))
            self._hold(opened[-1] if opened else None)
            snapshot.files = opened[:-1]
        newest.reverse()
        return newest

    def look(self) -> Iterator[list[PersistedRecord]]:
        """Yield the new records, in blocks."""
        state = self._state_of_base()
        if state == self._state:
            return
        self._state = state
        with open_shared(self.files, self._lock).raise_failure() as snapshot:
            files = snapshot.files
            growing = files[-1] if files and files[-1].path == self.files.base else None
            read = self._meet_again(files)
            if read is not None:
                start = self._seen[-1][0] if self._seen else 0
                yield from self._read(read, start, grows=_are_same(read, growing))
            index, start = self._first_new(files)
            for file in files[index:]:
                self._meet(file, start)
                yield from self._read(file, start, grows=_are_same(file, growing))
                read, start = file, 0
            if files and not _are_same(files[-1], read):
                self._meet(files[-1], files[-1].size)
            self._hold(files.pop() if files else None)

    def _state_of_base(self) -> object:
        """Return a value that changes with new records.

        Of the youngest file, or of the folder if there is none.
        """
        for path in (self.files.base, self.files.base.parent):
            with suppress(FileNotFoundError, NotADirectoryError):
                status = path.stat(follow_symlinks=path is not self.files.base)
                return identity(status), status.st_size, status.st_mtime_ns
        return None

    # -- the records that were read

    def _hold(self, file: Segment | None) -> None:
        if self._youngest is not None:
            self._youngest.close()
        self._youngest = file

    def _remember(self, seen: _Seen) -> None:
        """Keep enough to recognize a record that was read.

        Clocks may run backwards, so compaction by age can delete the newest lines first. Keep the records
        whose timestamps exceed every later one: some of them survive.
        """
        self._recent.append(seen[1])
        while self._lasting and self._lasting[-1][2] <= seen[2]:
            self._lasting.pop()
        self._lasting.append(seen)

    def _meet(self, file: Segment, end: int) -> None:
        """Go on to another file, whose records before ``end`` are all known."""
        if self._seen:
            self._ends.append(self._seen[-1][1])
        self._seen = _last_records(file, end)

    def _meet_again(self, files: Sequence[Segment]) -> Segment | None:
        """Return the file that was the youngest, in its present size.

        None if the records read there are gone.
        """
        file = self._youngest
        if file is None:
            return None
        same = next((other for other in files if _are_same(file, other)), None)
        if same is not None:
            file = same  # a new handle works even if the old one went stale
        elif file.packed is None:
            try:
                file = file.cut(os.fstat(file.fd).st_size)
            except OSError:  # a stale handle: the files that are there now have to do
                self._hold(None)
                return None
        if not self._seen:
            return file
        while self._seen:
            if _is_there(self._seen[-1], file):
                return file
            self._seen.pop()  # a torn tail that was cut off, or the file was edited
        self._hold(None)
        return None

    # -- the new records

    def _first_new(self, files: Sequence[Segment]) -> tuple[int, int]:
        """Return the first file, and the offset in it, from which on all records are new."""
        known = set(chain(self._recent, self._ends, (seen[1] for seen in self._lasting)))
        for index in range(len(files) - 1, -1, -1):
            file = files[index]
            if _are_same(file, self._youngest):
                return index + 1, 0
            for offset, line in pieces_backward(file, file.size):
                self._check()
                if hash(line) in known:
                    return index, offset + len(line)
        return 0, 0

    def _read(self, file: Segment, start: int, *, grows: bool) -> Iterator[list[PersistedRecord]]:
        """Yield the records from an offset on, and remember them.

        A line without its newline is not a record yet if the file ``grows``.
        """
        for begin, end, lines in forward(file, start, file.size):
            self._check()
            if grows and end == file.size and len(lines) == 1 and end - begin == len(lines[0]):
                return
            records: list[PersistedRecord] = []
            at = begin
            for line in lines:
                for offset, piece in pieces(line) if has_junk(line) else ((0, line),):
                    try:
                        records.append(decode(piece))
                    except InvalidLine:
                        continue
                    seen = (at + offset + len(piece), hash(piece), records[-1].timestamp)
                    self._seen.append(seen)
                    self._remember(seen)
                at += len(line) + 1
            if records:
                yield records

    def _without_torn_line(self, file: Segment) -> Segment:
        """Return a file up to its last newline, if more may be appended to it."""
        if file.path == self.files.base:
            for offset, _, terminated in backward(file, file.size):
                return file if terminated else file.cut(offset)
        return file


def _last_records(file: Segment, end: int) -> deque[_Seen]:
    last: deque[_Seen] = deque(maxlen=RECENT_RECORDS)
    for offset, line in pieces_backward(file, end) if end else ():
        try:
            time = decode(line).timestamp
        except InvalidLine:
            continue
        last.appendleft((offset + len(line), hash(line), time))
        if len(last) == RECENT_RECORDS:
            break
    return last


def _is_there(seen: _Seen, file: Segment) -> bool:
    """Return whether a record that was read is still at its place."""
    for offset, line in pieces_backward(file, min(seen[0] + 1, file.size)):
        return (offset + len(line), hash(line)) == seen[:2]
    return False


def _are_same(file: Segment, other: Segment | None) -> bool:
    return other is not None and file.identity == other.identity
