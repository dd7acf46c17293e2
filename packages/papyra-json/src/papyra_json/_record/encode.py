"""From records to the lines of a file.

What is JSON already - nearly all - goes through one tight loop. What is not (a lone surrogate, NaN, any object) takes a
careful path, and so does a record beyond 1 MiB, whose payload gives way to a note of its size.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, TypeAlias
from zlib import crc32

import orjson

from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra.persistence.payload import clean_text, json_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import JSONValue, PersistedRecord

__all__ = ["MAX_RECORD", "encode", "renumber"]

MAX_RECORD = 2**20
"""The longest line written, in bytes, with its newline."""

# What is kept in a record that is too long: characters of a text, entries of a list, characters of an entry.
_TEXT_LIMIT, _LIST_LIMIT, _ENTRY_LIMIT = 4096, 1000, 64
_LONG = MAX_RECORD - 64  # of what comes before the CRC; and a line may grow when it is numbered anew

# orjson would lay out these types in ways of its own; here they are what json_payload says: their repr.
_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS

_Fields: TypeAlias = "dict[str, JSONValue]"


def encode(records: Sequence[PersistedRecord], seq: int) -> list[bytes]:
    """Return a line for each record, the first with the number ``seq``; a `TypeError` says what is no record.

    0.9 us for a small event (row ``record``), half of it orjson's. Comprehensions and one layout in place took
    0.3 us off a loop that handles each record's troubles by itself, so trouble makes the batch start again.
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
                    "seq": number,
                }
                if type(record) is PersistedEvent
                else {**_fields(record), "seq": number},
                None,
                strict,
            )[:-1]
            for number, record in enumerate(records, seq)
        ]
    except (TypeError, ValueError, RecursionError):
        bodies = [_body(record, number) for number, record in enumerate(records, seq)]
    # orjson writes NaN and infinity as null without a word. One search in all is cheaper than one in each.
    together = b"".join(bodies)
    if b"null" in together or (len(together) > _LONG and max(map(len, bodies)) > _LONG):
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
    if b"null" not in body and len(body) <= _LONG:
        return body
    fields = {**_fields(record), "seq": number}
    body = _dumps_carefully(fields)[:-1]
    return body if len(body) <= _LONG else _dumps_short(fields)[:-1]


def _fields(record: object) -> _Fields:
    if isinstance(record, PersistedEvent):
        return {
            "kind": "event",
            "system_id": record.system_id,
            "actor_address": record.actor_address,
            "event_type": record.event_type,
            "payload": record.payload,
            "timestamp": record.timestamp,
        }
    if isinstance(record, PersistedDeadLetter):
        return {
            "kind": "dead_letter",
            "system_id": record.system_id,
            "target": record.target,
            "message_type": record.message_type,
            "payload": record.payload,
            "timestamp": record.timestamp,
        }
    if isinstance(record, PersistedAudit):
        return {
            "kind": "audit",
            "system_id": record.system_id,
            "timestamp": record.timestamp,
            "total_actors": record.total_actors,
            "alive_actors": record.alive_actors,
            "stopping_actors": record.stopping_actors,
            "restarting_actors": record.restarting_actors,
            "registry_size": record.registry_size,
            "registry_orphans": list(record.registry_orphans),
            "registry_dead": list(record.registry_dead),
            "dead_letters_count": record.dead_letters_count,
        }
    raise TypeError(
        f"a record is a PersistedEvent, PersistedAudit or PersistedDeadLetter, not {record!r:.200}"
    )


def _dumps_carefully(fields: _Fields) -> bytes:
    return orjson.dumps({name: _clean(name, value) for name, value in fields.items()})


def _clean(name: str, value: JSONValue) -> JSONValue:
    if name == "payload":
        return _clean_payload(value)
    if name == "timestamp":
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
        return time.time()  # a record needs some time to be found and to grow old by
    if isinstance(value, list):
        return [clean_text(str(item)) for item in value]
    if name == "seq":
        return value  # one layout for all records of a batch
    if isinstance(value, int):
        return max(-(2**63), min(int(value), 2**63 - 1))
    return clean_text(str(value))


def _clean_payload(value: JSONValue) -> JSONValue:
    if isinstance(value, dict) and all(type(key) is str for key in value):
        # Entry by entry, so that one odd value does not make a repr of all.
        return {clean_text(key): json_payload(item) for key, item in value.items()}
    return json_payload(value)


def _dumps_short(fields: _Fields) -> bytes:
    short = dict(fields)
    if "payload" in fields:
        size = len(orjson.dumps(_clean_payload(fields["payload"])))
        short["payload"] = {"note": f"a payload of {size} bytes was left out: a record is at most 1 MiB"}
    for name, value in fields.items():
        if name == "payload":
            continue
        if isinstance(value, str):
            short[name] = clean_text(value, _TEXT_LIMIT)
        elif isinstance(value, list):
            short[name] = _short_list(value)
    return _dumps_carefully(short)


def _short_list(value: list[JSONValue]) -> JSONValue:
    kept: list[JSONValue] = [clean_text(str(item), _ENTRY_LIMIT) for item in value[:_LIST_LIMIT]]
    missing = len(value) - len(kept)
    return [*kept, f"... ({missing} more)"] if missing else kept
