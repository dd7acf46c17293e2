"""A question to a store, as a value that the store can hand down to its files or its database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from papyra.persistence.models import PersistedDeadLetter, PersistedEvent, PersistedRecord

if TYPE_CHECKING:
    from typing import TypeGuard

__all__ = ["Query"]

_R = TypeVar("_R", bound=PersistedRecord)


@dataclass(frozen=True, slots=True)
class Query(Generic[_R]):
    """The newest ``limit`` records of one kind, or of all where ``kind`` is None.

    ``since`` and ``until`` are Unix times, both inclusive. ``type`` is an event's ``event_type`` or a dead
    letter's ``message_type``, ``actor`` an event's ``actor_address`` or a dead letter's ``target``; audits
    have neither. A negative ``limit`` is a `ValueError`.
    """

    kind: type[_R] | None = None
    limit: int | None = None
    since: float | None = None
    until: float | None = None
    type: str | None = None
    actor: str | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit must not be negative, but is {self.limit}")

    def matches(self, record: PersistedRecord) -> TypeGuard[_R]:
        """Tell whether a record is asked for, leaving ``limit`` aside."""
        if self.kind is not None and not isinstance(record, self.kind):
            return False
        if self.since is not None and record.timestamp < self.since:
            return False
        if self.until is not None and record.timestamp > self.until:
            return False
        if self.type is None and self.actor is None:
            return True
        if isinstance(record, PersistedEvent):
            kind, actor = record.event_type, record.actor_address
        elif isinstance(record, PersistedDeadLetter):
            kind, actor = record.message_type, record.target
        else:
            return False
        return self.type in (None, kind) and self.actor in (None, actor)
