"""The facts that the conformance tests record, and the questions that several of them ask a store."""

from __future__ import annotations

import inspect
import random
from contextlib import aclosing
from dataclasses import replace
from heapq import merge
from typing import TYPE_CHECKING, Any

from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import JSONValue, PersistedRecord

__all__ = [
    "LONG_BATCH_RECORDS",
    "NOW",
    "ODD_TEXTS",
    "ODD_VALUES",
    "audit",
    "event",
    "letter",
    "mixed",
    "noise",
    "offer",
    "stored",
    "streamed",
]

NOW = 1_700_000_000.0

LONG_BATCH_RECORDS = 1_200  # records: longer than the parts that a store may cut a batch into

ODD_TEXTS = {
    "empty": "",
    "nul": "a\0b",
    "quotes": "\"double\" 'single' \\ back",
    "line-ends": "a\nb\r\nc\u0085d\u2028e\u2029f\x0bg\x0ch",
    "controls": "\x01\x1b[31m\x7f\x9b",
    "bidi": "\u202eabc\u202c \u2066x\u2069",
    "emoji": "\U0001f469\u200d\U0001f680 \U0001f1ee\U0001f1f8",
    "combining": "e\u0301 \u00e9 \u1e9e",
    "non-characters": "\ufeff\ufffe\uffff\U0010ffff",
    "looks-like-json": '{"kind":"event","seq":1}\n',
    "looks-like-sql": "'; DROP TABLE facts; --",
    "longer-than-a-page": "p\u00e4ge" * 5000,
}


def _nested(depth: int) -> JSONValue:
    if depth == 0:
        return "bottom"
    return [_nested(depth - 1)] if depth % 2 else {"in": _nested(depth - 1)}


ODD_VALUES: dict[str, JSONValue] = {
    "none": None,
    "booleans": [True, False],
    "zeros": [0, 0.0, "0", False, "", [], {}],
    "64-bit-integers": [2**63 - 1, -(2**63), 2**64 - 1, 2**53 + 1],
    "floats": [0.1, 1e308, -1e308, 5e-324, 1.7976931348623157e308, 1e16, 123456789.123456789],
    "empty-keys": {"": {"": None}, " ": 1},
    "deep": _nested(28),
    "wide": {f"k{n}": n for n in range(500)},
}


def event(number: int, **changes: Any) -> PersistedEvent:
    """Make an event that holds its number; later ones have later times. Every third is of no known run."""
    made = PersistedEvent(
        "conformance", f"conformance:{number}", "Numbered", {"number": number}, NOW + number, _run(number)
    )
    return replace(made, **changes)


def audit(number: int, **changes: Any) -> PersistedAudit:
    """Make an audit that holds its number in every count."""
    made = PersistedAudit(
        "conformance",
        NOW + number,
        total_actors=number,
        alive_actors=number + 1,
        stopping_actors=number + 2,
        restarting_actors=number + 3,
        registry_size=number + 4,
        registry_orphans=("orphan", f"orphan-{number}"),
        registry_dead=(),
        dead_letters_count=number + 5,
        mailbox_depth={"sum": number, "greatest": number, "whose": f"conformance:{number}"}
        if number % 2
        else None,
        run=_run(number),
    )
    return replace(made, **changes)


def letter(number: int, **changes: Any) -> PersistedDeadLetter:
    """Make a dead letter that holds its number."""
    made = PersistedDeadLetter(
        "conformance",
        f"conformance:{number}",
        "Lost",
        [number],
        NOW + number,
        reason="stopped",
        target_name=f"lost-{number}" if number % 2 else None,
        target_type="conformance.Target",
        run=_run(number),
    )
    return replace(made, **changes)


def _run(number: int) -> str:
    return f"0Run{number:08d}" if number % 3 else ""


def mixed(count: int) -> list[PersistedRecord]:
    """Make ``count`` records of the three kinds in turn."""
    makers = (event, audit, letter)
    return [makers[number % 3](number) for number in range(count)]


def noise(length: int, seed: int) -> str:
    """Make text that no store could press into much less space."""
    return random.Random(seed).randbytes(length // 2).hex()  # noqa: S311 - the same noise in every run


async def offer(backend: PersistenceBackend, records: Sequence[PersistedRecord], batch_id: str) -> None:
    """Hand over a batch as a system does."""
    if "batch_id" in inspect.signature(backend.record_batch).parameters:
        await backend.record_batch(records, batch_id=batch_id)
    else:
        await backend.record_batch(records)


async def stored(backend: PersistenceBackend) -> list[PersistedRecord]:
    """Return all that is kept, of the three kinds: each in the order it was listed, merged by time."""
    listed: tuple[Sequence[PersistedRecord], ...] = (
        await backend.list_events(),
        await backend.list_audits(),
        await backend.list_dead_letters(),
    )
    return list(merge(*listed, key=lambda record: record.timestamp))


async def streamed(
    backend: PersistenceBackend, since: float | None = None, until: float | None = None
) -> list[PersistedRecord]:
    """Return all that a stream yields, newest first."""
    async with aclosing(backend.stream(since=since, until=until)) as records:
        return [record async for record in records]
