"""Open files of a set: what each of them holds, read by offset, whether it is compressed or not."""

from __future__ import annotations

import os
from copy import copy
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra_json._fs.files import identity, open_regular
from papyra_json._segment.blocks import Packed
from papyra_json._segment.codec import MAX_MAGIC_BYTES, codec_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

__all__ = ["Segment", "Snapshot"]


class Segment:
    """A file of the set, open for reading, as long as it was when it was opened.

    Offsets and sizes are those of its content, as it was before it was compressed.
    """

    __slots__ = ("_size", "fd", "identity", "packed", "path", "stored")

    def __init__(self, path: Path, fd: int) -> None:
        """Look at what is open as ``fd``, and take it over."""
        status = os.fstat(fd)
        self.path = path
        self.fd = fd
        self.stored = status.st_size
        self.identity = identity(status)
        codec = codec_of(path, os.pread(fd, MAX_MAGIC_BYTES, 0))
        self.packed = Packed(fd, self.stored, codec) if codec else None
        self._size = self.stored if codec is None else -1

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Open ``path``."""
        fd = open_regular(path, os.O_RDONLY)
        try:
            return cls(path, fd)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    @property
    def size(self) -> int:
        """How many bytes of content there are."""
        if self._size < 0 and self.packed is not None:
            self._size = self.packed.size  # only now, for it may take to unpack all
        return self._size

    def as_stored(self) -> Segment:
        """Return the same open file as one whose content is what is stored, compressed or not."""
        plain = copy(self)
        plain.packed, plain._size = None, self.stored
        return plain

    def cut(self, size: int) -> Segment:
        """Return the same open file as one whose content ends at ``size``."""
        shorter = copy(self)
        shorter._size = size
        return shorter

    @property
    def damage(self) -> list[str]:
        """What of a compressed file could not be read so far: NULs stand for it."""
        return [] if self.packed is None else self.packed.damage

    def read_at(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes of content from ``offset`` on; fewer only at its end."""
        return os.pread(self.fd, size, offset) if self.packed is None else self.packed.read_at(size, offset)


class Snapshot:
    """The files of a set, oldest first, and those that could not be opened, with the reason."""

    def __init__(self, table: bytes = b"") -> None:
        """``table`` is what was known of the times in the files before they were opened."""
        self.files: list[Segment] = []
        self.failed: list[tuple[Path, Exception]] = []
        self.table = table

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every file."""
        for file in self.files:
            file.close()
        self.files = []

    def raise_failure(self) -> Self:
        """Return itself, or raise why a file could not be opened."""
        if not self.failed:
            return self
        path, error = self.failed[0]
        self.close()
        if isinstance(error, PersistenceError):
            raise error
        raise PersistenceError(f"{path} can't be read ({error}); check its owner and mode") from error
