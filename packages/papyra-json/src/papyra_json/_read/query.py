"""Read the newest records that match, from the end of the set, and no further back than needed."""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import TYPE_CHECKING, TypeVar

from papyra.persistence.models import PersistedRecord
from papyra_json._fileset.snapshot import open_unlocked
from papyra_json._fileset.time_index import read_table
from papyra_json._read.time_search import worth_reading
from papyra_json._record.decode import InvalidLine, decode
from papyra_json._record.lines import backward, has_junk, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset.names import FileSet
    from papyra_json._fileset.snapshot import Snapshot
    from papyra_json._fs.files import Range
    from papyra_json._segment.segment import Segment

__all__ = ["count_matching", "matching", "newest", "newest_first"]

_R = TypeVar("_R", bound=PersistedRecord)

CHECK_RECORDS = 1024  # between two checks whether the caller still waits
BLOCK_RECORDS = 2000


def newest(
    files: FileSet, query: Query[_R], policy: RetentionPolicy, now: float, checkpoint: Callable[[], None]
) -> list[_R]:
    """Return the newest records that match and are kept at the Unix time ``now``, oldest first."""
    if query.limit == 0:
        return []
    with open_unlocked(files).raise_failure() as snapshot:
        records = list(matching(snapshot, query, policy, now, checkpoint))
    records.reverse()
    return records


def count_matching(
    files: FileSet, query: Query[_R], policy: RetentionPolicy, now: float, checkpoint: Callable[[], None]
) -> int:
    """Return how many records `newest` would return."""
    if query.limit == 0:
        return 0
    with open_unlocked(files).raise_failure() as snapshot:
        return sum(1 for _ in matching(snapshot, query, policy, now, checkpoint))


def newest_first(
    files: FileSet,
    query: Query[PersistedRecord],
    policy: RetentionPolicy,
    now: float,
    checkpoint: Callable[[], None],
) -> Generator[list[PersistedRecord]]:
    """Yield the same records in blocks, newest first."""
    with open_unlocked(files).raise_failure() as snapshot:
        records = matching(snapshot, query, policy, now, checkpoint)
        while block := list(islice(records, BLOCK_RECORDS)):
            yield block


def matching(
    snapshot: Snapshot,
    query: Query[_R],
    policy: RetentionPolicy,
    now: float,
    checkpoint: Callable[[], None],
) -> Iterator[_R]:
    """Yield the records of a snapshot that `newest` would return, newest first, in constant memory."""
    found = 0
    sized = _records(snapshot, query, policy, policy.oldest_kept(now))
    for number, (record, _) in enumerate(policy.kept(sized, now)):
        if number % CHECK_RECORDS == 0:
            checkpoint()
        if query.matches(record):
            yield record
            found += 1
            if found == query.limit:
                return


def _records(
    snapshot: Snapshot, query: Query[_R], policy: RetentionPolicy, oldest: float
) -> Iterator[tuple[PersistedRecord, int]]:
    """Yield the records that may count, newest first, with their sizes; invalid lines are passed over."""
    for line, terminated in _lines(snapshot, query, policy, oldest):
        try:
            yield decode(line), len(line) + terminated
        except InvalidLine:
            if has_junk(line):
                yield from _records_between_nuls(line)


def _records_between_nuls(line: bytes) -> Iterator[tuple[PersistedRecord, int]]:
    for _, piece in reversed(pieces(line)):
        try:
            yield decode(piece), len(piece) + 1
        except InvalidLine:
            continue


def _lines(
    snapshot: Snapshot, query: Query[_R], policy: RetentionPolicy, oldest: float
) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines that may count, newest first, and whether a newline ended each."""
    low = oldest if query.since is None else max(query.since, oldest)
    high = inf if query.until is None else query.until
    for file, parts in _parts(snapshot, policy, oldest, low, high):
        for start, end in reversed(parts):
            for _, line, terminated in backward(file, end, start):
                yield line, terminated


def _parts(
    snapshot: Snapshot, policy: RetentionPolicy, oldest: float, low: float, high: float
) -> Iterator[tuple[Segment, list[Range]]]:
    """Yield the files, youngest first, and the ranges of them to read."""
    if low == -inf and high == inf:
        yield from ((file, [(0, file.size)]) for file in reversed(snapshot.files))
        return
    entries = read_table(snapshot.table)
    if policy.max_records is None and policy.max_total_bytes is None:
        yield from ((file, worth_reading(file, entries, low, high)) for file in reversed(snapshot.files))
        return
    # How many records are newer decides which ones are kept, whether they match or not. So only the records
    # before the first one that matches can be left out, and those too old to count.
    first: Segment | None = None
    start = 0
    for file in snapshot.files:
        parts = worth_reading(file, entries, low, inf)
        if parts:
            first, start = file, parts[0][0]
            break
    for file in reversed(snapshot.files if first else ()):
        begin = start if file is first else 0
        parts = worth_reading(file, entries, oldest, inf)
        yield file, [(max(begin, part), end) for part, end in parts if end > begin]
        if file is first:
            return
