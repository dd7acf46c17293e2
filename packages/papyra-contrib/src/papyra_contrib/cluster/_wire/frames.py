r"""The wire: a frame is a readable line and a body. One message of the engine may have several frames.

``1 KIND TARGET CORR SEQ TYPE TRACE LENGTH\n`` and LENGTH bytes. An empty field is ``-``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ASK",
    "BROADCAST",
    "CREDIT",
    "ERROR",
    "MAX_ERROR_BYTES",
    "PROBE",
    "REPLY",
    "TELL",
    "TERMINATED",
    "UNWATCH",
    "WATCH",
    "Frame",
    "MalformedFrame",
    "encode",
    "parse",
]

TELL, ASK, REPLY, ERROR = "T", "A", "R", "E"
CREDIT, PROBE = "C", "P"
WATCH, UNWATCH, TERMINATED = "W", "U", "X"
BROADCAST = "B"

MAX_ERROR_BYTES = 4096
MAX_HEADER_BYTES = 2560

_NUMBER = r"(0|[1-9][0-9]{0,18})"
_HEADER = re.compile(
    rf"1 ([TAREBCPWUX]) ([A-Za-z0-9_.=-]{{1,1600}}) {_NUMBER} {_NUMBER}(!?) "
    rf"(!?[A-Za-z0-9_.-]{{1,128}}) ([A-Za-z0-9-]{{1,200}}) {_NUMBER}\n"
)


class MalformedFrame(ValueError):
    """The bytes are not a valid frame."""


class Frame(NamedTuple):
    """One frame; ``target`` is an actor's number, or the key of a broadcast."""

    kind: str
    target: str
    corr: int
    seq: int
    wants_credit: bool
    type_name: str
    trace: str
    body: bytes


def encode(
    kind: str,
    target: int | str,
    body: bytes = b"",
    *,
    corr: int = 0,
    seq: int = 0,
    wants_credit: bool = False,
    type_name: str = "-",
    trace: str = "-",
) -> bytes:
    """Write a frame."""
    bang = "!" if wants_credit else ""
    return f"1 {kind} {target} {corr} {seq}{bang} {type_name} {trace} {len(body)}\n".encode("ascii") + body


def parse(message: bytes) -> Iterator[Frame]:
    """Yield the frames of a message. Raise `MalformedFrame` at an invalid one, and drop the rest.

    The memory that it takes is in proportion to the message, whatever its content.
    """
    position, size = 0, len(message)
    text = message.decode("latin-1")  # one character a byte; decoding at once saves five calls a frame
    while position < size:
        match = _HEADER.match(text, position, position + MAX_HEADER_BYTES)
        if match is None:
            raise MalformedFrame(f"no frame at byte {position} of {size}")
        kind, target, corr, seq, bang, type_name, trace, length = match.groups()
        start = match.end()
        position = start + int(length)
        if position > size:
            raise MalformedFrame(f"a body of {length} bytes at byte {start} of {size}")
        yield Frame(kind, target, int(corr), int(seq), bang != "", type_name, trace, message[start:position])
