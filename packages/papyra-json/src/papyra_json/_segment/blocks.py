"""Read any part of a compressed segment's content by its offset, in bounded memory.

A segment that we compressed is read block by block, from its end as well. One that another tool compressed
can only be read forward.
"""

from __future__ import annotations

from bisect import bisect_right
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from papyra_json._segment.codec import MAX_BLOCK_BYTES, Block, DamagedBlock
from papyra_json._segment.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_json._fs.files import Range
    from papyra_json._segment.codec import Codec

__all__ = ["Packed", "Placed"]

SEARCH_BYTES = 2**20
MAX_RATIO = 1100  # bytes of content that a byte of gzip can hold; a hole claims no more


class Placed(NamedTuple):
    """A block, and its offset and size in the file. A hole has the size 0."""

    at: int
    size: int
    block: Block

    @property
    def end(self) -> int:
        """The offset at which its content ends."""
        return self.block.start + self.block.length


class Packed:
    """The content of a compressed file of ``stored`` bytes, open as ``fd``.

    NULs take the place of content that can't be read or trusted. They belong to no valid record. `damage`
    describes it, and is complete once all content was read.
    """

    def __init__(self, fd: int, stored: int, codec: Codec, read_stored: Callable[[int, int], bytes]) -> None:
        """``read_stored`` returns bytes of the file by size and offset."""
        self.codec = codec
        self._fd = fd
        self._read_stored = read_stored
        self._stored = stored
        self._damage: dict[int, str] = {}
        self._blocks: list[Placed] | None = None
        self._stream: Stream | None = None
        self._recent: dict[int, bytes] = {}

    @property
    def damage(self) -> list[str]:
        """The damage found so far, in the order of the file."""
        return [text for _, text in sorted(self._damage.items())]

    @property
    def size(self) -> int:
        """The size of the content in bytes."""
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
        """Return the ranges that may hold records of these times; a range ends where a line ends."""
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
        """Return the block that contains an offset of the content, if the file consists of blocks."""
        blocks = self._found()
        number = self._number_at(blocks, offset)
        return blocks[number] if number < len(blocks) else None

    def is_intact(self, placed: Placed) -> bool:
        """Return whether a block can be read."""
        self.read_at(1, placed.block.start)
        return bool(placed.size) and placed.at not in self._damage

    def raw(self, placed: Placed) -> bytes:
        """Return the compressed bytes of a block, without its header."""
        return self._read_stored(placed.block.packed, placed.at + self.codec.header_bytes)

    # -- blocks

    def _found(self) -> list[Placed]:
        if self._blocks is None:
            self._blocks = self._index()
        return self._blocks

    def _index(self) -> list[Placed]:
        """Read the headers of all blocks."""
        blocks: list[Placed] = []
        at = start = 0
        while at < self._stored:
            block = self._header_at(at)
            if block is not None:
                size = self.codec.header_bytes + block.packed
                blocks.append(Placed(at, size, block._replace(start=start)))
                at, start = at + size, start + block.length
                continue
            header = self._next_header(at + 1)
            if not self._damage and self._is_plain_stream(only=header is None and not blocks):
                return []
            after = self._stored if header is None else header[0]
            self._damage[at] = f"the stored bytes {at} to {after} are not a block of compressed lines"
            if header is not None:
                blocks += _holes(at, start, min(header[1].start, start + MAX_RATIO * (after - at)))
                start = blocks[-1].end if blocks else 0
            at = after
        return blocks

    def _is_plain_stream(self, *, only: bool) -> bool:
        """Try to read the file forward, as any tool does; ``only`` says that none of its blocks is ours.

        It succeeds if another tool has appended to the file, and if only a header is damaged, which other
        tools ignore.
        """
        stream = Stream(self._fd, self.codec)
        if stream.damage:
            if not only:
                return False
            self._damage[0] = (
                f"the compressed data is damaged ({stream.damage}): only lines with a CRC before the damage can be read"
            )
        self._stream = stream
        return True

    def _header_at(self, at: int) -> Block | None:
        return self.codec.parse(self._read_stored(self.codec.header_bytes, at))

    def _next_header(self, at: int) -> tuple[int, Block] | None:
        """Find the next block after damage."""
        magic = self.codec.block_magic
        while len(data := self._read_stored(SEARCH_BYTES, at)) >= len(magic):
            index = data.find(magic)
            while index >= 0:
                block = self._header_at(at + index)
                if block is not None:
                    return at + index, block
                index = data.find(magic, index + 1)
            at += len(data) - len(magic) + 1
        return None

    @staticmethod
    def _number_at(blocks: list[Placed], offset: int) -> int:
        """Return the number of the block that contains an offset of the content."""
        if not blocks or offset >= blocks[-1].end:
            return len(blocks)
        return bisect_right(blocks, offset, key=lambda placed: placed.block.start) - 1

    def _content(self, number: int) -> bytes:
        """Return a block's content. Two blocks are kept because the steps of a reader overlap two blocks."""
        content = self._recent.pop(number, None)
        if content is None:
            content = self._unpacked(self._found()[number])
        self._recent[number] = content
        if len(self._recent) > 2:
            del self._recent[next(iter(self._recent))]
        return content

    def _unpacked(self, placed: Placed) -> bytes:
        at, size, block = placed
        if size:
            try:
                return self.codec.unpack(self._read_stored(size, at), block.length)
            except DamagedBlock as error:
                self._damage[at] = (
                    f"the stored bytes {at} to {at + size} are damaged ({error}): "
                    f"{block.length} bytes of records are lost"
                )
        # A newline ends the lost block, so that the line after it does not become a part of the damage.
        return bytes(block.length - 1) + b"\n"


def _holes(at: int, start: int, end: int) -> list[Placed]:
    """Return empty blocks in place of the missing ones."""
    return [
        Placed(at, 0, Block(begin, 0, min(MAX_BLOCK_BYTES, end - begin), -inf, inf))
        for begin in range(start, end, MAX_BLOCK_BYTES)
    ]
