"""Read what another tool has compressed: from its start on only, in bounded memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from papyra_json._record.decode import MAX_LINE, intact

if TYPE_CHECKING:
    from papyra_json._segment.codec import Codec

__all__ = ["Stream", "verified"]

_STEP = 2**10  # stored bytes; what comes of the step with an error in it is lost
_PIECE = 2**18
_WINDOW = 2**23  # bytes of content that are at hand for who reads backward


def verified(content: bytes) -> bytes:
    """Blank each line that has no CRC to prove it: damage to what is compressed garbles lines beyond their bytes."""
    lines = content.split(b"\n")
    return b"\n".join([line if intact(line) else bytes(len(line)) for line in lines])


class Stream:
    """The content of a file that was compressed by another tool; ``damage`` takes what can't be read.

    It is read to its end before anything of it is given, for only there a checksum tells whether to trust it.
    """

    def __init__(self, fd: int, codec: Codec, damage: dict[int, str]) -> None:
        self._fd = fd
        self._codec = codec
        self._damage = damage
        self._damaged = False
        self._rewind()
        while self._advance():
            pass
        self.size = self._end
        self._damaged = bool(damage)
        if damage:
            self._rewind()

    def _rewind(self) -> None:
        self._decoder = self._codec.decoder()
        self._input = b""
        self._at = 0
        self._window = bytearray()
        self._end = 0  # of the window, in the content
        self._line = b""  # what was begun behind it
        self._over = False

    def read_at(self, size: int, offset: int) -> bytes:
        if offset < self._end - len(self._window):
            self._rewind()
        while self._end < offset + size and self._advance():
            pass
        at = offset - (self._end - len(self._window))
        return bytes(self._window[at : at + size])

    def _advance(self) -> bool:
        """Read some more content into the window; False at its end."""
        more = self._decompressed()
        if self._damaged:
            self._line += more
            cut = self._line.rfind(b"\n") + 1
            if self._over or len(self._line) - cut > MAX_LINE:
                cut = len(self._line)
            more, self._line = verified(self._line[:cut]), self._line[cut:]
        self._window += more
        self._end += len(more)
        del self._window[:-_WINDOW]
        return bool(more) or not self._over

    def _decompressed(self) -> bytes:
        """Return a piece of the content; an empty one at its end."""
        while not self._over:
            try:
                more = self._decoder.decompress(self._input, _PIECE)
            except self._codec.errors as error:
                self._stop(str(error))
                break
            self._input = b""
            if more:
                return more
            if self._decoder.eof:
                # Another member or frame may follow, or NULs, as tapes are padded.
                self._input = self._decoder.unused_data.lstrip(b"\0")
                while not self._input and (step := self._next_step()):
                    self._input = step.lstrip(b"\0")
                self._over = not self._input
                self._decoder = self._codec.decoder()
            else:
                self._input = self._next_step()
                if not self._input:
                    self._stop("it ends too early")
        return b""

    def _next_step(self) -> bytes:
        data = os.pread(self._fd, _STEP, self._at)
        self._at += len(data)
        return data

    def _stop(self, reason: str) -> None:
        self._over = True
        self._damage[0] = (
            f"what is compressed is damaged ({reason}): lines without a CRC, and what follows, can't be read"
        )
