"""Append to a set of files, alone or among other processes. Plain blocking code, for one thread."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra_json._fileset.lock import SetLock
from papyra_json._fileset.names import Segment
from papyra_json._fs.files import identity, open_regular, write_all
from papyra_json._fs.posix import drop_lock, sync_file, sync_folder
from papyra_json._maintenance.compressor import Compressor
from papyra_json._maintenance.plan import keep_valid
from papyra_json._maintenance.rewrite import note_gaps, quarantine_invalid, replace
from papyra_json._maintenance.scanner import Scanner
from papyra_json._record.encode import renumber
from papyra_json._record.time_range import times_in
from papyra_json._write.tail import last_sequence, repair_tail
from papyra_json._write.time_tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from papyra_json._fileset.names import FileSet
    from papyra_json._record.time_range import Times
    from papyra_json._segment.codec import Codec

__all__ = ["CLOSING_PATIENCE", "Appended", "Appender"]

CLOSING_PATIENCE = 10.0
"""Seconds that a store which is being closed still waits for a lock that another process holds."""

_MARK = 20  # bytes: a CRC, the brace and the newline

_logger = logging.getLogger("papyra")


@dataclass(slots=True)
class Appended:
    """What came of an append: how many records, from the first on, are stored, and why not all."""

    records: int = 0
    size: int = 0
    error: Exception | None = None


class Appender:
    """The writing end of a set of files.

    It remembers where its file ends and which number comes next; under the lock it looks whether both
    still hold, for another process may have appended, rotated, compacted or torn the file.
    """

    def __init__(
        self, files: FileSet, *, sync_each: bool, sync_later: bool, max_bytes: int | None = None
    ) -> None:
        self.healthy = True
        self.dirty = False  # whether something written is not synced yet, though it shall be
        self.files = files
        self._name = str(files.base)
        self._lock = SetLock(files.base, self._lose_patience)
        self._patient_until = float("inf")
        self._sync_each = sync_each
        self._sync_later = sync_later
        self._max_bytes = max_bytes
        self._fd = -1
        self._end = 0
        self._mark = b""  # the last bytes before the end
        self._next_seq = 1
        self._identity = (0, 0)
        self._names_changed = False  # perhaps, in the folder, since it was synced
        self._distrusted: set[tuple[int, int]] = set()  # files whose sync failed, not replaced yet
        self._compressor: Compressor | None = None
        self.time_tracker = Tracker(self._lock)

    @property
    def next_seq(self) -> int:
        """The number that the next record will have, unless another process writes before."""
        return self._next_seq

    def append(self, lines: Sequence[bytes], times: Times | None = None) -> Appended:
        """Append lines that are numbered from `next_seq` on and, if so asked for, sync them; never raises.

        ``times`` are those of the records, if who appends knows them.
        """
        expected = self._next_seq
        done = Appended()
        try:
            lock = self._lock.take()
            try:
                self._attach()
                if self._next_seq != expected:
                    lines = renumber(lines, self._next_seq)
                self._append(lines, times, done)
            finally:
                drop_lock(lock)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers that wait must hear of it
            done.error = error
        return done

    def sync(self) -> None:
        """Bring what was written to the disk. If that fails, replace the file; if that fails too, raise."""
        if self.dirty:
            with self._lock.exclusive():
                if self._fd < 0:
                    self._attach()
                self._sync()

    def compress_with(self, codec: Codec) -> None:
        """Have files compressed, beside all else, once they are full."""
        self._compressor = Compressor(self.files, codec)

    def hurry(self) -> None:
        """From any thread: wait no more than `CLOSING_PATIENCE` seconds for the lock, from now on."""
        self._patient_until = min(self._patient_until, time.monotonic() + CLOSING_PATIENCE)

    def _lose_patience(self) -> None:
        if time.monotonic() >= self._patient_until:
            raise PersistenceError(
                f"another process, perhaps a suspended one, holds {self._lock.path}; "
                f"'lsof {self._lock.path}' shows it: let it go on, or end it"
            )

    def close(self) -> None:
        """Close all files; what is not synced stays so."""
        if self._compressor is not None:
            self._compressor.stop()
        self._detach()
        self._lock.close()

    # -- the file at hand; all below holds the lock

    def _attach(self) -> None:
        """Have the base open, whole, and know its end and the next number."""
        try:
            status = os.lstat(self._name)
        except FileNotFoundError:
            status = None
        if self._fd >= 0:
            if status is not None and identity(status) == self._identity:
                if status.st_size == self._end and self._is_as_left():
                    return
            elif self.dirty:
                self._sync()  # before the last hold on what another process has rotated away is lost
            self._detach()
        else:
            self.files.remove_temporaries()
            self.files.trim()
        if status is not None and identity(status) in self._distrusted:
            self._renew(self.files.base)
        before = self._identity
        self._open()
        if self._identity != before:
            self._look_for_full_files()

    def _look_for_full_files(self) -> None:
        if self._compressor is not None:
            self._compressor.look()

    def _is_as_left(self) -> bool:
        """Tell whether a file of the same length ends as it was left, too; then the next append fuses nothing."""
        if self._identity in self._distrusted:
            return False
        return os.pread(self._fd, _MARK, max(0, self._end - _MARK)) == self._mark

    def _open(self) -> None:
        base = self.files.base
        fd = open_regular(base, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        # Whoever made, moved or wrote the file may sync nothing, or have died before it did.
        self._names_changed = True
        self.dirty = self._sync_each or self._sync_later
        try:
            file = Segment(base, fd)
            tail = repair_tail(file)
            self._know_times(file, tail.end)
            last = last_sequence(self.files) if tail.seq is None else tail.seq
            self._end, self._next_seq = tail.end, max(last, self._lock.read_notes().last_seq) + 1
            self._mark = os.pread(fd, _MARK, max(0, tail.end - _MARK))
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._identity = fd, file.identity

    def _know_times(self, file: Segment, end: int) -> None:
        """Learn the times in the file; if it only goes on where it was left, those of the rest."""
        left = self._end if file.identity == self._identity and 0 < self._end <= end else -1
        if left > 0 and file.read_at(_MARK, max(0, left - _MARK)) == self._mark:
            self.time_tracker.go_on(file, left, end)
        else:
            self.time_tracker.begin(file, end)

    def _detach(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    # -- writing

    def _append(self, lines: Sequence[bytes], times: Times | None, done: Appended) -> None:
        while done.records < len(lines):
            count = self._fitting(lines, done.records)
            if count == 0:
                self._rotate()
                continue
            part = lines[done.records : done.records + count]
            data = b"".join(part)
            self._write(data, count, times_in(part) if times is None else times)
            done.records += count
            done.size += len(data)

    def _fitting(self, lines: Sequence[bytes], first: int) -> int:
        """Return how many lines still fit into the file; a line too long for any file is one that fits."""
        if self._max_bytes is None:
            return len(lines) - first
        room = self._max_bytes - self._end
        for index in range(first, len(lines)):
            room -= len(lines[index])
            if room < 0:
                return index - first or int(self._end == 0)
        return len(lines) - first

    def _write(self, data: bytes, count: int, times: Times) -> None:
        start = self._end
        try:
            write_all(self._fd, data)
        except BaseException:
            self._cut(start)
            raise
        self._end += len(data)
        self._mark = data[-_MARK:]
        self._next_seq += count
        self.time_tracker.add(times)
        self.dirty = self._sync_each or self._sync_later
        if self._sync_each:
            try:
                self._sync()
            except BaseException:
                self._take_back(data)
                raise
        self.time_tracker.note(self._end)

    def _cut(self, end: int) -> None:
        """Cut what a failed write has left, so that its callers hear the truth: none of it is stored.

        Where syncs are asked for, the cut is synced too, or a power cut might bring some of it back among later records.
        """
        try:
            if os.fstat(self._fd).st_size > end:  # else somebody has cut it meanwhile
                os.ftruncate(self._fd, end)
            if self._sync_each or self._sync_later:
                self._sync()
        except (OSError, PersistenceError):
            self._detach()  # the next append finds the tail torn, and repairs it

    def _take_back(self, data: bytes) -> None:
        """Cut a batch whose sync failed off its file, and off the fresh one that may have taken its place."""
        if self._fd >= 0:
            _cut_off(self._fd, data)
        self._detach()
        with suppress(OSError, PersistenceError):
            fd = open_regular(self.files.base, os.O_RDWR)
            _cut_off(fd, data)
            os.close(fd)

    def _rotate(self) -> None:
        if self.dirty:
            self._sync()
        self.time_tracker.note(self._end, at_once=True)
        seq = self._next_seq
        try:
            self.files.rotate()
        finally:
            self._names_changed = True
            self._detach()
        self._open()
        self._next_seq = max(seq, self._next_seq)
        self._look_for_full_files()

    # -- syncing

    def _sync(self) -> None:
        if self._identity not in self._distrusted:
            try:
                sync_file(self._fd)
            except OSError as error:
                # After a failed fsync the kernel may call pages clean that never reached the disk, and the next
                # fsync would report success: the file can't be trusted any more (PostgreSQL's "fsyncgate").
                self.healthy = False
                self._distrusted.add(self._identity)
                _logger.error(
                    "store of facts: syncing %s failed (%s); a fresh file shall replace it",
                    self.files.base,
                    error,
                )
        if self._identity in self._distrusted:
            self._replace_distrusted()
        if self._names_changed:
            try:
                sync_folder(str(self.files.base.parent))
            except OSError:
                self.healthy = False
                raise
            self._names_changed = False
        self.dirty = False

    def _replace_distrusted(self) -> None:
        path = self._path_of(self._identity)
        if path is None:  # another process has removed it, or has replaced it by a copy that it synced
            self._distrusted.discard(self._identity)
            return
        self._renew(path)
        if path == self.files.base:
            self._reopen()

    def _path_of(self, wanted: tuple[int, int]) -> Path | None:
        for path in self.files.present():
            if identity(path.lstat()) == wanted:
                return path
        return None

    def _renew(self, path: Path) -> None:
        """Put a fresh, synced file in the place of one that can't be trusted, with the records that verify."""
        file = Segment.open(path)
        try:
            walk = Scanner(self._lock.read_notes())
            walk.add(file)
            plan = keep_valid(walk)
            quarantine_invalid(plan)
            note_gaps(self._lock, walk, plan, all_jumps=False)
            self._names_changed = True  # should the sync of the folder fail after the renaming
            replace(plan[0])
            self._distrusted.discard(file.identity)
        finally:
            os.close(file.fd)

    def _reopen(self) -> None:
        """Go on in the fresh file; it must hold all that was written into the old one, if not more by others."""
        expected = self._next_seq
        self._detach()
        self._open()
        if self._next_seq < expected:
            self._detach()
            raise PersistenceError(f"records of {self.files.base} were lost when it failed to sync")


def _cut_off(fd: int, data: bytes) -> None:
    """Cut ``data`` off the end of a file, if it ends so and can be cut."""
    with suppress(OSError):
        start = os.fstat(fd).st_size - len(data)
        if start >= 0 and os.pread(fd, len(data), start) == data:
            os.ftruncate(fd, start)
