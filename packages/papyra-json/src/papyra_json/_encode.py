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
_LONG = MAX_RECORD - 20  # a line may grow a little when it is numbered anew

# orjson would lay out these types in ways of its own; here they are what json_payload says: their repr.
_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS

_Fields: TypeAlias = "dict[str, JSONValue]"


def encode(records: Sequence[PersistedRecord], seq: int) -> list[bytes]:
    """Return a line for each record, the first with the number ``seq``; a `TypeError` says what is no record.

    1.1 us for a small event (row ``record``), of which orjson takes the half; hence the one loop, without calls
    for the most frequent kind.
    """
    dumps, crc, strict = orjson.dumps, crc32, _STRICT
    lines: list[bytes] = []
    append = lines.append
    for number, record in enumerate(records, seq):
        if type(record) is PersistedEvent:
            fields: _Fields = {
                "kind": "event",
                "system_id": record.system_id,
                "actor_address": record.actor_address,
                "event_type": record.event_type,
                "payload": record.payload,
                "timestamp": record.timestamp,
                "seq": number,
            }
        else:
            fields = {**_fields(record), "seq": number}
        try:
            body = dumps(fields, None, strict)[:-1]
        except (TypeError, ValueError, RecursionError):
            body = _dumps_carefully(fields)[:-1]
        append(b'%b,"crc":"%08x"}\n' % (body, crc(body)))
    # orjson writes NaN and infinity as null without a word. One search in all is cheaper than one in each.
    if b"null" in b"".join(lines) or max(map(len, lines), default=0) > _LONG:
        lines = [
            _reconsidered(line, record, number)
            for number, (line, record) in enumerate(zip(lines, records, strict=True), seq)
        ]
    return lines


def renumber(lines: Sequence[bytes], seq: int) -> list[bytes]:
    """Return the same lines with other numbers, the first with ``seq``."""
    return [
        _sealed(b'%b,"seq":%d' % (line[: line.rindex(b',"seq":')], number))
        for number, line in enumerate(lines, seq)
    ]


def _sealed(body: bytes) -> bytes:
    return b'%b,"crc":"%08x"}\n' % (body, crc32(body))


def _reconsidered(line: bytes, record: PersistedRecord, number: int) -> bytes:
    if b"null" not in line and len(line) <= _LONG:
        return line
    fields = {**_fields(record), "seq": number}
    line = _sealed(_dumps_carefully(fields)[:-1])
    return line if len(line) <= _LONG else _sealed(_dumps_short(fields)[:-1])


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
