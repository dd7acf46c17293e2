"""One open file of a set, read by offset, compressed or not."""

from __future__ import annotations

import errno
import os
from copy import copy
from typing import TYPE_CHECKING

from papyra.persistence.files import identity, open_regular
from papyra_json._segment.blocks import Packed
from papyra_json._segment.codec import MAX_MAGIC_BYTES, codec_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from papyra_json._fs.files import Range

__all__ = ["Segment"]


PAGE_BYTES = 4096  # the unit of reading around bytes that the disk can't read
MAX_UNREADABLE_PAGES = 1000  # beyond, the disk is taken as gone: each try may take seconds


class Segment:
    """A file of the set, open for reading, with the size that it had when it was opened.

    Offsets and sizes are those of its content before compression. Unless it is opened with
    ``tolerant=False``, NULs take the place of bytes that the disk can't read (EIO), and `unreadable` has
    their ranges.
    """

    __slots__ = ("_size", "_tolerant", "fd", "identity", "packed", "path", "stored", "unreadable")

    def __init__(self, path: Path, fd: int, *, tolerant: bool = True) -> None:
        """Take over the open file ``fd``."""
        status = os.fstat(fd)
        self.path = path
        self.fd = fd
        self.stored = status.st_size
        self.identity = identity(status)
        self.unreadable: list[Range] = []
        self._tolerant = tolerant
        codec = codec_of(path, self._read_stored(MAX_MAGIC_BYTES, 0))
        self.packed = Packed(fd, self.stored, codec, self._read_stored) if codec else None
        self._size = self.stored if codec is None else -1

    @classmethod
    def open(cls, path: Path, *, tolerant: bool = True) -> Segment:
        """Open ``path``."""
        fd = open_regular(path, os.O_RDONLY)
        try:
            return cls(path, fd, tolerant=tolerant)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    @property
    def size(self) -> int:
        """The size of the content in bytes."""
        if self._size < 0 and self.packed is not None:
            self._size = self.packed.size  # only now, because it may have to decompress everything
        return self._size

    def as_stored(self) -> Segment:
        """Return the same open file with the stored bytes as its content, compressed or not."""
        plain = copy(self)
        plain.packed, plain._size = None, self.stored
        return plain

    def cut(self, size: int) -> Segment:
        """Return the same open file with a content that ends at ``size``."""
        shorter = copy(self)
        shorter._size = size
        return shorter

    @property
    def damage(self) -> list[tuple[int | None, str]]:
        """The parts that could not be read so far.

        An offset, if the file is not compressed, and a description.
        """
        problems: list[tuple[int | None, str]] = [
            (start, f"{end - start} bytes from {start} on can't be read: {os.strerror(errno.EIO)}")
            for start, end in sorted(self.unreadable)
        ]
        return problems if self.packed is None else [(None, text) for text in self.packed.damage]

    def read_at(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes of content from ``offset`` on; fewer only at its end."""
        return self._read_stored(size, offset) if self.packed is None else self.packed.read_at(size, offset)

    def _read_stored(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self.fd, size, offset)
        except OSError as error:
            if error.errno != errno.EIO or not self._tolerant:
                raise
        return b"".join(self._pages(offset, min(offset + size, self.stored)))

    def _pages(self, start: int, stop: int) -> Iterator[bytes]:
        """Read page by page, and replace the pages that can't be read."""
        while start < stop:
            end = min(stop, start - start % PAGE_BYTES + PAGE_BYTES)
            try:
                yield os.pread(self.fd, end - start, start)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._note_unreadable(start, end, error)
                yield bytes(end - start)
            start = end

    def _note_unreadable(self, start: int, end: int, error: OSError) -> None:
        if sum(high - low for low, high in self.unreadable) > MAX_UNREADABLE_PAGES * PAGE_BYTES:
            raise error
        start, end = start - start % PAGE_BYTES, min(self.stored, end + -end % PAGE_BYTES)
        for index, known in enumerate(self.unreadable):
            if known[0] <= end and start <= known[1]:
                self.unreadable[index] = (min(start, known[0]), max(end, known[1]))
                return
        self.unreadable.append((start, end))
