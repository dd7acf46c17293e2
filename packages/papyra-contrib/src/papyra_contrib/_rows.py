"""Between records and rows. Payloads are JSON text; nothing is ever pickled or evaluated."""

from __future__ import annotations

import json
import math
import zlib
from typing import TYPE_CHECKING, Any, TypeAlias

from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra.persistence.payload import clean_text, json_payload

if TYPE_CHECKING:
    from papyra.persistence.models import JSONValue, PersistedRecord

__all__ = [
    "KINDS",
    "MAX_PAYLOAD",
    "Row",
    "StoredRow",
    "read_row",
    "row_is_valid",
    "to_row",
]

MAX_PAYLOAD = 2**20
"""Bytes; of a longer payload only its size is stored."""

KINDS: dict[type[object], str] = {
    PersistedEvent: "event",
    PersistedAudit: "audit",
    PersistedDeadLetter: "dead_letter",
}

Row: TypeAlias = tuple[str, float, str, str, str, str, int, int]
"""Kind, time, system, actor, type, payload as JSON, size in bytes, and check sum."""

StoredRow: TypeAlias = tuple[Any, ...]
"""A number or name before what a `Row` has, texts as bytes; from a damaged store, anything may stand in it."""

_COUNTS = (
    "total_actors",
    "alive_actors",
    "stopping_actors",
    "restarting_actors",
    "registry_size",
    "registry_orphans",
    "registry_dead",
    "dead_letters_count",
)


def to_row(record: PersistedRecord) -> Row:
    """Return the row of a record; what JSON can't hold is replaced, never refused."""
    payload: object
    if isinstance(record, PersistedEvent):
        kind, actor, word, payload = "event", record.actor_address, record.event_type, record.payload
    elif isinstance(record, PersistedDeadLetter):
        kind, actor, word, payload = "dead_letter", record.target, record.message_type, record.payload
    else:
        kind, actor, word = "audit", "", ""
        payload = {name: getattr(record, name) for name in _COUNTS}
    timestamp = float(record.timestamp)
    if math.isnan(timestamp):
        timestamp = 0.0  # SQLite would make NULL of it
    system, actor, word = clean_text(record.system_id), clean_text(actor), clean_text(word)
    text = _json_text(payload, kind)
    body = _body(kind.encode(), timestamp, system.encode(), actor.encode(), word.encode(), text.encode())
    return kind, timestamp, system, actor, word, text, len(body), zlib.crc32(body)


def row_is_valid(row: StoredRow) -> bool:
    """Whether a stored row is whole: of the right types, and as its check sum says."""
    _, kind, timestamp, system, actor, word, payload, size, crc = row
    texts = (kind, system, actor, word, payload)
    if not isinstance(timestamp, float) or not all(isinstance(text, bytes) for text in texts):
        return False
    body = _body(kind, timestamp, system, actor, word, payload)
    return bool(len(body) == size and zlib.crc32(body) == crc)


def read_row(row: StoredRow) -> PersistedRecord | None:
    """Return the record in a stored row, or None if it is damaged."""
    if not row_is_valid(row):
        return None
    try:
        kind, system, actor, word = (row[column].decode() for column in (1, 3, 4, 5))
        payload = json.loads(row[6])
        if kind == "event":
            return PersistedEvent(system, actor, word, payload, row[2])
        if kind == "dead_letter":
            return PersistedDeadLetter(system, actor, word, payload, row[2])
        for name in ("registry_orphans", "registry_dead"):
            payload[name] = tuple(payload[name])
        return PersistedAudit(system, row[2], **payload)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # the check sum fits: written so by something else


def _body(kind: bytes, timestamp: float, system: bytes, actor: bytes, word: bytes, payload: bytes) -> bytes:
    # Lengths first, so that no two rows have one body; every part is bytes that the database returns as they are.
    head = f"{timestamp!r} {len(kind)} {len(system)} {len(actor)} {len(word)} "
    return b"".join((head.encode(), kind, system, actor, word, payload))


def _json_text(payload: object, kind: str) -> str:
    try:
        text = _dump(payload)
    except (
        ValueError,
        TypeError,
        RecursionError,
    ):  # not finite, lone surrogates, no JSON at all, or too deep
        replaced: JSONValue = json_payload(payload)
        if kind == "event" and not isinstance(replaced, dict):
            replaced = {"repr": replaced}
        text = _dump(replaced)
    length = len(text.encode())
    if length > MAX_PAYLOAD and kind != "audit":  # an audit is counts, and means nothing without them
        note = f"a payload of {length} bytes was left out"
        text = _dump({"omitted": note} if kind == "event" else note)
    return text


def _dump(payload: object) -> str:
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text.encode()  # raises for lone surrogates
    return text
