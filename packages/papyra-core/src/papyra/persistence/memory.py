"""The store of facts that needs nothing: the newest ones, in memory."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from papyra.exceptions import PersistenceError
from papyra.persistence.backend import PersistenceBackend
from papyra.persistence.models import CompactionReport, PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra.persistence.payload import json_payload
from papyra.persistence.retention import RetentionPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from papyra.persistence.models import PersistedRecord

__all__ = ["DEFAULT_MAX_RECORDS", "InMemoryPersistence"]

DEFAULT_MAX_RECORDS = 10_000
"""What is kept without a policy, so that a system's memory does not grow with its history."""

_R = TypeVar("_R", PersistedEvent, PersistedAudit, PersistedDeadLetter)


class InMemoryPersistence(PersistenceBackend):
    """Keep the newest facts in memory: 10,000 of them without a ``retention_policy``.

    Everything is gone with the process. ``max_total_bytes`` counts an estimate of each record's size as JSON.
    A policy without limits keeps everything.
    """

    name: ClassVar[str] = "memory"

    def __init__(self, retention_policy: RetentionPolicy | None = None) -> None:
        self._retention = retention_policy or RetentionPolicy(max_records=DEFAULT_MAX_RECORDS)
        self._records: deque[PersistedRecord] = deque(maxlen=self._retention.max_records)
        self._closed = False

    # -- writing

    async def record_event(self, event: PersistedEvent) -> None:
        """Keep one event."""
        await self.record_batch((event,))

    async def record_audit(self, audit: PersistedAudit) -> None:
        """Keep one audit."""
        await self.record_batch((audit,))

    async def record_dead_letter(self, dead_letter: PersistedDeadLetter) -> None:
        """Keep one dead letter."""
        await self.record_batch((dead_letter,))

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        """Keep records in their order."""
        self._check_open()
        self._records.extend(records)
        metrics = self.metrics
        metrics.records_written += len(records)
        policy = self.retention
        if policy.max_age_seconds is not None or policy.max_total_bytes is not None:
            kept = self._kept()
            if len(kept) < len(self._records):
                self._replace(kept)

    async def aclose(self) -> None:
        """Close; what was kept is forgotten."""
        self._closed = True
        self._records.clear()

    # -- reading

    async def list_events(
        self,
        *,
        limit: int | None = None,
        since: float | None = None,
        until: float | None = None,
        event_type: str | None = None,
        actor: str | None = None,
    ) -> Sequence[PersistedEvent]:
        """Return the newest ``limit`` events that match, oldest first."""

        def wanted(event: PersistedEvent) -> bool:
            return (event_type is None or event.event_type == event_type) and (
                actor is None or event.actor_address == actor
            )

        return self._newest(PersistedEvent, limit, since, until, wanted)

    async def list_audits(
        self, *, limit: int | None = None, since: float | None = None, until: float | None = None
    ) -> Sequence[PersistedAudit]:
        """Return the newest ``limit`` audits that match, oldest first."""
        return self._newest(PersistedAudit, limit, since, until, lambda _: True)

    async def list_dead_letters(
        self,
        *,
        limit: int | None = None,
        since: float | None = None,
        until: float | None = None,
        message_type: str | None = None,
        actor: str | None = None,
    ) -> Sequence[PersistedDeadLetter]:
        """Return the newest ``limit`` dead letters that match, oldest first."""

        def wanted(letter: PersistedDeadLetter) -> bool:
            return (message_type is None or letter.message_type == message_type) and (
                actor is None or letter.target == actor
            )

        return self._newest(PersistedDeadLetter, limit, since, until, wanted)

    # -- care

    async def compact(self, *, dry_run: bool = False) -> CompactionReport:
        """Forget what the policy no longer keeps."""
        self._check_open()
        kept = self._kept()
        before = len(self._records)
        if not dry_run:
            self._replace(kept)
            self.metrics.compactions += 1
        return CompactionReport(self.name, before, len(kept), None, None)

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    # -- inside

    def _check_open(self) -> None:
        if self._closed:
            raise PersistenceError("the memory backend is closed; open a new one")

    def _replace(self, records: list[PersistedRecord]) -> None:
        self._records = deque(records, maxlen=self.retention.max_records)

    def _kept(self) -> list[PersistedRecord]:
        """Apply age, then count, then bytes; the deque's length sees to the count beforehand."""
        policy = self.retention
        oldest = policy.oldest_kept(self.time_fn())
        kept = [record for record in self._records if record.timestamp >= oldest]
        if policy.max_total_bytes is not None:
            left = policy.max_total_bytes
            for index in range(len(kept) - 1, -1, -1):
                left -= _estimated_size(kept[index])
                if left < 0:
                    return kept[index + 1 :]
        return kept

    def _newest(
        self,
        kind: type[_R],
        limit: int | None,
        since: float | None,
        until: float | None,
        wanted: Callable[[_R], bool],
    ) -> list[_R]:
        self._check_open()
        if limit is not None and limit < 0:
            raise ValueError(f"limit must not be negative, but is {limit}")

        def matches() -> Iterator[_R]:
            for record in reversed(self._kept()):
                if not isinstance(record, kind):
                    continue
                if since is not None and record.timestamp < since:
                    continue
                if until is not None and record.timestamp > until:
                    continue
                if wanted(record):
                    yield record

        found = list(islice(matches(), limit))
        found.reverse()
        return found


def _estimated_size(record: PersistedRecord) -> int:
    fields: dict[str, Any] = {name: getattr(record, name) for name in record.__slots__}
    return len(str(json_payload(fields)))
