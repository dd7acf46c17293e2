"""The files of a database: check and create them, and quarantine them without overwriting anything."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError, StoreFull
from papyra.persistence.files import (
    create_file,
    file_kind,
    identity,
    make_folder,
    open_regular,
    quarantine_names,
    sync_file,
    sync_folder,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Identity",
    "Stamp",
    "beside",
    "complaint",
    "create_private",
    "free_name",
    "identity_at",
    "is_database",
    "is_full",
    "keep_aside",
    "keep_orphan",
    "orphan_log",
    "refuse_unwritable",
    "resting",
    "stamp",
    "stored_bytes",
    "sync_path",
]

Identity = tuple[int, int]
"""The device and inode of a file. If they change, the path no longer names the file that was opened."""

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size and two times of a file: at least one of them changes with every write."""

CLOCK_TICK_NANOSECONDS = 30_000_000  # the kernel's clock for file times advances in steps of up to 10 ms

# Another disk, a file system without links, too many links, or a file of another user.
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

_MAGIC = b"SQLite format 3\0"

MIN_FREE_BYTES = 2**16
"""A disk with less is full: the smallest write to a log takes several pages."""

COMPANIONS = ("-wal", "-shm", "-journal")


def complaint(path: Path) -> str | None:
    """Return why a database must not be opened at ``path``, or None. A missing file is fine."""
    for name in (path, *(beside(path, suffix) for suffix in COMPANIONS)):
        try:
            name.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"{name} can't be inspected: {error.strerror}"
        kind = file_kind(name)
        if kind is not None:
            return f"{name} is {kind}, not a regular file. Give the path of the database itself."
    return None


def is_database(path: Path) -> bool:
    """Return whether a file begins like an SQLite database; False if it can't be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return False
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def refuse_unwritable(path: Path) -> None:
    """Raise if no database can be written at ``path``.

    Checks the file or the nearest existing folder, and the disk.
    """
    target = next(one for one in (path, *path.parents) if one.exists())  # the root does
    disk = os.statvfs(target)
    if disk.f_flag & os.ST_RDONLY:
        raise PersistenceError(
            f"{path} can't be written: its file system is read-only. Mount it writable.", retry=True
        )
    if _free_bytes(disk) < MIN_FREE_BYTES:
        raise StoreFull(f"{path} can't be written: its disk is full. Writing works again once there is room.")
    folder = target if target.is_dir() else target.parent
    for needed, mode in ((target, os.W_OK), (folder, os.W_OK | os.X_OK)):
        if not os.access(needed, mode):
            raise PersistenceError(
                f"{path} can't be written: this user may not write to {needed}. Change its owner or its mode.",
                retry=True,
            )


def is_full(path: Path) -> bool:
    """Return whether the disk of a database has no room."""
    try:
        return _free_bytes(os.statvfs(path.parent)) < MIN_FREE_BYTES
    except OSError:
        return False


def _free_bytes(disk: os.statvfs_result) -> int:
    return disk.f_bavail * disk.f_frsize


def identity_at(path: Path) -> Identity | None:
    """Return the identity of the file that ``path`` names now, or None if there is none."""
    try:
        return identity(path.lstat())
    except FileNotFoundError:
        return None


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file."""
    status = path.lstat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def resting(path: Path) -> Stamp | None:
    """Return the stamp of a database that no program has open for writing; None if one may have.

    A program that opens the database creates a log, and one that writes to it changes the stamp. A reader
    that finds neither afterwards has read a single state, although without a lock.
    """
    while not any(os.path.lexists(beside(path, suffix)) for suffix in ("-wal", "-journal")):
        try:
            before = stamp(path)
        except FileNotFoundError:
            return None
        age = time.time_ns() - max(before[3:])
        if age >= CLOCK_TICK_NANOSECONDS:
            return before
        if age < 0:  # the clock went back
            return None
        time.sleep((CLOCK_TICK_NANOSECONDS - age) / 1e9)  # else the next write might leave the same stamp
    return None


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a companion: the same name with ``suffix``."""
    return path.with_name(path.name + suffix)


def stored_bytes(path: Path) -> int:
    """Return the size of a database with its write-ahead log."""
    total = 0
    for name in (path, beside(path, "-wal")):
        try:
            total += name.lstat().st_size
        except OSError:
            continue  # missing, or the open that follows reports it
    return total


def create_private(path: Path, like: Path | None = None) -> None:
    """Create an empty file with mode 0600; a file that exists is a `FileExistsError`.

    It gets the owner and mode of the file ``like``, or the owner of its folder, as far as this process may
    give them.
    """
    make_folder(path.parent)
    os.close(create_file(path, os.O_WRONLY, None if like is None else like.lstat()))


def sync_path(path: Path) -> None:
    """Bring a file to the disk.

    No database connection may have it open: closing it would drop their locks.
    """
    descriptor = open_regular(path, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def free_name(path: Path, folder: Path) -> Path:
    """Return the name that a database would have in the quarantine now."""
    return next(
        name
        for name in quarantine_names(path, folder, dated=False)
        if not os.path.lexists(name) and not os.path.lexists(beside(name, "-wal"))
    )


def keep_aside(path: Path, folder: Path) -> Path:
    """Give a database and its log a second, new name in ``folder``. Overwrites nothing."""
    make_folder(folder)
    while True:
        name = free_name(path, folder)
        try:
            _link_or_copy(path, name)
        except FileExistsError:
            continue
        try:
            if beside(path, "-wal").exists():
                _link_or_copy(beside(path, "-wal"), beside(name, "-wal"))
        except BaseException as error:
            name.unlink()
            if isinstance(error, FileExistsError):
                continue
            raise
        sync_folder(folder)
        return name


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return
    create_private(target, like=source)
    try:
        shutil.copyfile(source, target)
        sync_path(target)
    except BaseException:
        target.unlink()
        raise


def orphan_log(path: Path) -> Path | None:
    """Return the log of a database that was moved away without it, if there is one.

    SQLite would delete the log as soon as it opens a new database of that name.
    """
    log = beside(path, "-wal")
    there = [_regular_size(name) for name in (log, path)]
    return log if there[0] and not there[1] else None


def _regular_size(path: Path) -> int:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def keep_orphan(log: Path, folder: Path) -> Path:
    """Move the log of a missing database to the quarantine."""
    kept = keep_aside(log, folder)
    log.unlink()
    sync_folder(log.parent)
    return kept
