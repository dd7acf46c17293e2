"""Encode records as the lines of a file.

Nearly all records are JSON already and go through one tight loop. A record with a lone surrogate, NaN or any
other object takes a slower path. In a record beyond 1 MiB, a note of its size replaces the payload.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, TypeAlias
from zlib import crc32

import orjson

from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra.persistence.payload import clean_text, json_payload, kept_identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import JSONValue, PersistedRecord

__all__ = ["MAX_RECORD_BYTES", "encode", "renumber"]

MAX_RECORD_BYTES = 2**20
"""The longest line written, in bytes, with its newline."""

# Limits of a record that is too long: characters of a text, entries of a list, characters of an entry.
_TEXT_LIMIT, _LIST_LIMIT, _ENTRY_LIMIT = 4096, 1000, 64
MAX_BODY_BYTES = MAX_RECORD_BYTES - 64  # before the CRC; a line may grow when it is numbered again

# orjson would encode these types in its own ways; json_payload takes their repr instead.
_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS

_Fields: TypeAlias = "dict[str, JSONValue]"


def encode(records: Sequence[PersistedRecord], seq: int) -> list[bytes]:
    """Return a line for each record, the first with the number ``seq``.

    A `TypeError` names an object that isn't a record.

    0.9 us for a small event (row ``record``), half of it orjson's. A loop that handles each record's errors
    by itself takes 0.3 us more, so an error makes the whole batch start again.
    """
    dumps, strict = orjson.dumps, _STRICT
    try:
        bodies = [
            dumps(
                {
                    "kind": "event",
                    "system_id": record.system_id,
                    "actor_address": record.actor_address,
                    "event_type": record.event_type,
                    "payload": record.payload,
                    "timestamp": record.timestamp,
                    "run": record.run,
                    "seq": number,
                }
                if type(record) is PersistedEvent and record.run
                else {**_fields(record), "seq": number},
                None,
                strict,
            )[:-1]
            for number, record in enumerate(records, seq)
        ]
    except (TypeError, ValueError, RecursionError):
        bodies = [_body(record, number) for number, record in enumerate(records, seq)]
    # orjson writes NaN and infinity as null. One search in everything is cheaper than one in each line.
    together = b"".join(bodies)
    if b"null" in together or (len(together) > MAX_BODY_BYTES and max(map(len, bodies)) > MAX_BODY_BYTES):
        pairs = enumerate(zip(bodies, records, strict=True), seq)
        bodies = [_reconsidered(body, record, number) for number, (body, record) in pairs]
    return [b'%b,"crc":"%08x"}\n' % (body, crc32(body)) for body in bodies]


def renumber(lines: Sequence[bytes], seq: int) -> list[bytes]:
    """Return the same lines with other numbers, the first with ``seq``."""
    bodies = [
        b'%b,"seq":%d' % (line[: line.rindex(b',"seq":')], number) for number, line in enumerate(lines, seq)
    ]
    return [b'%b,"crc":"%08x"}\n' % (body, crc32(body)) for body in bodies]


def _body(record: PersistedRecord, number: int) -> bytes:
    fields = {**_fields(record), "seq": number}
    try:
        return orjson.dumps(fields, None, _STRICT)[:-1]
    except (TypeError, ValueError, RecursionError):
        return _dumps_carefully(fields)[:-1]


def _reconsidered(body: bytes, record: PersistedRecord, number: int) -> bytes:
    if b"null" not in body and len(body) <= MAX_BODY_BYTES:
        return body
    fields = {**_fields(record), "seq": number}
    body = _dumps_carefully(fields)[:-1]
    return body if len(body) <= MAX_BODY_BYTES else _dumps_short(fields)[:-1]


def _fields(record: PersistedRecord) -> _Fields:
    """Return the fields of a line without its ``seq``; a value that says nothing is left out."""
    if isinstance(record, PersistedEvent):
        fields = _event_fields(record)
    elif isinstance(record, PersistedDeadLetter):
        fields = _dead_letter_fields(record)
    elif isinstance(record, PersistedAudit):
        fields = _audit_fields(record)
    else:
        raise TypeError(
            f"a record is a PersistedEvent, PersistedAudit or PersistedDeadLetter, not {record!r:.200}"
        )
    if record.run:
        fields["run"] = record.run
    return fields


def _event_fields(event: PersistedEvent) -> _Fields:
    return {
        "kind": "event",
        "system_id": event.system_id,
        "actor_address": event.actor_address,
        "event_type": event.event_type,
        "payload": event.payload,
        "timestamp": event.timestamp,
    }


def _dead_letter_fields(letter: PersistedDeadLetter) -> _Fields:
    fields: _Fields = {
        "kind": "dead_letter",
        "system_id": letter.system_id,
        "target": letter.target,
        "message_type": letter.message_type,
        "payload": letter.payload,
        "timestamp": letter.timestamp,
    }
    for name in ("reason", "target_name", "target_type"):
        value: str | None = getattr(letter, name)
        if value:
            fields[name] = value
    return fields


def _audit_fields(audit: PersistedAudit) -> _Fields:
    fields: _Fields = {
        "kind": "audit",
        "system_id": audit.system_id,
        "timestamp": audit.timestamp,
        "total_actors": audit.total_actors,
        "alive_actors": audit.alive_actors,
        "stopping_actors": audit.stopping_actors,
        "restarting_actors": audit.restarting_actors,
        "registry_size": audit.registry_size,
        "registry_orphans": list(audit.registry_orphans),
        "registry_dead": list(audit.registry_dead),
        "dead_letters_count": audit.dead_letters_count,
    }
    if audit.mailbox_depth is not None:
        fields["mailbox_depth"] = audit.mailbox_depth
    return fields


def _dumps_carefully(fields: _Fields) -> bytes:
    return orjson.dumps({name: _clean(name, value) for name, value in fields.items()})


def _clean(name: str, value: JSONValue) -> JSONValue:
    if name == "payload" or isinstance(value, dict):
        return _clean_payload(value)
    if name == "timestamp":
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
        return time.time()  # retention and searches need some time
    if isinstance(value, list):
        return [clean_text(str(item)) for item in value]
    if name == "seq":
        return value  # a number that was just given out
    if isinstance(value, int):
        return max(-(2**63), min(int(value), 2**63 - 1))
    return clean_text(str(value))


def _clean_payload(value: JSONValue) -> JSONValue:
    if isinstance(value, dict) and all(type(key) is str for key in value):
        # Entry by entry, so that one odd value does not turn everything into a repr.
        return {clean_text(key): json_payload(item) for key, item in value.items()}
    return json_payload(value)


def _dumps_short(fields: _Fields) -> bytes:
    short = dict(fields)
    if "payload" in fields:
        size = len(orjson.dumps(_clean_payload(fields["payload"])))
        note = f"a payload of {size} bytes was left out: a record is at most 1 MiB"
        identity = kept_identity(fields["payload"]) if fields["kind"] == "event" else {}
        short["payload"] = {**identity, "note": note}
    for name, value in fields.items():
        if name == "payload":
            continue
        if isinstance(value, str):
            short[name] = clean_text(value, _TEXT_LIMIT)
        elif isinstance(value, list):
            short[name] = _short_list(value)
        elif isinstance(value, dict):
            short[name] = _short_texts(value)
    return _dumps_carefully(short)


def _short_texts(values: _Fields) -> _Fields:
    return {
        name: clean_text(value, _TEXT_LIMIT) if isinstance(value, str) else value
        for name, value in values.items()
    }


def _short_list(value: list[JSONValue]) -> JSONValue:
    kept: list[JSONValue] = [clean_text(str(item), _ENTRY_LIMIT) for item in value[:_LIST_LIMIT]]
    missing = len(value) - len(kept)
    return [*kept, f"... ({missing} more)"] if missing else kept
