"""The files of a database: checked before they are touched, private, locked, moved without overwriting.

All that only POSIX has (advisory locks, folder syncs) stands here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from papyra_contrib.sqlite._jobs import Job

__all__ = [
    "Identity",
    "WriteLock",
    "complaint",
    "create_private",
    "identity",
    "keep_aside",
    "move_out",
    "stored_bytes",
    "sync_file",
    "sync_folder",
]

Identity = tuple[int, int]
"""The device and inode of a file: tells whether a path still names the file that was opened."""

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


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a companion: the same name with ``suffix``."""
    return path.with_name(path.name + suffix)


def stored_bytes(path: Path) -> int:
    """Return the size of a database with its write-ahead log."""
    total = 0
    for name in (path, beside(path, "-wal")):
        try:
            total += name.lstat().st_size
        except FileNotFoundError:
            continue
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


def keep_aside(path: Path, folder: Path) -> Path:
    """Give a database and its log a second, new name in ``folder``; where that is another disk, beside it.

    A link, not a copy: nothing is read, and nothing that is there already is overwritten.
    """
    make_folder(folder)
    number = 1
    while True:
        name = folder / f"{path.name}.quarantine-{number}"
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
            number += 1
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


class WriteLock:
    """The permanent ``<database>.lock``: who writes to or replaces the database holds it.

    SQLite locks a file, but not a name: without this, a writer could commit into a database that a recovery
    has just replaced.
    """

    def __init__(self, path: Path) -> None:
        self._database = path
        self._path = beside(path, ".lock")
        self._descriptor: int | None = None
        # A caller that asyncio's own cancel() took away has left a thread behind that still writes.
        self._threads = threading.Lock()

    @contextmanager
    def hold(self, job: Job, timeout: float) -> Generator[None]:
        """Wait for the lock, at most ``timeout`` seconds, and hold it inside."""
        deadline = time.monotonic() + timeout
        self._wait(lambda: self._threads.acquire(blocking=False), job, deadline, timeout)
        try:
            with self._hold_file(job, deadline, timeout):
                yield
        finally:
            self._threads.release()

    @contextmanager
    def _hold_file(self, job: Job, deadline: float, timeout: float) -> Generator[None]:
        descriptor = self._open()
        self._wait(lambda: _try_lock(descriptor), job, deadline, timeout)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def pause(self, timeout: float) -> bool:
        """Keep the threads of this process out until `resume`; False if one was at work for too long."""
        return self._threads.acquire(timeout=timeout)

    def hold_in_pause(self, job: Job, timeout: float) -> AbstractContextManager[None]:
        """Hold the lock against other processes, while `pause` keeps out the threads of this one."""
        return self._hold_file(job, time.monotonic() + timeout, timeout)

    def resume(self) -> None:
        """Let the threads in again."""
        self._threads.release()

    def _wait(self, acquired: Callable[[], bool], job: Job, deadline: float, timeout: float) -> None:
        pause = 0.0005
        while not acquired():
            job.check()
            if time.monotonic() >= deadline:
                raise PersistenceError(
                    f"{self._path} was kept locked for {timeout} s; if a large database is being compacted or "
                    "recovered, give a longer busy_timeout"
                )
            time.sleep(pause)
            pause = min(2 * pause, 0.02)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            with suppress(FileExistsError):
                make_folder(self._path.parent)
                create_private(self._path, self._database if self._database.exists() else self._path.parent)
            descriptor = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise PersistenceError(f"{self._path} is not a regular file; remove it")
            self._descriptor = descriptor
        return self._descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
