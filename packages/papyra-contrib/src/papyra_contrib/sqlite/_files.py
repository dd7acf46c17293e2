"""The files of a database: checked before they are touched, private, moved without overwriting.

All that only POSIX has (folder syncs, owners) stands here, but for the advisory lock, which has a module of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Identity",
    "Stamp",
    "beside",
    "complaint",
    "create_private",
    "free_name",
    "identity",
    "keep_aside",
    "make_folder",
    "move_out",
    "resting",
    "stamp",
    "stored_bytes",
    "sync_file",
    "sync_folder",
]

Identity = tuple[int, int]
"""The device and inode of a file: tells whether a path still names the file that was opened."""

Stamp = tuple[int, int, int, int, int]
"""What changes whenever a file does: device, inode, size, and two times."""

_CLOCK_TICK = 30_000_000  # nanoseconds; the kernel's clock for file times may stand still for 10 ms

COMPANIONS = ("-wal", "-shm", "-journal")


def complaint(path: Path) -> str | None:
    """Say why a database must not be opened at ``path``, or None; a missing one is fine."""
    for name in (path, *(beside(path, suffix) for suffix in COMPANIONS)):
        try:
            mode = name.lstat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"{name} can't be looked at: {error.strerror}"
        if not stat.S_ISREG(mode):
            kind = (
                "a symbolic link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "special"
            )
            return f"{name} is {kind}, not a regular file; give the path of the database itself"
    return None


def identity(path: Path) -> Identity | None:
    """Return what ``path`` names now, or None if nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file."""
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def resting(path: Path) -> Stamp | None:
    """Return the stamp of a database that nobody has open for writing; None if somebody may have.

    Whoever opens it makes a log, and whoever writes to it changes the stamp. So one who finds both as they were has
    read a single state, though without a lock.
    """
    while not any(os.path.lexists(beside(path, suffix)) for suffix in ("-wal", "-journal")):
        try:
            found = stamp(path)
        except FileNotFoundError:
            return None
        age = time.time_ns() - max(found[3:])
        if age >= _CLOCK_TICK:
            return found
        if age < 0:  # the clock went back
            return None
        time.sleep((_CLOCK_TICK - age) / 1e9)  # else the next write might leave the same stamp
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
            continue  # not there, or soon met by who opens it
    return total


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, as far as they are missing, for the owner alone."""
    missing = [folder, *folder.parents]
    for one in reversed([parent for parent in missing if not parent.exists()]):
        one.mkdir(mode=0o700, exist_ok=True)


def create_private(path: Path, like: Path | None = None) -> None:
    """Create an empty file for the owner alone; one that is there already is a `FileExistsError`.

    It gets the owner and mode of the file ``like``, as far as this process may give them.
    """
    make_folder(path.parent)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if like is not None:
            _assimilate(descriptor, like)
    finally:
        os.close(descriptor)


def _assimilate(descriptor: int, like: Path) -> None:
    """Give a new file the owner of another file or a folder, and the mode of a file.

    Or root, who repairs the store of a service, would lock the service out of it.
    """
    model, own = like.lstat(), os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (model.st_uid, model.st_gid):
        try:
            os.fchown(descriptor, model.st_uid, model.st_gid)
        except PermissionError:
            return  # the mode was meant for another owner or group
    if stat.S_ISREG(model.st_mode):
        os.fchmod(descriptor, model.st_mode & 0o666)


def sync_file(path: Path) -> None:
    """Bring a file to disk that no database connection has open: closing it would drop their locks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_name(path: Path, folder: Path) -> Path:
    """Return the name that a database would have in the quarantine now."""
    number = 1
    while True:
        name = folder / f"{path.name}.quarantine-{number}"
        if not os.path.lexists(name) and not os.path.lexists(beside(name, "-wal")):
            return name
        number += 1


def keep_aside(path: Path, folder: Path) -> Path:
    """Give a database and its log a second, new name in ``folder``; where that is another disk, beside it.

    A link, not a copy: nothing is read, and nothing that is there already is overwritten.
    """
    make_folder(folder)
    while True:
        name = free_name(path, folder)
        log, copied_log = beside(path, "-wal"), beside(name, "-wal")
        try:
            os.link(path, name, follow_symlinks=False)
            try:
                if log.exists():
                    os.link(log, copied_log, follow_symlinks=False)
            except FileExistsError:
                name.unlink()
                raise
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno != errno.EXDEV or folder == path.parent:
                raise
            return keep_aside(path, path.parent)
        else:
            sync_folder(folder)
            return name


def move_out(kept: Path, folder: Path) -> Path:
    """Move what `keep_aside` had to leave beside the database to ``folder``; return its name there."""
    if kept.parent == folder:
        return kept
    number = 1
    while (target := folder / f"{kept.name}.{number}").exists() or beside(target, "-wal").exists():
        number += 1
    for suffix in ("", "-wal"):
        source = beside(kept, suffix)
        if not source.exists():
            continue
        create_private(beside(target, suffix))  # exclusive: should another be quicker, this fails
        shutil.copyfile(source, beside(target, suffix))
        sync_file(beside(target, suffix))
    sync_folder(folder)
    beside(kept, "-wal").unlink(missing_ok=True)
    kept.unlink()
    return target
