"""Read lines in blocks: forward in constant memory, and backward from the end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from papyra_json._record.decode import MAX_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from papyra_json._fs.files import Readable

__all__ = ["backward", "forward", "has_junk", "pieces", "pieces_backward"]

BLOCK_BYTES = 2**18
FIRST_BLOCK_BYTES = 2**13  # backward, because most readers want a few lines

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_NO_NULS = re.compile(rb"[^\0]+")


def has_junk(line: bytes) -> bool:
    """Return whether a line holds NULs or begins with a byte order mark. It is not a record as it is."""
    return b"\0" in line or line.startswith(BYTE_ORDER_MARK)


def pieces(line: bytes) -> list[tuple[int, bytes]]:
    """Return the parts of a line between NULs and byte order marks, each with its offset.

    Any of them may be a record. NULs are left where a file grew and its bytes never reached the disk; an
    editor may leave a byte order mark.
    """
    parts: list[tuple[int, bytes]] = []
    for match in _NO_NULS.finditer(line):
        part, start = match[0], match.start()
        if part.startswith(BYTE_ORDER_MARK):
            part, start = part[len(BYTE_ORDER_MARK) :], start + len(BYTE_ORDER_MARK)
        if part:
            parts.append((start, part))
    return parts


def forward(file: Readable, start: int, end: int) -> Iterator[tuple[int, int, list[bytes]]]:
    """Yield lines in blocks: the offsets where the block starts and ends, and its lines without newlines.

    The bytes after the last newline are the last block, of one line. A line beyond `MAX_LINE_BYTES` is a
    block of its own of which only the beginning is given; it is not a valid record. A long run of NULs ends a
    block, though not a line.
    """
    offset = position = start
    carry, too_long = b"", False
    while position < end:
        data = file.read_at(min(BLOCK_BYTES, end - position), position)
        if not data:
            break
        position += len(data)
        cut = data.rfind(b"\n") + 1
        if cut and too_long:
            first = data.find(b"\n") + 1
            after = position - len(data) + first
            yield offset, after, [carry]
            data, cut, offset = data[first:], cut - first, after
            carry, too_long = b"", False
        if cut:
            lines = (carry + data[: cut - 1]).split(b"\n")
            after = position - len(data) + cut
            yield offset, after, lines
            offset, carry = after, data[cut:]
        elif nuls := data.rfind(b"\0") + 1:
            after = position - len(data) + nuls
            yield offset, after, [carry + data[:nuls]]
            offset, carry, too_long = after, data[nuls:], False
        elif not too_long:
            carry += data
            too_long = len(carry) > MAX_LINE_BYTES
    if carry:
        yield offset, position, [carry]


def backward(file: Readable, end: int, start: int = 0) -> Iterator[tuple[int, bytes, bool]]:
    """Yield lines from ``end`` back to ``start``, where one must begin.

    Each comes with its offset, and with whether a newline ended it. A line beyond `MAX_LINE_BYTES` comes in
    parts, which are not valid records. A long run of NULs separates lines.
    """
    position, size = end, FIRST_BLOCK_BYTES
    parts: list[bytes] = []  # of a line that began in an earlier block, the last first
    at = end  # where they end
    while position > start:
        step = min(size, position - start)
        size = min(2 * size, BLOCK_BYTES)
        position -= step
        data = file.read_at(step, position)
        cut = data.find(b"\n") + 1 if position > start else 0
        if position > start and not cut:
            nuls = data.rfind(b"\0") + 1
            parts.append(data[nuls:])
            if nuls:
                line = b"".join(reversed(parts))
                if line:
                    yield position + nuls, line.removesuffix(b"\n"), line.endswith(b"\n")
                parts = [data[:nuls].rstrip(b"\0")]
                at = position + len(parts[0])
            elif at - position > MAX_LINE_BYTES:
                parts, at = [], position
            continue
        lines = b"".join((data[cut:], *reversed(parts))).split(b"\n")
        last = lines.pop()
        if last:
            at -= len(last)
            yield at, last, False
        while lines:
            line = lines.pop()
            at -= len(line) + 1
            yield at, line, True
        parts, at = [data[:cut]], position + cut


def pieces_backward(file: Readable, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines before ``end``, the last first, split at NULs, with their offsets."""
    for offset, line, _ in backward(file, end):
        if has_junk(line):
            yield from ((offset + start, piece) for start, piece in reversed(pieces(line)))
        else:
            yield offset, line
