"""Pages in the order of writing, and cursors that find their place again. Plain blocking code.

A cursor names the last record that was read: the file it was in, where it ends, its ``seq``, and digests of
it and of some before it. In the same file, whatever its name is now, the place is found at once. After a
compaction it is after the last record whose ``seq`` is not greater, or, among the lines of the published
package, which have no ``seq``, after the youngest one whose digest is known.
"""

from __future__ import annotations

import re
from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from papyra.persistence.models import PersistedRecord
from papyra.persistence.paging import Page, bad_cursor
from papyra_json._fileset.snapshot import open_unlocked
from papyra_json._record.decode import InvalidLine, decode, sequence_of
from papyra_json._record.lines import forward, has_junk, pieces, pieces_backward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset.names import FileSet
    from papyra_json._fileset.snapshot import Snapshot
    from papyra_json._segment.segment import Segment

__all__ = ["Cursor", "Pager"]

MAX_CURSOR_DIGESTS = 8  # of the newest records, in case a compaction removes the newest first

_R = TypeVar("_R", bound=PersistedRecord)
_Place = tuple[int, int]  # the index of a file in a snapshot, and an offset in it

_TEXT = re.compile(
    r"([0-9a-f]{1,16})\.([0-9a-f]{1,16})\.([0-9a-f]{1,16})\.([0-9a-f]{0,16})"
    rf"((?:-[0-9a-f]{{16}}){{1,{MAX_CURSOR_DIGESTS}}})"
)


class Cursor(NamedTuple):
    """The place after a record; ``digests`` are those of it and of some before it, the last first."""

    device: int
    inode: int
    end: int
    seq: int | None
    digests: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor of a text that `str` made; another one is a `ValueError`."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise bad_cursor(text)
        device, inode, end = (int(match[group], 16) for group in (1, 2, 3))
        seq = int(match[4], 16) if match[4] else None
        return cls(device, inode, end, seq, tuple(match[5][1:].split("-")))

    def __str__(self) -> str:
        seq = "" if self.seq is None else f"{self.seq:x}"
        return "-".join((f"{self.device:x}.{self.inode:x}.{self.end:x}.{seq}", *self.digests))


class Pager:
    """Reads pages, and remembers where retention begins while the files stay as they are."""

    def __init__(self) -> None:
        self._kept: tuple[object, _Place, _Place] | None = None  # the files, from where on, and the place

    def page(
        self,
        files: FileSet,
        query: Query[_R],
        after: str | None,
        limit: int,
        policy: RetentionPolicy,
        now: float,
        check: Callable[[], None],
    ) -> Page[_R]:
        """Return the first ``limit`` records after a cursor that match and are kept."""
        cursor = Cursor.parse(after) if after else None
        oldest = policy.oldest_kept(now)
        records: list[_R] = []
        read: deque[bytes] = deque(maxlen=MAX_CURSOR_DIGESTS)
        last: tuple[Segment, int] | None = None
        with open_unlocked(files).raise_failure() as snapshot:
            place = _place(snapshot, cursor, check) if cursor else (0, 0)
            place = max(place, self._first_kept(snapshot, policy, now, place, check))
            for file, end, line, record in _records(snapshot, place, check):
                read.append(line)
                last = file, end
                if record.timestamp >= oldest and query.matches(record):
                    records.append(record)
                    if len(records) == limit:
                        break
        if last is None:
            return Page(records, after or "")
        digests = (*map(_digest, reversed(read)), *(cursor.digests if cursor else ()))[:MAX_CURSOR_DIGESTS]
        return Page(records, str(Cursor(*last[0].identity, last[1], sequence_of(read[-1]), digests)))

    def _first_kept(
        self,
        snapshot: Snapshot,
        policy: RetentionPolicy,
        now: float,
        after: _Place,
        check: Callable[[], None],
    ) -> _Place:
        """Return the place of the oldest record after a place that limits of number and size keep."""
        if policy.max_records is None and policy.max_total_bytes is None:
            return after
        state = policy, [(file.identity, file.stored) for file in snapshot.files]
        known = self._kept
        if known is None or known[0] != state or after < known[1]:
            known = self._kept = state, after, _first_kept(snapshot, policy, now, after, check)
        return known[2]


def _records(
    snapshot: Snapshot, place: _Place, check: Callable[[], None]
) -> Iterator[tuple[Segment, int, bytes, PersistedRecord]]:
    """Yield the records from a place on, with their file, their end in it, and their line."""
    index, start = place
    for file in snapshot.files[index:]:
        for at, _, lines in forward(file, start, file.size):
            check()
            for line in lines:
                for offset, piece in pieces(line) if has_junk(line) else ((0, line),):
                    try:
                        record = decode(piece)
                    except InvalidLine:  # also the beginning of a line that is being written
                        continue
                    yield file, at + offset + len(piece), piece, record
                at += len(line) + 1
        start = 0


def _place(snapshot: Snapshot, cursor: Cursor, check: Callable[[], None]) -> _Place:
    """Return the place after the record of a cursor.

    The beginning, if the store was made anew or the place is not known.
    """
    for index, file in enumerate(snapshot.files):
        if file.identity == (cursor.device, cursor.inode) and _ends_there(file, cursor):
            return index, cursor.end
    if cursor.seq is not None:
        return _place_of_sequence(snapshot, cursor.seq, cursor.digests[0], check)
    for index, offset, line in _newest_first(snapshot, check):
        if _digest(line) in cursor.digests:
            return index, offset + len(line)
    return 0, 0


def _ends_there(file: Segment, cursor: Cursor) -> bool:
    if cursor.end > file.size:
        return False
    offset, line = next(pieces_backward(file, cursor.end), (0, b""))
    return offset + len(line) == cursor.end and _digest(line) == cursor.digests[0]


def _place_of_sequence(snapshot: Snapshot, seq: int, digest: str, check: Callable[[], None]) -> _Place:
    newest = snapshot.notes.last_seq
    for index, offset, line in _newest_first(snapshot, check):
        number = _sequence(line)
        if number is None:
            continue
        newest = max(newest, number)
        if newest < seq:  # numbers are never given out again, so this is another store
            return 0, 0
        if number <= seq:
            return (0, 0) if number == seq and _digest(line) != digest else (index, offset + len(line))
    return 0, 0


def _newest_first(snapshot: Snapshot, check: Callable[[], None]) -> Iterator[tuple[int, int, bytes]]:
    for index in range(len(snapshot.files) - 1, -1, -1):
        file = snapshot.files[index]
        for offset, line in pieces_backward(file, file.size):
            check()
            yield index, offset, line


def _first_kept(
    snapshot: Snapshot, policy: RetentionPolicy, now: float, after: _Place, check: Callable[[], None]
) -> _Place:
    here = (len(snapshot.files), 0)

    def sized() -> Iterator[tuple[PersistedRecord, int]]:
        nonlocal here
        for index, offset, line in _newest_first(snapshot, check):
            if (index, offset) < after:
                return
            try:
                record = decode(line)
            except InvalidLine:
                continue
            here = index, offset
            yield record, len(line) + 1

    first = here
    for _ in policy.kept(sized(), now):
        first = here
    return first


def _sequence(line: bytes) -> int | None:
    try:
        return sequence_of(line)
    except InvalidLine:
        return None


def _digest(line: bytes) -> str:
    return blake2b(line, digest_size=8).hexdigest()
