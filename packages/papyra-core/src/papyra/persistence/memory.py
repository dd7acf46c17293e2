"""The store of facts that needs nothing: the newest ones, in memory."""

from __future__ import annotations

import json
import sys
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, TypeVar

from papyra.persistence.batch import BatchBackend
from papyra.persistence.models import (
    CompactionReport,
    PersistedAudit,
    PersistedDeadLetter,
    PersistedEvent,
    PersistedRecord,
)
from papyra.persistence.retention import RetentionPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from papyra.persistence.progress import Progress
    from papyra.persistence.query import Query

__all__ = ["DEFAULT_MAX_RECORDS", "InMemoryPersistence"]

DEFAULT_MAX_RECORDS = 10_000
"""The records that are kept without a policy, so that a system's memory does not grow with its history."""

_PRUNE_AT_LEAST = 1024

_R = TypeVar("_R", bound=PersistedRecord)


class InMemoryPersistence(BatchBackend):
    """Keep the newest facts in memory: 10,000 of them without a ``retention_policy``.

    Everything is gone with the process. ``max_total_bytes`` counts an estimate of each record's size as JSON.
    A policy without limits keeps everything.
    """

    name: ClassVar[str] = "memory"

    def __init__(self, retention_policy: RetentionPolicy | None = None) -> None:
        policy = retention_policy or RetentionPolicy(max_records=DEFAULT_MAX_RECORDS)
        self.retention = policy
        # With an age limit the newest of those young enough count, and they need not be the last ones.
        full = policy.max_records if policy.max_age_seconds is None else None
        self._records: deque[PersistedRecord] = deque(
            maxlen=None if full is None or full > sys.maxsize else full
        )
        self._bytes = (
            0  # of what was added since the last pruning and what was kept then: at least what is here
        )
        self._prune_at = _PRUNE_AT_LEAST
        self._closed = False

    @property
    def events(self) -> tuple[PersistedEvent, ...]:
        """The kept events, oldest first."""
        return tuple(record for record in self._records if isinstance(record, PersistedEvent))

    @property
    def audits(self) -> tuple[PersistedAudit, ...]:
        """The kept audits, oldest first."""
        return tuple(record for record in self._records if isinstance(record, PersistedAudit))

    @property
    def dead_letters(self) -> tuple[PersistedDeadLetter, ...]:
        """The kept dead letters, oldest first."""
        return tuple(record for record in self._records if isinstance(record, PersistedDeadLetter))

    async def clear(self) -> None:
        """Forget every record."""
        self._records.clear()
        self._bytes = 0

    # -- writing

    async def record_batch(self, records: Sequence[PersistedRecord], *, batch_id: str | None = None) -> None:
        """Keep records in their order."""
        self.refuse_if_closed()
        self._records.extend(records)
        self.metrics.records_written += len(records)
        self._prune_sometimes(records)

    async def aclose(self) -> None:
        """Close, and forget the records."""
        self._closed = True
        self._records.clear()

    # -- reading

    async def select(self, query: Query[_R]) -> list[_R]:
        """Return the newest ``query.limit`` records that match, oldest first."""
        self.refuse_if_closed()
        matching = filter(query.matches, self._newest_first())
        newest = list(islice(matching, None if query.limit is None else min(query.limit, sys.maxsize)))
        newest.reverse()
        return newest

    # -- care

    async def compact(self, *, dry_run: bool = False, progress: Progress | None = None) -> CompactionReport:
        """Forget what the policy no longer keeps."""
        self.refuse_if_closed()
        before = len(self._records)
        if dry_run:
            return CompactionReport(self.name, before, len(self._kept()), None, None)
        self._prune()
        self.metrics.compactions += 1
        return CompactionReport(self.name, before, len(self._records), None, None)

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    # -- inside

    def _prune_sometimes(self, added: Iterable[PersistedRecord]) -> None:
        """Prune when what is here has doubled, so that a write costs the same however many there are."""
        policy = self.retention
        if policy.max_age_seconds is None and policy.max_total_bytes is None:
            return  # the deque's own length sees to the count
        if policy.max_total_bytes is not None:
            self._bytes += sum(map(_estimated_size, added))
            if self._bytes > 2 * policy.max_total_bytes:
                self._prune()
        if len(self._records) >= self._prune_at:
            self._prune()

    def _prune(self) -> None:
        kept = self._kept()
        self._records = deque(reversed(kept), maxlen=self._records.maxlen)
        self._prune_at = max(2 * len(kept), _PRUNE_AT_LEAST)
        if self.retention.max_total_bytes is not None:
            self._bytes = sum(map(_estimated_size, kept))

    def _kept(self) -> list[PersistedRecord]:
        return self.retention.newest_kept(reversed(self._records), self.time_fn(), _estimated_size)

    def _newest_first(self) -> Iterable[PersistedRecord]:
        policy = self.retention
        by_count_alone = policy.max_age_seconds is None and policy.max_total_bytes is None
        return reversed(self._records) if by_count_alone else self._kept()


def _estimated_size(record: PersistedRecord) -> int:
    fields = [getattr(record, name) for name in record.__slots__]
    try:
        text = json.dumps(fields, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # a payload that JSON can't hold, from outside a system
        text = repr(fields)
    return len(text.encode("utf-8", "surrogatepass"))
