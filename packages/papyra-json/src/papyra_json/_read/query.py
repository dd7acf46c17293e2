"""Read the newest records that match, from the end of the set, no further back than it takes."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, TypeVar

from papyra.persistence.models import PersistedRecord
from papyra_json._fileset.time_index import read_table
from papyra_json._read.time_search import worth_reading
from papyra_json._record.decode import InvalidLine, decode
from papyra_json._record.lines import backward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset.names import FileSet, Snapshot
    from papyra_json._fs.files import Range
    from papyra_json._segment.segment import Segment

__all__ = ["matching", "newest"]

_R = TypeVar("_R", bound=PersistedRecord)

_CHECK_EVERY = 1024  # records between two looks at whether the caller still waits


def newest(
    files: FileSet, query: Query[_R], policy: RetentionPolicy, now: float, checkpoint: Callable[[], None]
) -> list[_R]:
    """Return the newest records that match and that ``policy`` keeps at the Unix time ``now``, oldest first."""
    if query.limit == 0:
        return []
    with files.open_unlocked().raise_failure() as snapshot:
        found = list(matching(snapshot, query, policy, now, checkpoint))
    found.reverse()
    return found


def matching(
    snapshot: Snapshot,
    query: Query[_R],
    policy: RetentionPolicy,
    now: float,
    checkpoint: Callable[[], None],
) -> Iterator[_R]:
    """Yield what `newest` would return of a snapshot, newest first, in constant memory."""
    found = 0
    for number, record in enumerate(_kept(snapshot, query, policy, now)):
        if number % _CHECK_EVERY == 0:
            checkpoint()
        if query.matches(record):
            yield record
            found += 1
            if found == query.limit:
                return


def _kept(
    snapshot: Snapshot, query: Query[_R], policy: RetentionPolicy, now: float
) -> Iterator[PersistedRecord]:
    """Yield, newest first, what the policy keeps; not all of what the query does not ask for.

    Lines that are no valid records are passed over.
    """
    oldest = policy.oldest_kept(now)
    records_left = policy.max_records
    bytes_left = policy.max_total_bytes
    for line, terminated in _lines(snapshot, query, policy, oldest):
        try:
            record = decode(line)
        except InvalidLine:
            continue
        if record.timestamp < oldest:
            continue
        if records_left is not None:
            records_left -= 1
            if records_left < 0:
                return
        if bytes_left is not None:
            bytes_left -= len(line) + terminated
            if bytes_left < 0:
                return
        yield record


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
    """Yield the files, youngest first, and which parts of them to read."""
    if low == -inf and high == inf:
        yield from ((file, [(0, file.size)]) for file in reversed(snapshot.files))
        return
    entries = read_table(snapshot.table)
    if policy.max_records is None and policy.max_total_bytes is None:
        yield from ((file, worth_reading(file, entries, low, high)) for file in reversed(snapshot.files))
        return
    # Which of the wanted records are kept depends on how many stand behind them, wanted or not. So only what is before
    # all that is wanted can be left out, and what is too old to count.
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
