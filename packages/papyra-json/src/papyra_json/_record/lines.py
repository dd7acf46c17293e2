"""Read lines in blocks: forward with constant memory, and backward from the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from papyra_json._record.decode import MAX_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Readable", "backward", "forward"]

_BLOCK = 2**18
_FIRST_BLOCK = 2**13  # backward, most readers want a line or ten


class Readable(Protocol):
    """What lines are read from."""

    def read_at(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes from ``offset`` on; fewer only at the end."""
        ...


def forward(file: Readable, start: int, end: int) -> Iterator[tuple[int, int, list[bytes]]]:
    """Yield lines in blocks: the offsets where the block starts and ends, and its lines without newlines.

    What follows the last newline is the last block, of one line. Of a line beyond `MAX_LINE_BYTES` only the
    beginning is given, as a block of its own; it is no valid record.
    """
    offset = position = start
    carry, too_long = b"", False
    while position < end:
        data = file.read_at(min(_BLOCK, end - position), position)
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
        elif not too_long:
            carry += data
            too_long = len(carry) > MAX_LINE_BYTES
    if carry:
        yield offset, position, [carry]


def backward(file: Readable, end: int, start: int = 0) -> Iterator[tuple[int, bytes, bool]]:
    """Yield lines from the end back to the start, where one must begin: offset, line, and whether a newline ended it.

    A line beyond `MAX_LINE_BYTES` comes in pieces, which are no valid records.
    """
    position, size = end, _FIRST_BLOCK
    pieces: list[bytes] = []  # of a line that began in an earlier block, the last first
    length = 0
    while position > start:
        step = min(size, position - start)
        size = min(2 * size, _BLOCK)
        position -= step
        data = file.read_at(step, position)
        cut = data.find(b"\n") + 1 if position > start else 0
        if position > start and not cut:
            pieces.append(data)
            length += len(data)
            if length > MAX_LINE_BYTES:
                pieces, length = [], 0
            continue
        at = position + len(data) + length
        lines = b"".join((data[cut:], *reversed(pieces))).split(b"\n")
        last = lines.pop()
        if last:
            at -= len(last)
            yield at, last, False
        while lines:
            line = lines.pop()
            at -= len(line) + 1
            yield at, line, True
        pieces, length = [data[:cut]], cut
