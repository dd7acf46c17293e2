"""Open, make and replace files without following anything but a plain name."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra_json._fs.posix import SAFE_FLAGS, sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from papyra_json._record.lines import Readable

__all__ = [
    "TEMPORARY",
    "Range",
    "copy_ranges",
    "drafting",
    "identity",
    "make_folder",
    "odd_kind",
    "open_regular",
    "replacing",
    "write_all",
]

Range = tuple[int, int]
"""Bytes of a file from the first offset up to, but not with, the second."""

TEMPORARY = ".tmp-"
"""What stands between a file's name and the random part in the name of its temporary file."""

_CHUNK = 2**20

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def odd_kind(path: Path) -> str | None:
    """Say what stands at ``path`` in place of a regular file; None if it is one, or nothing can be seen there."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


def open_regular(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a regular file and return its descriptor.

    A symbolic link, a FIFO, a folder or a device in its place is a `PersistenceError` that says so, and
    never hangs; the errors of the system (`FileNotFoundError`, `PermissionError`) come as they are.
    """
    try:
        fd = os.open(path, flags | SAFE_FLAGS, mode)
    except OSError as error:
        odd = odd_kind(path)
        if odd is None or error.errno in (errno.EACCES, errno.EPERM):
            raise
        raise _refusal(path, odd) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _refusal(path, odd_kind(path) or "no regular file")
    return fd


def _refusal(path: Path, odd: str) -> PersistenceError:
    return PersistenceError(
        f"{path} is {odd}, but a store of facts must be a regular file: name a file, or move what is there"
    )


def identity(status: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from every other one, however it is named."""
    return status.st_dev, status.st_ino


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, for the owner alone, and sync their names."""
    missing: list[Path] = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir(0o700)
        sync_folder(str(folder.parent))


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; after an error a part of it may stand in the file."""
    written = os.write(fd, data)  # nearly always all, and then no view of it is needed
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def copy_ranges(
    source: Readable, target: int, ranges: Iterable[Range], advance: Callable[[int], None] = lambda _: None
) -> int:
    """Append parts of one file to another in constant memory; return how many bytes that were.

    ``advance`` is told the size of each piece once it is copied, and may raise to end the copying.
    """
    copied = 0
    for start, end in ranges:
        while start < end:
            data = source.read_at(min(_CHUNK, end - start), start)
            if not data:
                raise PersistenceError(
                    f"a file lost its bytes from {start} on while it was copied; try again"
                )
            write_all(target, data)
            start += len(data)
            copied += len(data)
            advance(len(data))
    return copied


@contextmanager
def replacing(path: Path, like: int) -> Generator[int]:
    """Give a new file to write, which takes the place of ``path`` when the block ends well.

    It stands beside ``path``, has the owner and mode of the open file ``like``, and is synced before it is
    renamed, as is the folder after. At every instant the old or the new content is there, whole.
    """
    with drafting(path, like) as (temporary, fd):
        yield fd
        sync_file(fd)
        temporary.replace(path)
    sync_folder(str(path.parent))


@contextmanager
def drafting(path: Path, like: int) -> Generator[tuple[Path, int]]:
    """Give a new file beside ``path``, with the owner and mode of the open file ``like``; an error removes it."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE_FLAGS, 0o600)
    try:
        _take_after(fd, like)
        yield temporary, fd
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def _take_after(fd: int, like: int) -> None:
    status, own = os.fstat(like), os.fstat(fd)
    # root may compact a service's file, and must not take it away from the service.
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        with suppress(PermissionError):
            os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode) & 0o777)
