"""Read a compressed segment as if it were not: any part of its content by its offset, in bounded memory.

A segment that we packed is read block by block, from its end as well. One that another tool compressed can only be
read from its start on.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from papyra_json._segment.codec import MAX_BLOCK, Block, DamagedBlock
from papyra_json._segment.stream import Stream, verified

if TYPE_CHECKING:
    from papyra_json._fs.files import Range
    from papyra_json._segment.codec import Codec

__all__ = ["Packed", "Placed"]

_SEARCH = 2**20
_MOST = 1100  # bytes of content that a byte of gzip can hold; a hole claims no more


class Placed(NamedTuple):
    """A block, and the byte of the file where it begins; one of no size is a hole."""

    at: int
    size: int
    block: Block

    @property
    def end(self) -> int:
        """Where its content ends."""
        return self.block.start + self.block.length


class Packed:
    """The content of a compressed file of ``stored`` bytes, open as ``fd``.

    What can't be read, or not be trusted, is NULs in its place, which belong to no valid record, and `damage` says what it
    is; it is complete when all was read.
    """

    def __init__(self, fd: int, stored: int, codec: Codec) -> None:
        self.codec = codec
        self._fd = fd
        self._stored = stored
        self._damage: dict[int, str] = {}
        self._blocks: list[Placed] | None = None
        self._stream: Stream | None = None
        self._recent: dict[int, bytes] = {}

    @property
    def damage(self) -> list[str]:
        """What was found to be damaged, in its order."""
        return [text for _, text in sorted(self._damage.items())]

    @property
    def size(self) -> int:
        """How many bytes the content has."""
        blocks = self._found()
        if self._stream is not None:
            return self._stream.size
        return blocks[-1].end if blocks else 0

    def read_at(self, size: int, offset: int) -> bytes:
        """Return a part of the content, as `os.pread` would."""
        blocks = self._found()
        if self._stream is not None:
            return self._stream.read_at(size, offset)
        parts: list[bytes] = []
        end = offset + size
        number = self._number_at(blocks, offset)
        while number < len(blocks) and offset < end:
            start = offset - blocks[number].block.start
            part = self._content(number)[start : start + end - offset]
            parts.append(part)
            offset += len(part)
            number += 1
        return b"".join(parts)

    def between(self, low: float, high: float) -> list[Range]:
        """Return what is worth reading for who wants records of these times; a range ends where lines end."""
        blocks = self._found()
        if self._stream is not None:
            return [(0, self._stream.size)]
        ranges: list[Range] = []
        for placed in blocks:
            if placed.block.newest < low or placed.block.oldest > high:
                continue
            start = placed.block.start
            if ranges and ranges[-1][1] == start:
                start = ranges.pop()[0]
            ranges.append((start, placed.end))
        return ranges

    def block_at(self, offset: int) -> Placed | None:
        """Return the block that an offset of the content lies in, if there are blocks."""
        blocks = self._found()
        number = self._number_at(blocks, offset)
        return blocks[number] if number < len(blocks) else None

    def is_intact(self, placed: Placed) -> bool:
        """Tell whether a block can be read."""
        self.read_at(1, placed.block.start)
        return bool(placed.size) and placed.at not in self._damage

    def raw(self, placed: Placed) -> bytes:
        """Return a block as it is stored, without its head."""
        return os.pread(self._fd, placed.block.packed, placed.at + self.codec.head_size)

    # -- blocks

    def _found(self) -> list[Placed]:
        if self._blocks is None:
            self._blocks = self._index()
        return self._blocks

    def _index(self) -> list[Placed]:
        """Read the heads of all blocks."""
        blocks: list[Placed] = []
        at = start = 0
        while at < self._stored:
            block = self._head_at(at)
            if block is not None:
                size = self.codec.head_size + block.packed
                blocks.append(Placed(at, size, block._replace(start=start)))
                at, start = at + size, start + block.length
                continue
            found = self._next_head(at + 1)
            if not self._damage and self._is_for_any_tool(only=found is None and not blocks):
                return []
            after = self._stored if found is None else found[0]
            self._damage[at] = f"the stored bytes {at} to {after} are no block of compressed lines"
            if found is not None:
                blocks += _holes(at, start, min(found[1].start, start + _MOST * (after - at)))
                start = blocks[-1].end if blocks else 0
            at = after
        return blocks

    def _is_for_any_tool(self, *, only: bool) -> bool:
        """Tell whether to read it from the start, as any tool does: it is whole so, or there is no block of ours.

        Another tool may have appended to it, and a head that is damaged leaves what stands behind it whole.
        """
        damage: dict[int, str] = {}
        stream = Stream(self._fd, self.codec, damage)
        if damage and not only:
            return False
        self._stream, self._damage = stream, damage
        return True

    def _head_at(self, at: int) -> Block | None:
        return self.codec.parse(os.pread(self._fd, self.codec.head_size, at))

    def _next_head(self, at: int) -> tuple[int, Block] | None:
        """Find the next block behind damage."""
        mark = self.codec.mark
        while len(data := os.pread(self._fd, _SEARCH, at)) >= len(mark):
            index = data.find(mark)
            while index >= 0:
                block = self._head_at(at + index)
                if block is not None:
                    return at + index, block
                index = data.find(mark, index + 1)
            at += len(data) - len(mark) + 1
        return None

    @staticmethod
    def _number_at(blocks: list[Placed], offset: int) -> int:
        """Return the number of the block that an offset of the content lies in."""
        if not blocks or offset >= blocks[-1].end:
            return len(blocks)
        return bisect_right(blocks, offset, key=lambda placed: placed.block.start) - 1

    def _content(self, number: int) -> bytes:
        """Return a block's content; two are kept, for a reader's steps and the blocks overlap."""
        content = self._recent.pop(number, None)
        if content is None:
            content = self._unpacked(self._found()[number])
        self._recent[number] = content
        if len(self._recent) > 2:
            del self._recent[next(iter(self._recent))]
        return content

    def _unpacked(self, placed: Placed) -> bytes:
        at, size, block = placed
        saved = b""
        if size:
            data = os.pread(self._fd, size, at)
            try:
                return self.codec.unpack(data, block.length)
            except DamagedBlock as error:
                saved = self.codec.salvage(data, block.length)
                self._damage[at] = (
                    f"the stored bytes {at} to {at + size} are damaged ({error}): of {block.length} bytes, "
                    f"{len(saved)} come out, and only lines with a CRC can be trusted"
                )
        # The newline, for a line that begins in the next block must not become a part of the damage.
        return verified(saved + bytes(block.length - len(saved)))[:-1] + b"\n"


def _holes(at: int, start: int, end: int) -> list[Placed]:
    """Return blocks of nothing in the place of what is missing."""
    return [
        Placed(at, 0, Block(begin, 0, min(MAX_BLOCK, end - begin), -inf, inf))
        for begin in range(start, end, MAX_BLOCK)
    ]
