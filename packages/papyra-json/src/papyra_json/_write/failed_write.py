"""A failed write, whose lines may be in the file because they could not be cut off.

The system may offer the same lines again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FailedWrite"]


@dataclass(frozen=True, slots=True)
class FailedWrite:
    """A failed write of the lines ``data`` at the offset ``end``, behind the bytes ``end_bytes``."""

    end: int
    end_bytes: bytes
    data: bytes

    def stored_of(self, fd: int, offered: Sequence[bytes]) -> int:
        """Return how many of the offered lines, from the first on, the write has stored in the open file."""
        size = len(self.end_bytes)
        if os.pread(fd, size, self.end - size) != self.end_bytes:
            return 0  # it was replaced since
        stored = _common(os.pread(fd, len(self.data), self.end), self.data)
        contents = [_content(line) for line in stored]
        for index, content in enumerate(contents):
            # The first lines may be missing from the offer: the oldest facts are dropped when a buffer is
            # full.
            if offered and content == _content(offered[0]):
                rest = zip(contents[index:], offered, strict=False)
                return next(
                    (count for count, (content, line) in enumerate(rest) if content != _content(line)),
                    min(len(contents) - index, len(offered)),
                )
        return 0


def _common(present: bytes, written: bytes) -> list[bytes]:
    """Return the complete lines at the beginning of both."""
    lines, end = written.splitlines(keepends=True), 0
    for count, line in enumerate(lines):
        if not present.startswith(line, end):
            return lines[:count]
        end += len(line)
    return lines


def _content(line: bytes) -> bytes:
    """Return a line without its number and check sum."""
    return line[: line.rindex(b',"seq":')]
