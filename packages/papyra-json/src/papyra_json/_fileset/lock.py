"""The lock of a file set, and the notes that stand in the lock file.

Every change of a set - a batch, a rotation, a recovery, a compaction - holds the advisory lock on ``<file>.lock``. The
lock file is permanent: it is never renamed or removed, so that all processes lock the same one.

It begins with a table of what is known of the times in the files (see `_timetable`), which saves reading.

Behind it stand notes about ``seq``, for what can't be read off the records that are left, as a JSON object in a line. Of
several lines the one with the highest ``version`` counts; one whose ``crc`` does not fit was interrupted:

- ``gaps``: pairs ``[a, b]``. Where ``seq`` gaps within such a range, a recovery or compaction made or saw the gap;
  a scan does not report it again. Records themselves are never renumbered and no marker lines are added, so
  the file holds records and nothing else.
- ``last_seq``: the last number given out, if the record that had it was dropped.

The notes of a set are an aid: without them (a copied file) a scan reports old gaps anew, no more.
"""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

import orjson

from papyra.exceptions import PersistenceError
from papyra_json._fileset.time_index import TABLE, line_of, place_of, read_table
from papyra_json._fs.files import identity, make_folder, open_regular, write_all
from papyra_json._fs.posix import drop_lock, in_forked_child, take_lock
from papyra_json._record.decode import MAX_SEQ, intact

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from papyra_json._fileset.time_index import Entry

__all__ = ["Notes", "SetLock", "table_beside"]

_MAX_FILE = 2**20
_MAX_GAPS = 500  # beyond, neighbours are merged: the notes must not grow with the damage


@dataclass(slots=True)
class Notes:
    """What is known about the numbers of a set beyond its records."""

    last_seq: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def knows_gap(self, before: int, after: int) -> bool:
        """Tell whether a gap from ``before`` to ``after`` was noted."""
        low, high = min(before, after), max(before, after)
        return any(start <= low and high <= end for start, end in self.gaps)

    def note_gap(self, before: int, after: int) -> None:
        """Note a gap, unless it is known."""
        if self.knows_gap(before, after):
            return
        self.gaps.append((min(before, after), max(before, after)))
        if len(self.gaps) > _MAX_GAPS:
            self.gaps.sort()
            pairs = zip(self.gaps[::2], [*self.gaps[1::2], self.gaps[-1]], strict=False)
            self.gaps = [(first[0], max(first[1], second[1])) for first, second in pairs]


def table_beside(base: Path) -> bytes:
    """Return what stands in the table of a set, for who does not hold its lock; nothing if it can't be read."""
    try:
        fd = open_regular(_path_of(base), os.O_RDONLY)
    except (OSError, PersistenceError):
        return b""
    try:
        return os.pread(fd, TABLE, 0)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _path_of(base: Path) -> Path:
    return base.with_name(base.name + ".lock")


_locks: weakref.WeakSet[SetLock] = weakref.WeakSet()


def _close_all() -> None:
    """Close the locks in a child that was forked off.

    It has inherited the open files, to which the locks belong: while it has them, they stay held though their
    holder is dead.
    """
    for lock in _locks:
        lock.close()


in_forked_child(_close_all)


class SetLock:
    """The lock of the set that begins at ``base``. One object serves one thread at a time.

    Two objects exclude each other wherever they are, in one process too.
    """

    def __init__(self, base: Path, checkpoint: Callable[[], None] = lambda: None) -> None:
        """``checkpoint`` is called while the lock is waited for, and may raise to end that."""
        self._checkpoint = checkpoint
        self._base = base
        self.path = _path_of(base)
        self._name = str(self.path)  # looked at for every batch
        self._fd = -1
        self._identity = (0, 0)
        self._has_room = False  # for the table, for sure
        _locks.add(self)

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Hold the lock alone, to write; the lock file is made if it is missing."""
        fd = self.take()
        try:
            yield
        finally:
            drop_lock(fd)

    def take(self) -> int:
        """Do what `exclusive` does, at less cost; what it returns is to be given to `drop_lock`, come what may."""
        while True:
            if self._fd < 0:
                make_folder(self.path.parent)
                self._keep(self._open_or_make())
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

    def _open_or_make(self) -> int:
        """Open the lock file; a new one belongs to whom the set belongs to.

        Else a service could no longer write its own file once root was the first to lock it.
        """
        while True:
            with suppress(FileNotFoundError):
                return open_regular(self.path, os.O_RDWR)
            with suppress(FileExistsError):
                fd = open_regular(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                with suppress(OSError):
                    self._give_to_owner(fd)
                return fd

    def _give_to_owner(self, fd: int) -> None:
        try:
            status = self._base.lstat()
        except FileNotFoundError:
            status = self._base.parent.stat()
        own = os.fstat(fd)
        if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
            os.fchown(fd, status.st_uid, status.st_gid)

    @contextmanager
    def shared(self) -> Generator[bool]:
        """Hold the lock with other readers, and make nothing; False means that there is no lock to hold."""
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
        """Tell whether the lock file is still the one opened: somebody may have removed it all the same."""
        try:
            return identity(os.lstat(self._name)) == self._identity
        except FileNotFoundError:
            return False

    def _keep(self, fd: int) -> None:
        self._fd, self._identity = fd, identity(os.fstat(fd))

    def close(self) -> None:
        """Close the lock file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._has_room = False

    def read_notes(self) -> Notes:
        """Return the notes; empty ones if there are none or they can't be understood. For who holds the lock."""
        notes = Notes()
        with suppress(OSError, ValueError, TypeError, KeyError):
            found, _, _ = self._newest()
            last_seq = int(found.get("last_seq", 0))
            notes.gaps = [(int(start), int(end)) for start, end in found.get("gaps", ())]
            notes.last_seq = last_seq if 0 <= last_seq < MAX_SEQ else 0
        return notes

    def write_notes(self, notes: Notes) -> None:
        """Replace the notes. For who holds the lock alone.

        In place, for the lock file must stay the same one, and yet no instant is without the old or the new notes: the
        new line is written and synced before or behind the old one, with a higher version.
        """
        found, start, end = self._newest()
        end = max(end, TABLE)
        fields = {"last_seq": notes.last_seq, "gaps": notes.gaps, "version": _version(found) + 1}
        body = orjson.dumps(fields)[:-1]
        line = body + b',"crc":"%08x"}' % crc32(body)
        before = len(line) < start - TABLE
        try:
            if before:
                _write_at(self._fd, line.ljust(start - TABLE - 1) + b"\n", TABLE)
            else:
                os.ftruncate(self._fd, end)  # what an interrupted write has left there
                _write_at(self._fd, line + b"\n", end)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, end)
            raise
        os.fsync(self._fd)
        if before:
            os.ftruncate(self._fd, start)

    def read_table(self) -> list[Entry]:
        """Return what is known of the times in the files. For who holds the lock."""
        return read_table(os.pread(self._fd, TABLE, 0))

    def write_entry(self, entry: Entry) -> None:
        """Write down what is known of the times in a file. For who holds the lock alone.

        Nothing is synced: what is lost or torn has to be read again, no more.
        """
        line = line_of(entry)
        if line is not None:
            if not self._has_room:
                found, start, _ = self._newest()
                if found and start < TABLE:
                    self.write_notes(self.read_notes())
                self._has_room = True
            _write_at(self._fd, line, place_of(entry))

    def _newest(self) -> tuple[dict[str, Any], int, int]:
        """Return the newest whole line of notes, and the bytes where it stands; an empty one if there is none."""
        newest: tuple[dict[str, Any], int, int] = ({}, 0, 0)
        content = os.pread(self._fd, _MAX_FILE, 0)
        end = 0
        # Before there was a table, the notes stood in its place.
        for line in (*content[:TABLE].splitlines(keepends=True), *content[TABLE:].splitlines(keepends=True)):
            start, end = end, end + len(line)
            text = line.strip()
            with suppress(ValueError, TypeError):
                found: dict[str, Any] | None = orjson.loads(text)
                if not isinstance(found, dict) or "end" in found:
                    continue
                whole = line.endswith(b"\n") and ("crc" not in found or intact(text))
                if whole and _version(found) >= _version(newest[0]):
                    newest = (found, start, end)
        return newest


def _version(found: dict[str, Any]) -> int:
    version = found.get("version")
    return version if isinstance(version, int) and 0 <= version < MAX_SEQ else 0


def _write_at(fd: int, data: bytes, offset: int) -> None:
    os.lseek(fd, offset, os.SEEK_SET)
    write_all(fd, data)
