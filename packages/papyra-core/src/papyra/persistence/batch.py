"""The base of backends that keep all kinds of records in one sequence: they write fewer methods."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, TypeVar

from papyra.persistence.backend import PersistenceBackend
from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent, PersistedRecord
from papyra.persistence.query import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BatchBackend"]

_R = TypeVar("_R", bound=PersistedRecord)


class BatchBackend(PersistenceBackend):
    """Write `record_batch`, `select`, ``compact``, ``aclose`` and ``closed``; the rest follows."""

    @abstractmethod
    async def record_batch(self, records: Sequence[PersistedRecord], *, batch_id: str | None = None) -> None:
        """Store records in their order, at best all or none; raise if one is not stored.

        See `PersistenceBackend.record_batch` for ``batch_id``; a backend that does not need it may leave it
        out.
        """

    @abstractmethod
    async def select(self, query: Query[_R]) -> list[_R]:
        """Return the newest ``query.limit`` records for which ``query.matches`` holds, oldest first.

        Records beyond the retention policy are not returned, and a closed backend raises `PersistenceError`.
        """

    async def record_event(self, event: PersistedEvent) -> None:
        """Store one event; raise if it is not stored."""
        await self.record_batch((event,))

    async def record_audit(self, audit: PersistedAudit) -> None:
        """Store one audit; raise if it is not stored."""
        await self.record_batch((audit,))

    async def record_dead_letter(self, dead_letter: PersistedDeadLetter) -> None:
        """Store one dead letter; raise if it is not stored."""
        await self.record_batch((dead_letter,))

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
        return await self.select(Query(PersistedEvent, limit, since, until, event_type, actor))

    async def list_audits(
        self, *, limit: int | None = None, since: float | None = None, until: float | None = None
    ) -> Sequence[PersistedAudit]:
        """Return the newest ``limit`` audits that match, oldest first."""
        return await self.select(Query(PersistedAudit, limit, since, until))

    async def list_dead_letters(
        self,
        *,
        limit: int | None = None,
        since: float | None = None,
        until: float | None = None,
        message_type: str | None = None,
        actor: str | None = None,
    ) -> Sequence[PersistedDeadLetter]:
        """Return the newest ``limit`` dead letters that match, oldest first; ``actor`` is their target."""
        return await self.select(Query(PersistedDeadLetter, limit, since, until, message_type, actor))

    async def _papyra_newest(self, limit: int | None) -> Sequence[PersistedRecord]:
        query: Query[PersistedRecord] = Query(limit=limit)
        return await self.select(query)
