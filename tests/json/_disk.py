"""A disk in memory that keeps over a power cut only what was synced, and a patched `os` that works on it.

What may happen to the rest is what POSIX allows, as far as journaling file systems use it:

- Bytes written since the file's last sync may be lost, kept, kept in part, or kept without what was written
  before them; the file may have grown over bytes that never came, which then are NUL.
- Names made, renamed or removed since the last sync of a folder reach the disk in their order, but some of
  the latest may not.
- A failed sync leaves the page cache as it was, but what did not reach the disk will not by a later sync
  either.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
from dataclasses import dataclass, field

import pytest

FOLDER = "/papyra-disk"

_FIRST_FD = 10**6  # far from the descriptors of the system
_PATCHED = (
    "open", "close", "read", "write", "pread", "lseek", "fsync", "ftruncate", "fstat", "stat", "lstat", "listdir",
    "unlink", "remove", "rename", "replace", "mkdir", "rmdir", "fchmod", "fchown",
)  # fmt: skip


class Died(BaseException):
    """The process ends here: killed, or with the power."""


@dataclass(eq=False)
class File:
    """Its bytes as processes see them, as they are on the disk, and the changes in between."""

    inode: int
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut, at that offset

    def change(self, offset: int, data: bytes | None) -> None:
        self.pending.append((offset, data))
        _apply(self.data, offset, data)

    def settle(self, chance: random.Random) -> None:
        """Decide what of the pending changes has reached the disk."""
        content = bytearray(self.durable)
        fate = chance.choice(["lost", "kept", "some", "some"])
        for offset, data in self.pending:
            if fate == "kept" or (fate == "some" and (whole := chance.random()) < 0.4):
                _apply(content, offset, data)
            elif fate == "some" and data and whole < 0.8:
                start, end = sorted(chance.choices(range(len(data) + 1), k=2))
                _apply(content, offset + start, data[start:end])
        self.durable, self.pending = bytes(content), []


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    end = offset + len(data or b"")
    if data is None or len(content) < offset:
        content[offset:] = bytes(offset - len(content)) if len(content) < offset else b""
    content[offset:end] = data or b""


@dataclass(eq=False)
class _Open:
    file: File | None  # None: the folder
    offset: int = 0
    append: bool = False
    locked: bool = False


class Disk:
    """One folder of files; `installed` directs the functions of `os` that are given a path in it to this
    disk.
    """

    def __init__(self) -> None:
        self.names: dict[str, File] = {}
        self.chance = random.Random(0)
        self.calls_left: int | None = None  # until the process dies
        self.failing_syncs = 0
        self.room: int | None = None  # bytes that still fit
        self._durable: dict[str, File] = {}
        self._journal: list[dict[str, File | None]] = []  # of names, since the folder was synced
        self._opened: dict[int, _Open] = {}
        self._count = 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in _PATCHED:
            patch.setattr(os, name, self._directed(getattr(os, name), getattr(self, f"_{name}")))
        patch.setattr(fcntl, "flock", self._directed(fcntl.flock, self._flock))
        patch.setattr(fcntl, "fcntl", self._directed(fcntl.fcntl, lambda fd, _: self._fsync(fd)))

    def _directed(self, real, own):
        def call(target=".", *arguments, **keywords):
            mine = target >= _FIRST_FD if isinstance(target, int) else os.fspath(target).startswith(FOLDER)
            return (own if mine else real)(target, *arguments, **keywords)

        return call

    # -- what a test does to it

    def kill(self) -> None:
        """Let the process that ran last be gone: no call of it was lost, and its locks are free."""
        self.calls_left = None
        for opened in self._opened.values():
            opened.locked = False

    def cut_power(self) -> None:
        """Forget what was not synced; then the machine runs again."""
        self.kill()
        for changes in self._journal[: self.chance.randint(0, len(self._journal))]:
            self._change_names(self._durable, changes)
        self._journal, self._opened = [], {}
        self.names = dict(self._durable)
        for file in self.names.values():
            file.settle(self.chance)
            file.data = bytearray(file.durable)

    # -- the functions of `os`

    def _step(self) -> None:
        """Before each change: it is not made if the process dies now."""
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise Died

    def _alive(self) -> None:
        if self.calls_left is not None and self.calls_left < 0:
            raise Died  # while the exception passes, no `finally` and no `except` may do anything

    def _opened_file(self, fd: int) -> _Open:
        self._alive()
        if fd not in self._opened:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._opened[fd]

    def _content(self, fd: int) -> File:
        file = self._opened_file(fd).file
        if file is None:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        return file

    def _find(self, path) -> File | None:
        """Return the file at a path, or None for the folder itself."""
        self._alive()
        name = self._name(path)
        if name and name not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        return self.names[name] if name else None

    @staticmethod
    def _name(path) -> str:
        return os.fspath(path).removeprefix(FOLDER).removeprefix("/")

    def _rewrite_names(self, changes: dict[str, File | None]) -> None:
        self._step()
        self._journal.append(changes)
        self._change_names(self.names, changes)

    @staticmethod
    def _change_names(names: dict[str, File], changes: dict[str, File | None]) -> None:
        for name, file in changes.items():
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file

    def _open(self, path, flags, mode=0o777) -> int:
        self._alive()
        name = self._name(path)
        if name in self.names and flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        self._count += 1
        if name and name not in self.names and flags & os.O_CREAT:
            self._rewrite_names({name: File(self._count)})
        opened = _Open(self._find(path), append=bool(flags & os.O_APPEND))
        if opened.file is not None and flags & os.O_TRUNC:
            raise AssertionError("nothing of a store may be overwritten")
        self._opened[_FIRST_FD + self._count] = opened
        return _FIRST_FD + self._count

    def _close(self, fd) -> None:
        self._opened_file(fd)
        del self._opened[fd]

    def _pread(self, fd, size, offset) -> bytes:
        return bytes(self._content(fd).data[offset : offset + size])

    def _read(self, fd, size) -> bytes:
        data = self._pread(fd, size, self._opened_file(fd).offset)
        self._opened[fd].offset += len(data)
        return data

    def _lseek(self, fd, offset, whence) -> int:
        assert whence == os.SEEK_SET
        self._opened_file(fd).offset = offset
        return offset

    def _write(self, fd, data) -> int:
        file, opened, data = self._content(fd), self._opened_file(fd), bytes(data)
        if opened.append:
            opened.offset = len(file.data)
        try:
            self._step()
        except Died:
            data = data[: self.chance.randint(0, len(data))]
            file.change(opened.offset, data)
            raise
        if self.room is not None:
            data = data[: self.room]
            if not data:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.room -= len(data)
        file.change(opened.offset, data)
        opened.offset += len(data)
        return len(data)

    def _ftruncate(self, fd, size) -> None:
        file = self._content(fd)
        self._step()
        file.change(size, None)

    def _fsync(self, fd) -> None:
        file = self._opened_file(fd).file
        self._step()
        failing = self.failing_syncs > 0
        self.failing_syncs -= failing
        if failing and file is not None:
            file.settle(self.chance)
        if failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if file is not None:
            file.durable, file.pending = bytes(file.data), []
            return
        for changes in self._journal:
            self._change_names(self._durable, changes)
        self._journal = []

    def _fstat(self, fd) -> os.stat_result:
        return _status(self._opened_file(fd).file)

    def _stat(self, path, **_) -> os.stat_result:
        return _status(self._find(path))

    _lstat = _stat

    def _listdir(self, path) -> list[str]:
        assert self._find(path) is None
        return list(self.names)

    def _unlink(self, path) -> None:
        self._find(path)
        self._rewrite_names({self._name(path): None})

    _remove = _unlink

    def _rename(self, source, target) -> None:
        file = self._find(source)
        self._rewrite_names({self._name(source): None, self._name(target): file})

    _replace = _rename

    def _mkdir(self, path, mode=0o777) -> None:
        raise AssertionError(f"a second folder, {path}, is not of this disk")

    _rmdir = _mkdir

    def _fchmod(self, fd, mode) -> None:
        self._opened_file(fd)

    def _fchown(self, fd, user, group) -> None:
        self._opened_file(fd)

    def _flock(self, fd, how) -> None:
        opened = self._opened_file(fd)
        if not how & fcntl.LOCK_UN:
            others = [one for one in self._opened.values() if one.file is opened.file and one is not opened]
            assert not any(one.locked for one in others), "a lock was left behind"
        opened.locked = not how & fcntl.LOCK_UN


def _status(file: File | None) -> os.stat_result:
    mode = stat.S_IFDIR | 0o700 if file is None else stat.S_IFREG | 0o600
    inode, size = (1, 0) if file is None else (file.inode, len(file.data))
    return os.stat_result((mode, inode, 1, 1, os.getuid(), os.getgid(), size, 0, 0, 0))
