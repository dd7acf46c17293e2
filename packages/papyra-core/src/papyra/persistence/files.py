"""Safe work with files, for backends that keep their records in files.

New files and folders are private, belong to the owner of the place they are made in, and no function follows
a symbolic link. Everything that only POSIX offers is in this module; a port to another system replaces it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import time
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError, StoreFull

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

__all__ = [
    "SAFE_FLAGS",
    "create_file",
    "create_folder",
    "drop_lock",
    "failed_write",
    "file_kind",
    "identity",
    "in_forked_child",
    "make_folder",
    "match_mode",
    "match_owner",
    "open_regular",
    "quarantine_names",
    "sync_file",
    "sync_folder",
    "take_lock",
    "try_locked",
    "write_all",
]

SAFE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags for every `os.open`: a symbolic link is refused, and a FIFO without a peer can't block the caller."""

MAX_LOCK_PAUSE_SECONDS = 0.02  # between two tries to take a lock

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# Errors of the name or of the file system's abilities. All others may pass: the disk gets room, a mount or a
# file server comes back, an owner or a mode is corrected.
_LASTING = frozenset(
    {
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EINVAL,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
    }
)

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


# -- opening


def file_kind(path: Path) -> str | None:
    """Return the kind of a file that is not regular, as in ``"a symbolic link"``.

    None means that the path names a regular file, or that nothing can be seen there.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "not a regular file")


def open_regular(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a regular file and return its descriptor.

    A symbolic link, FIFO, folder or device is a `PersistenceError` that names it. The errors of the system,
    as `FileNotFoundError` and `PermissionError`, are raised unchanged.
    """
    try:
        fd = os.open(path, flags | SAFE_FLAGS, mode)
    except OSError as error:
        kind = file_kind(path)
        if kind is None or error.errno in (errno.EACCES, errno.EPERM):
            raise
        raise _refusal(path, kind) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _refusal(path, file_kind(path) or "not a regular file")
    return fd


def _refusal(path: Path, kind: str) -> PersistenceError:
    return PersistenceError(
        f"{path} is {kind}, but a store must be a regular file. Choose another path or move it away."
    )


def identity(status: os.stat_result) -> tuple[int, int]:
    """Return the device and inode of a file. Two names of one file share them."""
    return status.st_dev, status.st_ino


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``. After an error the file may hold a part of it."""
    written = os.write(fd, data)  # nearly always everything, and then no memoryview is needed
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


# -- making


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents with mode 0700, and sync their names.

    They belong to the owner of the nearest parent that exists, as far as this process may give them away.
    """
    missing: list[Path] = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):
            create_folder(folder)
        sync_folder(folder.parent)


def create_folder(path: Path) -> None:
    """Create one folder with mode 0700; one that exists is a `FileExistsError`.

    It belongs to the owner of its parent, as far as this process may give it away.
    """
    path.mkdir(0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        match_owner(fd, path.parent.stat())
    finally:
        os.close(fd)


def create_file(path: Path, flags: int = os.O_RDWR, like: os.stat_result | None = None) -> int:
    """Create a file with mode 0600 and return its descriptor; a file that exists is a `FileExistsError`.

    It gets the owner and mode of ``like``, or the owner of its folder, as far as this process may give them.
    """
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | SAFE_FLAGS, 0o600)
    try:
        if like is None:
            match_owner(fd, path.parent.stat())
        else:
            match_owner(fd, like)
            match_mode(fd, like)
    except BaseException:
        os.close(fd)
        path.unlink()
        raise
    return fd


def match_owner(fd: int, model: os.stat_result) -> None:
    """Give a new file or folder the owner and group of ``model``, as far as this process may.

    Otherwise a service could no longer write its store after root has created a part of it.
    """
    own = os.fstat(fd)
    if (own.st_uid, own.st_gid) == (model.st_uid, model.st_gid):
        return
    # The process may not be root, or the file system may have no owners: then at least the group, if
    # possible.
    with suppress(OSError):
        os.fchown(fd, model.st_uid, model.st_gid)
        return
    with suppress(OSError):
        os.fchown(fd, -1, model.st_gid)


def match_mode(fd: int, model: os.stat_result) -> None:
    """Give a file the mode of the regular file ``model``; the group's part only if their groups are equal."""
    mode = stat.S_IMODE(model.st_mode) & 0o777
    if os.fstat(fd).st_gid != model.st_gid:
        mode &= ~0o070
    os.fchmod(fd, mode)


def quarantine_names(path: Path, folder: Path | None = None, *, dated: bool = True) -> Iterator[Path]:
    """Yield names for a quarantine file of ``path``, in ``folder`` or beside it, without an end.

    They hold the present time unless ``dated`` is False, and a number. Create the file with `create_file` and
    take the next name on a `FileExistsError`: then nothing is ever overwritten.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" if dated else ""
    target = path.parent if folder is None else folder
    return (target / f"{path.name}.quarantine-{stamp}{number}" for number in count(1))


# -- syncing


def sync_file(fd: int) -> None:
    """Bring the content of an open file to the disk."""
    if sys.platform == "darwin":  # there, fsync stops at the drive's own cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def sync_folder(path: Path | str) -> None:
    """Bring the names in a folder to the disk: files that were made, renamed or removed."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- locking


def take_lock(fd: int, checkpoint: Callable[[], None], *, shared: bool = False) -> None:
    """Take the advisory lock of an open file.

    Call ``checkpoint`` between two tries, which may raise to give up.

    An exclusive lock needs a descriptor that is open for writing, as NFS demands. The lock belongs to the
    open file, not to the process: two opens in one process exclude each other too.
    """
    # A poll, because nothing ends a thread's blocking flock(), and an interpreter that exits joins its
    # threads.
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    pause = 0.0005
    while not _try_lock(fd, operation):
        checkpoint()
        time.sleep(pause)
        pause = min(2 * pause, MAX_LOCK_PAUSE_SECONDS)


def _try_lock(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise PersistenceError(
            f"the file system of the store has no working locks ({error.strerror}). Start its lock service "
            "(lockd or statd for NFS), or put the store on a local disk."
        ) from error
    return True


def drop_lock(fd: int) -> None:
    """Release the advisory lock.

    Closing the file is not enough because a forked child may have inherited it.
    """
    fcntl.flock(fd, fcntl.LOCK_UN)


_held: set[int] = set()


@contextmanager
def try_locked(fd: int) -> Generator[bool]:
    """Hold the advisory lock of an open file if it is free; the block gets whether it was."""
    _held.add(fd)
    locked = False
    try:
        locked = _try_lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield locked
    finally:
        _held.discard(fd)
        if locked:
            drop_lock(fd)


def in_forked_child(call: Callable[[], None]) -> None:
    """Run ``call`` in every process that is forked from this one."""
    os.register_at_fork(after_in_child=call)


def _close_held() -> None:
    """Close inherited files in a forked child.

    It would hold their locks although their holder may be dead.
    """
    for fd in _held:
        os.close(fd)
    _held.clear()


in_forked_child(_close_held)


# -- errors


def failed_write(text: str, error: OSError) -> PersistenceError:
    """Return the `PersistenceError` for a failed write.

    A `StoreFull` if there is no room, with ``retry`` if it may pass.
    """
    if error.errno in _FULL:
        return StoreFull(text)
    return PersistenceError(text, retry=error.errno not in _LASTING)
