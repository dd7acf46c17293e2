"""Write a compressed segment, block by block."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from papyra_json._fs.files import write_all
from papyra_json._record.time_range import Times, times_in
from papyra_json._segment.codec import MAX_BLOCK_BYTES, Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from papyra_json._fs.files import Range
    from papyra_json._segment.blocks import Packed
    from papyra_json._segment.codec import Codec

__all__ = ["Packer"]

_BLOCK = 2**18  # of content: larger ones gain little, and the newest records need one to be unpacked


class Packer:
    """Compresses what it is given to an open file; nothing is complete before `finish`."""

    def __init__(self, fd: int, codec: Codec) -> None:
        self._fd = fd
        self._codec = codec
        self._buffer = bytearray()
        self._start = 0  # of the buffer, in the content
        self._split = False  # whether the buffer begins within a line

    def write(self, content: bytes) -> None:
        """Take the next content."""
        self._buffer += content
        while len(self._buffer) >= _BLOCK:
            end = self._buffer.rfind(b"\n", 0, _BLOCK) + 1
            end = end or self._buffer.find(b"\n", 0, MAX_BLOCK_BYTES) + 1
            if not end and len(self._buffer) < MAX_BLOCK_BYTES:
                return
            self._pack(end or MAX_BLOCK_BYTES)

    def copy(self, source: Packed, ranges: Iterable[Range], advance: Callable[[int], None]) -> int:
        """Take parts of a file, which end where lines do, as `copy_ranges` does; whole blocks are not packed anew."""
        copied = 0
        for start, end in ranges:
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
        """Write what was taken."""
        while self._buffer:
            self._pack(min(len(self._buffer), MAX_BLOCK_BYTES))

    def _pack(self, end: int) -> None:
        content = bytes(self._buffer[:end])
        del self._buffer[:end]
        whole = content.endswith(b"\n")
        if self._split or not (whole or not self._buffer):
            times = Times(-inf, inf)  # of a line that two blocks share, each reader reads both
        else:
            times = times_in(content.removesuffix(b"\n").split(b"\n"))
        self._split = not whole
        packed = self._codec.compress(content)
        self._put(packed, Block(self._start, len(packed), len(content), times.oldest, times.newest))

    def _put(self, packed: bytes, block: Block) -> None:
        write_all(self._fd, self._codec.header(block) + packed)
        self._start += block.length
