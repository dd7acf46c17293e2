"""Copy parts of files, and replace files so that the old or the new content is always there, whole."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from papyra.exceptions import PersistenceError
from papyra.persistence.files import create_file, sync_file, sync_folder, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

__all__ = ["NEWLINE", "TEMPORARY_INFIX", "Range", "Readable", "copy_ranges", "drafting", "replacing"]

Range = tuple[int, int]
"""Bytes of a file: the first offset, and the offset after the last one."""

NEWLINE: Range = (-1, -1)
"""In the ranges to copy, a newline that the source does not have."""

TEMPORARY_INFIX = ".tmp-"
"""In the name of a temporary file, the text between the file's name and the random part."""

COPY_BYTES = 2**20
MIN_HOLE_BYTES = 2**16


class Readable(Protocol):
    """A file that is read by offset."""

    def read_at(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes from ``offset`` on; fewer only at the end."""
        ...


def copy_ranges(
    source: Readable, target: int, ranges: Iterable[Range], advance: Callable[[int], None] = lambda _: None
) -> int:
    """Append ranges of one file to another in constant memory; return the number of bytes.

    Runs of NULs become holes, which take no room on the disk. ``advance`` gets the size of each piece once it
    is copied, and may raise to end the copying.
    """
    copied = 0
    hole = False
    for start, end in ranges:
        if (start, end) == NEWLINE:
            write_all(target, b"\n")
            copied += 1
        while start < end:
            data = source.read_at(min(COPY_BYTES, end - start), start)
            if not data:
                raise PersistenceError(
                    f"the file was truncated to {start} bytes while it was copied. Try again."
                )
            hole = len(data) >= MIN_HOLE_BYTES and not data.strip(b"\0")
            if hole:
                os.lseek(target, len(data), os.SEEK_CUR)
            else:
                write_all(target, data)
            start += len(data)
            copied += len(data)
            advance(len(data))
    if hole:
        os.ftruncate(target, os.lseek(target, 0, os.SEEK_CUR))
    return copied


@contextmanager
def replacing(path: Path, like: int) -> Generator[int]:
    """Yield a new file to write, which replaces ``path`` when the block ends without an error.

    It lies beside ``path`` and has the owner and mode of the open file ``like``. It is synced before it is
    renamed, and the folder after that.
    """
    with drafting(path, like) as (temporary, fd):
        yield fd
        sync_file(fd)
        try:
            temporary.replace(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise PersistenceError(
                f"{path} can't be replaced because it is a mount of its own. Mount its folder instead, or do this where "
                "the file is mounted from."
            ) from error
    sync_folder(path.parent)


@contextmanager
def drafting(path: Path, like: int) -> Generator[tuple[Path, int]]:
    """Yield a new file beside ``path``, with the owner and mode of the open file ``like``.

    An error removes it.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY_INFIX}{secrets.token_hex(8)}")
    fd = create_file(temporary, like=os.fstat(like))
    try:
        yield temporary, fd
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
