"""Read the newest records that match, from the end of the set, no further back than it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from papyra.persistence.models import PersistedRecord
from papyra_json._decode import InvalidLine, decode
from papyra_json._reading import backward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset import FileSet, Snapshot

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
    for number, record in enumerate(_kept(snapshot, policy, now)):
        if number % _CHECK_EVERY == 0:
            checkpoint()
        if query.matches(record):
            yield record
            found += 1
            if found == query.limit:
                return


def _kept(snapshot: Snapshot, policy: RetentionPolicy, now: float) -> Iterator[PersistedRecord]:
    """Yield what the policy keeps, newest first; lines that are no valid records are passed over."""
    oldest = policy.oldest_kept(now)
    records_left = policy.max_records
    bytes_left = policy.max_total_bytes
    for file in reversed(snapshot.files):
        for _, line, terminated in backward(file, file.size):
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
