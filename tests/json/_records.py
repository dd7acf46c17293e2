"""Records to store, and what their lines must be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zlib import crc32

from papyra.persistence.models import PersistedEvent

if TYPE_CHECKING:
    from papyra.persistence.backend import PersistenceBackend


def make_event(number: int, **fields: Any) -> PersistedEvent:
    values: dict[str, Any] = {
        "system_id": "local",
        "actor_address": f"local:{number}",
        "event_type": "ActorStarted",
        "payload": {"number": number},
        "timestamp": 1_700_000_000.0 + number,
    }
    return PersistedEvent(**{**values, **fields})


def bare_event(number: int) -> PersistedEvent:
    """Return an event without a payload; only its address has the number."""
    return PersistedEvent("local", f"local:{number}", "ActorStarted", {}, 1_700_000_000.0 + number)


async def numbers(store: PersistenceBackend) -> list[Any]:
    """Return the numbers of the stored events, which `make_event` made."""
    return [one.payload["number"] for one in await store.list_events()]


def plain_fact(number: int, **payload: object) -> dict[str, Any]:
    """Return `make_event(number)` as the published package writes it: a line without ``seq`` and ``crc``."""
    return {
        "kind": "event",
        "system_id": "local",
        "actor_address": f"local:{number}",
        "event_type": "ActorStarted",
        "payload": {"number": number, **payload},
        "timestamp": 1_700_000_000.0 + number,
    }


def numbered_line(number: int, seq: int | None = None) -> bytes:
    """Build, by the letter of the specification, the line of `make_event(number)`."""
    body = json.dumps(
        plain_fact(number) | {"seq": number if seq is None else seq},
        separators=(",", ":"),
    ).encode()[:-1]
    return body + b',"crc":"%08x"}\n' % crc32(body)
