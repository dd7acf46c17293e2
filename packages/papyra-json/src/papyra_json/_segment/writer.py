"""Write a compressed segment, block by block."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from papyra.persistence.files import write_all
from papyra_json._fs.files import NEWLINE
from papyra_json._record.time_range import Times, times_in
from papyra_json._segment.codec import MAX_BLOCK_BYTES, Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from papyra_json._fs.files import Range
    from papyra_json._segment.blocks import Packed
    from papyra_json._segment.codec import Codec

__all__ = ["Packer"]

BLOCK_BYTES = 2**18  # of content: larger blocks gain little, and reading the newest records decompresses one


class Packer:
    """Compresses content into an open file. The file is incomplete before `finish`."""

    def __init__(self, fd: int, codec: Codec) -> None:
        self._fd = fd
        self._codec = codec
        self._buffer = bytearray()
        self._start = 0  # of the buffer, in the content
        self._split = False  # whether the buffer begins within a line

    def write(self, content: bytes) -> None:
        """Add content."""
        self._buffer += content
        while len(self._buffer) >= BLOCK_BYTES:
            end = self._buffer.rfind(b"\n", 0, BLOCK_BYTES) + 1
            end = end or self._buffer.find(b"\n", 0, MAX_BLOCK_BYTES) + 1
            if not end and len(self._buffer) < MAX_BLOCK_BYTES:
                return
            self._pack(end or MAX_BLOCK_BYTES)

    def copy(self, source: Packed, ranges: Iterable[Range], advance: Callable[[int], None]) -> int:
        """Add ranges of a file as `copy_ranges` does; whole blocks are copied without compressing them again.

        Each range ends where a line ends.
        """
        copied = 0
        for start, end in ranges:
            if (start, end) == NEWLINE:
                self.write(b"\n")
                copied += 1
            while start < end:
                placed = source.block_at(start)
                size = min(end - start, MAX_BLOCK_BYTES if placed is None else placed.end - start)
                if placed is not None and size == placed.block.length and source.is_intact(placed):
                    self.finish()
                    self._put(source.raw(placed), placed.block._replace(start=self._start))
                else:
                    self.write(source.read_at(size, start))
                start += size
                copied += size
                advance(size)
        return copied

    def finish(self) -> None:
        """Write the remaining content."""
        while self._buffer:
            self._pack(min(len(self._buffer), MAX_BLOCK_BYTES))

    def _pack(self, end: int) -> None:
        content = bytes(self._buffer[:end])
        del self._buffer[:end]
        whole = content.endswith(b"\n")
        if self._split or not (whole or not self._buffer):
            times = Times(-inf, inf)  # a line is in two blocks, so every reader reads both
        else:
            times = times_in(content.removesuffix(b"\n").split(b"\n"))
        self._split = not whole
        packed = self._codec.compress(content)
        self._put(packed, Block(self._start, len(packed), len(content), times.oldest, times.newest))

    def _put(self, packed: bytes, block: Block) -> None:
        write_all(self._fd, self._codec.header(block) + packed)
        self._start += block.length
