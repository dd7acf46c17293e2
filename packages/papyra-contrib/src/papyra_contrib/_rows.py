"""Convert records to rows and back. Payloads are JSON text; nothing is ever pickled or evaluated."""

from __future__ import annotations

import json
import zlib
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from papyra.exceptions import PersistenceError
from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra.persistence.payload import clean_text, json_payload, kept_identity

try:
    import orjson
except ImportError:  # the stores without a server need no library
    orjson = None  # type: ignore[assignment]  # the module, or nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import JSONValue, PersistedRecord

__all__ = [
    "KINDS",
    "MAX_PAYLOAD_BYTES",
    "PART_ROWS",
    "SIZE",
    "OrdinaryParts",
    "Row",
    "StoredRow",
    "number_texts",
    "ordinary_parts",
    "read_row",
    "row_is_valid",
    "to_row",
    "to_rows",
]

MAX_PAYLOAD_BYTES = 2**20
"""A longer payload is replaced by a note of its size."""

PART_ROWS: Final = 125
"""Rows that are made at once. In a process with a small heap, 250 took 3.7 us each and 125 took 1.8:
the memory of larger parts is given back to the system each time."""

KINDS: dict[type[object], str] = {
    PersistedEvent: "event",
    PersistedAudit: "audit",
    PersistedDeadLetter: "dead_letter",
}


Row: TypeAlias = tuple[str, float, str, str, str, str, str, str, int, int]
"""A record as a store keeps it: a `StoredRow` without its number, with texts in place of bytes.

``payload`` is JSON, and so is ``details``: what later versions added to a kind of record, or an empty text.
``size`` counts the bytes of the texts; ``crc`` is their check sum.
"""

SIZE: Final = -2
"""The place of ``size`` in a `Row`."""


class StoredRow(NamedTuple):
    """A row as it was read, texts as bytes. In a damaged store any part may be of any type."""

    number: Any
    kind: Any
    timestamp: Any
    system: Any
    actor: Any
    type: Any
    run: Any
    details: Any
    payload: Any
    size: Any
    crc: Any


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
_LETTER_DETAILS = {
    "reason": "",
    "target_name": None,
    "target_type": "",
}  # and what they are if they are missing

_STRICT = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    if orjson is not None
    else 0
)
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def to_row(record: PersistedRecord) -> Row:
    """Return the row of a record. A value that JSON can't hold is replaced, never refused."""
    payload: object
    details = ""
    if isinstance(record, PersistedEvent):
        kind, actor, word, payload = "event", record.actor_address, record.event_type, record.payload
    elif isinstance(record, PersistedDeadLetter):
        kind, actor, word, payload = "dead_letter", record.target, record.message_type, record.payload
        details = _letter_details(record)
    else:
        kind, actor, word, details = "audit", "", "", _audit_details(record)
        payload = {name: getattr(record, name) for name in _COUNTS}
    timestamp, system, run = float(record.timestamp), record.system_id, record.run
    if timestamp != timestamp:
        timestamp = 0.0  # SQLite would store NULL
    text = _json_text(payload, kind)
    joined = "".join((kind, system, actor, word, run, details, text))
    if joined.isascii() and run:  # nearly all are: one encoding for seven
        sizes = f"{len(kind)} {len(system)} {len(actor)} {len(word)} {len(run)} {len(details)}"
        body = f"{timestamp!r} {sizes} {joined}".encode()
    else:
        system, actor, word, run = map(clean_text, (system, actor, word, run))
        body = _body(timestamp, *(one.encode() for one in (kind, system, actor, word, run, details, text)))
    return kind, timestamp, system, actor, word, run, details, text, len(body), zlib.crc32(body)


def to_rows(records: Sequence[PersistedRecord]) -> list[Row]:
    """Return the rows of records; a field of the wrong type is a `PersistenceError`."""
    try:
        events = [record for record in records if type(record) is PersistedEvent]
        parts = (events[start : start + PART_ROWS] for start in range(0, len(events), PART_ROWS))
        rows = chain.from_iterable(map(_event_rows, parts))
        return [next(rows) if type(record) is PersistedEvent else to_row(record) for record in records]
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise PersistenceError(f"a record has a field of the wrong type: {error}", retry=False) from error


def _event_rows(events: Sequence[PersistedEvent]) -> list[Row]:
    parts = ordinary_parts(events)
    if parts is None:
        return list(map(to_row, events))
    return [
        (
            "event",
            event.timestamp,
            event.system_id,
            event.actor_address,
            event.event_type,
            event.run,
            "",
            payload,
            len(body),
            zlib.crc32(body),
        )
        for event, payload, body in zip(events, parts.payloads, parts.bodies, strict=True)
    ]


class OrdinaryParts(NamedTuple):
    """Parts of the rows of events: their times and payloads as text, and what `Row` counts and sums."""

    times: list[str]
    payloads: list[str]
    bodies: list[bytes]


def ordinary_parts(records: Sequence[PersistedRecord]) -> OrdinaryParts | None:
    """Return what the rows of records are made of; None unless all are ordinary events, as most are.

    A row of `to_row` takes two to three times as long. An event is ordinary if it is ASCII, has a payload
    that `orjson` writes as the standard library does, and a time that both write in the same way.
    """
    if orjson is None or set(map(type, records)) != {PersistedEvent}:
        return None
    events = cast("Sequence[PersistedEvent]", records)
    times = [event.timestamp for event in events]
    if set(map(type, times)) != {float} or not (min(times) >= 1.0 and max(times) < 1e15 and sum(times) > 0):
        return None  # orjson writes the exponents of others in another way; only the sum finds each NaN
    texts, heads = number_texts(times), _Heads()
    try:
        written = b"\n".join([orjson.dumps(event.payload, None, _STRICT) for event in events])
        if b"null" in written:  # see _dump
            return None
        payloads = written.decode("ascii").split("\n")
        bodies = [
            "".join(
                (
                    time,
                    heads[len(one.system_id), len(one.actor_address), len(one.event_type), len(one.run)],
                    one.system_id,
                    one.actor_address,
                    one.event_type,
                    one.run,
                    payload,
                )
            ).encode("ascii")
            for one, time, payload in zip(events, texts, payloads, strict=True)
        ]
    except (TypeError, UnicodeError):  # not JSON, not ASCII, or of a wrong type: `to_row` knows what to do
        return None
    if max(map(len, payloads)) > MAX_PAYLOAD_BYTES:
        return None
    return OrdinaryParts(texts, payloads, bodies)


def number_texts(numbers: Sequence[float]) -> list[str]:
    """Return numbers as `orjson` writes them; there must be one."""
    assert orjson is not None  # noqa: S101 - ordinary_parts looked
    return orjson.dumps(numbers).decode()[1:-1].split(",")


class _Heads(dict[tuple[int, int, int, int], str]):
    """What `_body` has between the time and the texts of an event, by the lengths of its first texts."""

    def __missing__(self, lengths: tuple[int, int, int, int]) -> str:
        *others, run = lengths
        sizes = [len("event"), *others, run, 0] if run else [len("event"), *others]
        head = self[lengths] = f" {' '.join(map(str, sizes))} event"
        return head


def _letter_details(letter: PersistedDeadLetter) -> str:
    values = {name: getattr(letter, name) for name in _LETTER_DETAILS}
    details = {name: value for name, value in values.items() if value != _LETTER_DETAILS[name]}
    return _json_text(details, "dead_letter") if details else ""


def _audit_details(audit: PersistedAudit) -> str:
    return "" if audit.mailbox_depth is None else _json_text({"mailbox_depth": audit.mailbox_depth}, "audit")


def row_is_valid(row: StoredRow) -> bool:
    """Whether a stored row has the right types and matches its check sum."""
    texts = (row.kind, row.system, row.actor, row.type, row.run, row.details, row.payload)
    if not isinstance(row.timestamp, float) or not all(isinstance(text, bytes) for text in texts):
        return False
    body = _body(row.timestamp, *texts)
    return bool(len(body) == row.size and zlib.crc32(body) == row.crc)


def read_row(row: StoredRow) -> PersistedRecord | None:
    """Return the record in a stored row, or None if it is damaged."""
    if not row_is_valid(row):
        return None
    try:
        return _record(row)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # the check sum is right: another program wrote it


def _record(row: StoredRow) -> PersistedRecord:
    kind, system, actor, word, run = (
        part.decode() for part in (row.kind, row.system, row.actor, row.type, row.run)
    )
    payload: Any = json.loads(row.payload)
    if kind == "event":
        return PersistedEvent(system, actor, word, payload, row.timestamp, run)
    details: dict[str, Any] = json.loads(row.details) if row.details else {}
    if kind == "dead_letter":
        letter_details = {name: details[name] for name in _LETTER_DETAILS if name in details}
        return PersistedDeadLetter(system, actor, word, payload, row.timestamp, **letter_details, run=run)
    for name in ("registry_orphans", "registry_dead"):
        payload[name] = tuple(payload[name])
    return PersistedAudit(
        system, row.timestamp, **payload, mailbox_depth=details.get("mailbox_depth"), run=run
    )


def _body(
    timestamp: float,
    kind: bytes,
    system: bytes,
    actor: bytes,
    word: bytes,
    run: bytes,
    details: bytes,
    payload: bytes,
) -> bytes:
    # Lengths first, so that no two rows have one body; every part is bytes that the database returns as they
    # are.
    head = f"{timestamp!r} {len(kind)} {len(system)} {len(actor)} {len(word)} "
    if run or details:  # rows of older versions have neither
        head += f"{len(run)} {len(details)} "
    return b"".join((head.encode(), kind, system, actor, word, run, details, payload))


def _json_text(payload: object, kind: str) -> str:
    try:
        text = _dump(payload)
    except (
        ValueError,
        TypeError,
        RecursionError,
    ):  # not finite, lone surrogates, not JSON, or too deep
        replaced: JSONValue = json_payload(payload)
        if kind == "event" and not isinstance(replaced, dict):
            replaced = {"repr": replaced}
        text = _dump(replaced)
    if len(text) * 4 <= MAX_PAYLOAD_BYTES:  # a character is at most 4 bytes
        return text
    length = len(text.encode())
    if length > MAX_PAYLOAD_BYTES and kind != "audit":  # an audit means nothing without its counts
        note = f"a payload of {length} bytes was left out"
        text = _dump({**kept_identity(payload), "omitted": note} if kind == "event" else note)
    return text


def _dump(payload: object) -> str:
    if orjson is not None:
        try:
            text = orjson.dumps(payload, None, _STRICT).decode()
        except TypeError:  # a large integer or a subclass, which the standard library can
            text = "null"
        if "null" not in text:  # which it makes of a number that is not finite, too
            return text
    text = _encode(payload)
    text.encode()  # raises for lone surrogates
    return text
