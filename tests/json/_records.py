"""Records to store, and what their lines must be."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from papyra.persistence.models import PersistedEvent


def make_event(number: int, **fields: Any) -> PersistedEvent:
    values: dict[str, Any] = {
        "system_id": "local",
        "actor_address": f"local:{number}",
        "event_type": "ActorStarted",
        "payload": {"number": number},
        "timestamp": 1_700_000_000.0 + number,
    }
    return PersistedEvent(**{**values, **fields})


def numbered_line(number: int, seq: int | None = None) -> bytes:
    """Build, by the letter of the specification, the line of `make_event(number)`."""
    body = json.dumps(
        {
            "kind": "event",
            "system_id": "local",
            "actor_address": f"local:{number}",
            "event_type": "ActorStarted",
            "payload": {"number": number},
            "timestamp": 1_700_000_000.0 + number,
            "seq": number if seq is None else seq,
        },
        separators=(",", ":"),
    ).encode()[:-1]
    return body + b',"crc":"%08x"}\n' % crc32(body)
