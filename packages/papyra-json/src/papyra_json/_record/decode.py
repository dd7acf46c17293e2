"""Decode a line of a file into a record, and decide whether the line is valid.

A line is valid if it is a JSON object of a known kind with the fields of that kind. If it has a ``crc``, that
must be the CRC-32 of its bytes before ``,"crc"``. ``seq`` and ``crc`` may be missing and further keys are
ignored, so that files of the published package and of later versions can be read. An unknown kind is damage.

The published package wrote what the standard library's `json` writes: ``NaN``, ``Infinity``, escapes of lone
surrogates and integers of any size. orjson refuses or rounds these, so such a line is decoded by the standard
library.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, TypeAlias
from zlib import crc32

import orjson

from papyra.persistence.models import (
    PersistedAudit,
    PersistedDeadLetter,
    PersistedEvent,
    PersistenceAnomalyType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from papyra.persistence.models import JSONValue, PersistedRecord

__all__ = [
    "KNOWN_HEADS",
    "MAX_LINE_BYTES",
    "MAX_SEQ",
    "InvalidLine",
    "decode",
    "intact",
    "plain_times",
    "sequence_of",
]

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is invalid. Our lines have at most 1 MiB; the published package had no limit."""

MAX_SEQ = 2**63
"""A ``seq`` from here on was not given by us. It is ignored, because it would leave no number to give."""

KNOWN_HEADS = (b'{"kind":"event",', b'{"kind":"dead_letter",', b'{"kind":"audit",')
"""The beginnings of the lines that `papyra_json` writes."""

# A changed byte in the key "crc" must not turn a line into one without a CRC.
_MISNAMED_CRC = re.compile(rb',"seq":\d+,"[^"]{3}":"[0-9a-f]{8}"\}\Z')

# orjson makes a float of an integer beyond 64 bits.
_LONG_INTEGER = re.compile(rb"[0-9]{19}")

TAIL_BYTES = len(',"crc":"00000000"}')

_Object: TypeAlias = "dict[str, JSONValue]"


class InvalidLine(Exception):
    """An invalid line; ``type`` and the text say why it is invalid."""

    def __init__(
        self, detail: str, kind: PersistenceAnomalyType = PersistenceAnomalyType.CORRUPT_LINE
    ) -> None:
        super().__init__(detail)
        self.type = kind


def intact(line: bytes) -> bool:
    """Return whether the line ends in a CRC that fits the bytes before it."""
    return line.endswith(b',"crc":"%08x"}' % crc32(line[:-TAIL_BYTES]))


def sequence_of(line: bytes) -> int | None:
    """Return the ``seq`` of a valid line, or None if it has none; raise `InvalidLine` if it is not valid."""
    if intact(line) and line.startswith(KNOWN_HEADS):
        # The CRC proves that the line was not changed, so it is not parsed again.
        digits = line[line.rfind(b',"seq":') + 7 : -TAIL_BYTES]
        if digits.isdigit():
            return _sequence(int(digits))
    fields = _object(line)
    _record(fields)
    seq = fields.get("seq")
    return _sequence(seq) if isinstance(seq, int) and not isinstance(seq, bool) else None


def _sequence(seq: int) -> int | None:
    return seq if 0 <= seq < MAX_SEQ else None


def plain_times(lines: Sequence[bytes]) -> list[float] | None:
    """Return the times of valid records without ``seq``, as the published package wrote them.

    None means that some line is not. A shortcut past `sequence_of` for large old files: 0.2 us a line beyond
    parsing it, where calls and loops over the fields would cost 0.6 (rows ``scan`` and ``legacy``).
    """
    loads = orjson.loads
    times: list[float] = []
    try:
        for line in lines:
            fields = loads(line)
            kind = fields["kind"]
            time = fields["timestamp"]
            if type(time) is not float or (
                not (
                    kind == "event"
                    and len(fields) == 6
                    and "payload" in fields
                    and type(fields["system_id"]) is str
                    and type(fields["actor_address"]) is str
                    and type(fields["event_type"]) is str
                )
                and not (
                    kind == "dead_letter"
                    and len(fields) == 6
                    and "payload" in fields
                    and type(fields["system_id"]) is str
                    and type(fields["target"]) is str
                    and type(fields["message_type"]) is str
                )
            ):
                if sequence_of(line) is not None:
                    return None
                time = decode(line).timestamp
            times.append(time)
    except (InvalidLine, ValueError, KeyError, TypeError):
        return None
    return times


def decode(line: bytes) -> PersistedRecord:
    """Return the record in a line without its newline; raise `InvalidLine` if the line is invalid."""
    return _record(_object(line))


def _record(fields: _Object) -> PersistedRecord:
    kind = fields.get("kind")
    make = _MAKERS.get(kind) if isinstance(kind, str) else None
    if make is None:
        raise InvalidLine(
            f"unknown kind {str(kind)[:40]!r}" if "kind" in fields else "an object without a kind"
        )
    try:
        return make(fields)
    except KeyError as error:
        raise InvalidLine(f"the field {error} is missing") from None


def _object(line: bytes) -> _Object:
    try:
        fields: _Object | None = orjson.loads(line)
        strict = True
    except orjson.JSONDecodeError as error:
        fields, strict = _parsed_by_json(line, error), False
    if not isinstance(fields, dict):
        raise InvalidLine("not a JSON object")
    if "crc" in fields:
        if not intact(line):
            _check_loosely(line, fields["crc"])
    elif _MISNAMED_CRC.search(line):
        raise _mismatch()
    elif strict and _LONG_INTEGER.search(line):
        fields = _parsed_by_json(line)
    return fields


def _parsed_by_json(line: bytes, reason: Exception | None = None) -> _Object:
    try:
        fields: _Object = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidLine(f"not JSON: {reason or error}" if line.strip() else "an empty line") from None
    return fields


def _check_loosely(line: bytes, crc: JSONValue) -> None:
    """Check a CRC at another place than ours: a carriage return or further keys may follow it."""
    end = line.rfind(b',"crc"')
    if end < 0 or not isinstance(crc, str) or crc != f"{crc32(line[:end]):08x}":
        raise _mismatch()


def _mismatch() -> InvalidLine:
    return InvalidLine("the CRC does not fit the line", PersistenceAnomalyType.CRC_MISMATCH)


def _event(fields: _Object) -> PersistedEvent:
    payload = fields["payload"]
    return PersistedEvent(
        _text(fields, "system_id"),
        _text(fields, "actor_address"),
        _text(fields, "event_type"),
        payload if isinstance(payload, dict) else {"value": payload},
        _number(fields, "timestamp"),
        _added_text(fields, "run"),
    )


def _dead_letter(fields: _Object) -> PersistedDeadLetter:
    return PersistedDeadLetter(
        _text(fields, "system_id"),
        _text(fields, "target"),
        _text(fields, "message_type"),
        fields["payload"],
        _number(fields, "timestamp"),
        _added_text(fields, "reason"),
        _added_text(fields, "target_name") or None,
        _added_text(fields, "target_type"),
        _added_text(fields, "run"),
    )


def _audit(fields: _Object) -> PersistedAudit:
    return PersistedAudit(
        _text(fields, "system_id"),
        _number(fields, "timestamp"),
        _count(fields, "total_actors"),
        _count(fields, "alive_actors"),
        _count(fields, "stopping_actors"),
        _count(fields, "restarting_actors"),
        _count(fields, "registry_size"),
        _texts(fields, "registry_orphans"),
        _texts(fields, "registry_dead"),
        _count(fields, "dead_letters_count"),
        depth if isinstance(depth := fields.get("mailbox_depth"), dict) else None,
        _added_text(fields, "run"),
    )


_MAKERS: dict[str, Callable[[_Object], PersistedRecord]] = {
    "event": _event,
    "dead_letter": _dead_letter,
    "audit": _audit,
}


def _text(fields: _Object, name: str) -> str:
    value = fields[name]
    if isinstance(value, str):
        return value
    raise InvalidLine(f"the field {name!r} is not a text")


def _added_text(fields: _Object, name: str) -> str:
    """Return a field that lines of older versions do not have.

    A value of another type is a later version's: ignored.
    """
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _number(fields: _Object, name: str) -> float:
    value = fields[name]
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    raise InvalidLine(f"the field {name!r} is not a number")


def _count(fields: _Object, name: str) -> int:
    value = fields[name]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InvalidLine(f"the field {name!r} is not a whole number")


def _texts(fields: _Object, name: str) -> tuple[str, ...]:
    value = fields[name]
    if isinstance(value, list):
        texts = tuple(item for item in value if isinstance(item, str))
        if len(texts) == len(value):
            return texts
    raise InvalidLine(f"the field {name!r} is not a list of texts")
