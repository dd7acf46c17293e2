"""Records that tell their number, and what asks for them."""

from __future__ import annotations

import anyio

from papyra.persistence.models import (
    PersistedAudit,
    PersistedEvent,
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
)

REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)
QUARANTINE = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)


def event(number: int, moment: float | None = None, *, writer: int = 1, **payload: object) -> PersistedEvent:
    moment = 1e9 + number if moment is None else moment
    return PersistedEvent("local", f"local:{writer}", "Happened", {"n": number, **payload}, moment)


def events(*numbers: int) -> list[PersistedEvent]:
    return [event(number) for number in numbers]


def padded(count: int, first: int = 0) -> list[PersistedEvent]:
    """Make many events of seven actors."""
    return [event(n, writer=n % 7, pad="x" * 100) for n in range(first, first + count)]


def audit(number: int) -> PersistedAudit:
    return PersistedAudit("local", 1e9 + number, 1, 1, 0, 0, 0, (), (), 0)


async def take(records, count: int) -> list:
    with anyio.fail_after(60):
        return [await anext(records) for _ in range(count)]
