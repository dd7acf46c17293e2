"""Read the newest records that match, from the end of the set, no further back than it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra_json._decode import InvalidLine, decode
from papyra_json._reading import backward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from papyra.persistence.models import PersistedRecord
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset import FileSet, Snapshot

__all__ = ["Query", "newest"]

_R = TypeVar("_R", PersistedEvent, PersistedAudit, PersistedDeadLetter)

_CHECK_EVERY = 1024  # records between two looks at whether the caller still waits


@dataclass(frozen=True, slots=True)
class Query(Generic[_R]):
    """Which records are wanted: at most ``limit`` of one kind, between two Unix times, both included."""

    kind: type[_R]
    limit: int | None
    since: float | None
    until: float | None
    wanted: Callable[[_R], bool] = lambda _: True

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit must not be negative, but is {self.limit}")

    def match(self, record: PersistedRecord) -> _R | None:
        """Return the record if it is wanted."""
        if not isinstance(record, self.kind):
            return None
        if self.since is not None and record.timestamp < self.since:
            return None
        if self.until is not None and record.timestamp > self.until:
            return None
        return record if self.wanted(record) else None


def newest(
    files: FileSet, query: Query[_R], policy: RetentionPolicy, now: float, checkpoint: Callable[[], None]
) -> list[_R]:
    """Return the newest records that match and that ``policy`` keeps at the Unix time ``now``, oldest first."""
    found: list[_R] = []
    if query.limit == 0:
        return found
    with files.open_unlocked().raise_failure() as snapshot:
        for number, record in enumerate(_kept(snapshot, policy, now)):
            if number % _CHECK_EVERY == 0:
                checkpoint()
            match = query.match(record)
            if match is not None:
                found.append(match)
                if len(found) == query.limit:
                    break
    found.reverse()
    return found


def _kept(snapshot: Snapshot, policy: RetentionPolicy, now: float) -> Iterator[PersistedRecord]:
    """Yield what the policy keeps, newest first; lines that are no valid records are passed over."""
    oldest = policy.oldest_kept(now)
    records_left = policy.max_records
    bytes_left = policy.max_total_bytes
    for file in reversed(snapshot.files):
        for _, line, terminated in backward(file.fd, file.size):
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
