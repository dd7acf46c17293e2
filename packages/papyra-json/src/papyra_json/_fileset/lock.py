"""The lock of a file set.

Every change of a set - an append, a rotation, a recovery, a compaction - holds the advisory lock of
``<file>.lock``. The lock file is permanent: it is never renamed or removed, so that all processes lock the
same file.
"""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import (
    create_file,
    drop_lock,
    identity,
    in_forked_child,
    make_folder,
    match_owner,
    open_regular,
    take_lock,
)
from papyra_json._fileset.notes import NoteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from papyra_json._fileset.notes import Notes
    from papyra_json._fileset.time_index import Entry

__all__ = ["SetLock", "lock_file_content"]


def lock_file_content(base: Path) -> bytes:
    """Return the content of a set's lock file, without the lock; empty if it can't be read."""
    try:
        fd = open_regular(_path_of(base), os.O_RDONLY)
    except (OSError, PersistenceError):
        return b""
    try:
        return NoteFile(fd).content()
    finally:
        os.close(fd)


def _path_of(base: Path) -> Path:
    return base.with_name(base.name + ".lock")


_locks: weakref.WeakSet[SetLock] = weakref.WeakSet()


def _close_all() -> None:
    """Close the locks in a forked child.

    It has inherited the open files that own the locks: they would stay held although their holder may be
    dead.
    """
    for lock in _locks:
        lock.close()


in_forked_child(_close_all)


class SetLock:
    """The lock of the set that begins at ``base``. One object serves one thread at a time.

    Two objects exclude each other in any two threads or processes.
    """

    def __init__(self, base: Path, checkpoint: Callable[[], None] = lambda: None) -> None:
        """``checkpoint`` is called while the lock is awaited, and may raise to give up."""
        self._checkpoint = checkpoint
        self._base = base
        self.path = _path_of(base)
        self._name = str(self.path)  # looked up for every batch
        self._fd = -1
        self._identity = (0, 0)
        self._notes = NoteFile(-1)
        _locks.add(self)

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Hold the lock alone, to write; create the lock file if it is missing."""
        fd = self.take()
        try:
            yield
        finally:
            drop_lock(fd)

    def take(self) -> int:
        """Take the lock as `exclusive` does, at less cost. Give the result to `drop_lock` in any case."""
        while True:
            if self._fd < 0:
                make_folder(self.path.parent)
                self._keep(self._open_or_create())
            fd = self._fd
            take_lock(fd, self._checkpoint)
            current = False
            try:
                current = self._is_current()
            finally:
                if not current:
                    drop_lock(fd)
            if current:
                return fd
            self.close()

    def _open_or_create(self) -> int:
        while True:
            with suppress(FileNotFoundError):
                return open_regular(self.path, os.O_RDWR)
            with suppress(FileExistsError):
                fd = create_file(self.path)
                with suppress(FileNotFoundError):
                    match_owner(fd, self._base.lstat())  # root may be the first to lock the file of a service
                return fd

    @contextmanager
    def shared(self) -> Generator[bool]:
        """Hold the lock with other readers and create nothing.

        The block gets False if no lock file can be opened.
        """
        while True:
            try:
                self._keep(open_regular(self.path, os.O_RDONLY))
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                yield False
                return
            try:
                fd = self._fd
                take_lock(fd, self._checkpoint, shared=True)
                try:
                    if self._is_current():
                        yield True
                        return
                finally:
                    drop_lock(fd)
            finally:
                self.close()

    def _is_current(self) -> bool:
        """Return whether the lock file is still the one that was opened: somebody may have removed it."""
        try:
            return identity(os.lstat(self._name)) == self._identity
        except FileNotFoundError:
            return False

    def _keep(self, fd: int) -> None:
        self._fd, self._identity = fd, identity(os.fstat(fd))
        self._notes = NoteFile(fd)

    def close(self) -> None:
        """Close the lock file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- the content of the lock file; only the holder of the lock may use it

    def content(self) -> bytes:
        """Return the content of the lock file; see `NoteFile.content`."""
        return self._notes.content()

    def read_notes(self) -> Notes:
        """Return the notes; see `NoteFile.read_notes`."""
        return self._notes.read_notes()

    def write_notes(self, notes: Notes) -> None:
        """Replace the notes; the lock must be exclusive."""
        self._notes.write_notes(notes)

    def read_table(self) -> list[Entry]:
        """Return the entries about the times in the set's files."""
        return self._notes.read_table()

    def write_entry(self, entry: Entry) -> None:
        """Write an entry about the times in a file; the lock must be exclusive."""
        self._notes.write_entry(entry)
