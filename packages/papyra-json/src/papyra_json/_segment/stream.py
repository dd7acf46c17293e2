"""Read a segment that another tool compressed: forward, in bounded memory."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from typing import TYPE_CHECKING

from papyra_json._record.decode import MAX_LINE_BYTES, intact

if TYPE_CHECKING:
    from collections.abc import Generator

    from papyra_json._segment.codec import Codec

__all__ = ["Stream"]

PIECE_BYTES = 2**18  # of content, read at once
WINDOW_BYTES = 2**23  # of content, kept for readers that go backward in small steps


class Stream:
    """The content of a file that another tool compressed.

    The whole file is read once before any of it is given, because only its end holds the checksum. ``damage``
    is the reason why a part can't be read, or an empty text. Of a damaged file, a line without a CRC can't be
    trusted, so NULs take its place.
    """

    def __init__(self, fd: int, codec: Codec) -> None:
        self._fd = fd
        self._codec = codec
        self.damage = ""
        self._rewind()
        while self._advance():
            pass
        self.size = self._end
        if self.damage:
            self._rewind()

    def read_at(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes of content from ``offset`` on; fewer only at its end."""
        if offset < self._end - len(self._window):
            self._rewind()
        while self._end < offset + size and self._advance():
            pass
        start = offset - (self._end - len(self._window))
        return bytes(self._window[start : start + size])

    def _rewind(self) -> None:
        self._pieces = self._trusted_pieces() if self.damage else self._decompressed()
        self._window = bytearray()
        self._end = 0  # offset of the window's end in the content

    def _advance(self) -> bool:
        """Read one more piece into the window; False at the end of the content."""
        piece = next(self._pieces, b"")
        self._window += piece
        self._end += len(piece)
        del self._window[:-WINDOW_BYTES]
        return bool(piece)

    def _decompressed(self) -> Generator[bytes]:
        os.lseek(self._fd, 0, os.SEEK_SET)
        with os.fdopen(self._fd, "rb", closefd=False) as raw, closing(self._codec.open(raw)) as file:
            while True:
                try:
                    piece = file.read1(PIECE_BYTES)
                except self._codec.errors as error:
                    self.damage = str(error) or type(error).__name__
                    return
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    self.damage = str(error)
                    return
                if not piece:
                    return
                yield piece

    def _trusted_pieces(self) -> Generator[bytes]:
        """Yield the content in whole lines; only lines with a CRC that fits are kept."""
        begun = b""
        for piece in self._decompressed():
            begun += piece
            cut = begun.rfind(b"\n") + 1
            if not cut and len(begun) > MAX_LINE_BYTES:
                cut = len(begun)
            if cut:
                yield from _blanked(begun[:cut])
                begun = begun[cut:]
        yield from _blanked(begun)


def _blanked(content: bytes) -> Generator[bytes]:
    """Yield the content, with NULs for each line without a CRC that fits, in pieces that fit the window."""
    lines = content.split(b"\n")
    trusted = b"\n".join([line if intact(line) else bytes(len(line)) for line in lines])
    for start in range(0, len(trusted), PIECE_BYTES):
        yield trusted[start : start + PIECE_BYTES]
