"""Appends to a set of files, which other processes may share. Plain blocking code, for one thread."""

from __future__ import annotations

import errno
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import create_file, drop_lock, identity, open_regular, sync_folder, write_all
from papyra_json._fileset.lock import SetLock
from papyra_json._fileset.rotation import remember_size, remove_temporaries, rotate
from papyra_json._maintenance.compressor import Compressor
from papyra_json._record.encode import renumber
from papyra_json._record.time_range import times_in
from papyra_json._segment.segment import Segment
from papyra_json._write.failed_syncs import FailedSyncs, cut_off
from papyra_json._write.failed_write import FailedWrite
from papyra_json._write.tail import last_sequence, repair_tail
from papyra_json._write.time_tracker import TimeTracker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra_json._fileset.names import FileSet
    from papyra_json._record.time_range import Times
    from papyra_json._segment.codec import Codec

__all__ = ["CLOSING_PATIENCE_SECONDS", "Appended", "Appender"]

CLOSING_PATIENCE_SECONDS = 10.0
"""How long a store that is being closed waits for a lock that another process holds."""

ROTATION_RETRY_SECONDS = 10.0  # after a rename that the system refused

END_BYTES = 20  # remembered of the end of the file: a CRC, the brace and the newline

# A file server that was restarted or replaced, or a remounted folder: a new handle may work.
STALE_ERRORS = frozenset({errno.ESTALE, errno.ENOTCONN, errno.EIO, errno.ENODEV, errno.ENXIO, errno.EBADF})

# A bind mount, a folder that may not be written, or a read-only one.
REFUSED_RENAMES = frozenset({errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV})

_logger = logging.getLogger("papyra")


@dataclass(slots=True)
class Appended:
    """The result of an append: how many records, from the first on, are stored.

    ``error`` is set if not all are.
    """

    records: int = 0
    size: int = 0
    error: Exception | None = None


class Appender:
    """The writing end of a set of files.

    It remembers the end of its file and the next number. Under the lock it checks whether both are still
    right, because another process may have appended, rotated, compacted or torn the file.
    """

    def __init__(
        self, files: FileSet, *, sync_each: bool, sync_later: bool, max_bytes: int | None = None
    ) -> None:
        self.healthy = True
        self.dirty = False  # whether something was written that has to be synced
        self.files = files
        self._name = str(files.base)
        self._lock = SetLock(files.base, self._lose_patience)
        self._patient_until = float("inf")
        self._sync_each = sync_each
        self._sync_later = sync_later
        self._max_bytes = max_bytes
        self._rotation_size = max_bytes or 0  # of the file, from which on a rotation is tried
        self._fd = -1
        self._end = 0
        self._end_bytes = b""
        self._next_seq = 1
        self._identity = (0, 0)
        self._sized = False  # whether the size of the set was learned and noted
        self._names_changed = False  # whether the folder may have changed since it was synced
        self._nameless = False
        self._rotate_at = float("-inf")  # not before this time, after a refused rename
        self._rotation_warned = False
        self._failed_write: FailedWrite | None = None  # whose lines could not be cut off
        self._failed_syncs = FailedSyncs(files, self._lock)
        self._compressor: Compressor | None = None
        self.time_tracker = TimeTracker(self._lock)

    @property
    def next_seq(self) -> int:
        """The number of the next record, unless another process writes before."""
        return self._next_seq

    def append(self, lines: Sequence[bytes], times: Times | None = None) -> Appended:
        """Append lines that are numbered from `next_seq` on, and sync them if asked for. Never raises.

        ``times`` are the times of the records, if the caller knows them.
        """
        pending, done = list(lines), Appended()
        try:
            try:
                self._append_locked(pending, times, done, self._next_seq)
            except OSError as error:
                if error.errno not in STALE_ERRORS:
                    raise
                self._append_again(pending, times, done)
        except Exception as error:  # noqa: BLE001 - the waiting callers get the error, whatever it is
            done.error = error
        return done

    def _append_again(self, lines: list[bytes], times: Times | None, done: Appended) -> None:
        """Open the file and the lock again, and append the rest."""
        self._detach()
        self._lock.close()
        self._append_locked(lines, times, done)

    def _append_locked(
        self, lines: list[bytes], times: Times | None, done: Appended, number: int = -1
    ) -> None:
        """Append the remaining lines. ``number`` is that of the first of them, -1 if unknown."""
        lock = self._lock.take()
        try:
            self._attach()
            self._skip_stored(lines, done)
            if self._next_seq != number:
                lines[done.records :] = renumber(lines[done.records :], self._next_seq)
            self._append(lines, times, done)
        finally:
            drop_lock(lock)

    def _skip_stored(self, lines: Sequence[bytes], done: Appended) -> None:
        """Count lines as done that an earlier, failed write has stored nevertheless."""
        failed = self._failed_write
        if failed is None or done.records == len(lines):
            return
        stored = failed.stored_of(self._fd, lines[done.records :])
        if stored and self._sync_each:
            self._sync()
        self._failed_write = None
        done.size += sum(map(len, lines[done.records : done.records + stored]))
        done.records += stored

    def sync(self) -> None:
        """Sync written records to the disk. If that fails, replace the file; if that fails too, raise."""
        if self.dirty:
            with self._lock.exclusive():
                if self._fd < 0:
                    self._attach()
                self._sync()

    def compress_with(self, codec: Codec) -> None:
        """Have full files compressed by a thread."""
        self._compressor = Compressor(self.files, codec)

    def hurry(self, seconds: float) -> None:
        """Limit the wait for the lock to ``seconds``, at most `CLOSING_PATIENCE_SECONDS`. For any thread."""
        until = time.monotonic() + min(seconds, CLOSING_PATIENCE_SECONDS)
        self._patient_until = min(self._patient_until, until)  # a second close waits no longer than the first

    def _lose_patience(self) -> None:
        if time.monotonic() >= self._patient_until:
            raise PersistenceError(
                f"another process, perhaps a suspended one, holds {self._lock.path}; "
                f"'lsof {self._lock.path}' shows it. Let it continue, or end it."
            )

    def close(self) -> None:
        """Close all files without a sync."""
        if self._compressor is not None:
            self._compressor.stop()
        self._detach()
        self._lock.close()

    # -- the open file; everything below runs under the lock

    def _attach(self) -> None:
        """Open the base if it is not open, repair its end, and learn its end and the next number."""
        try:
            status = os.lstat(self._name)
        except FileNotFoundError:
            status = None
        if self._fd >= 0:
            if status is not None and identity(status) == self._identity:
                if not status.st_nlink:
                    self._report_nameless()
                if status.st_size == self._end and self._ends_as_left():
                    return
            elif self.dirty:
                self._sync()  # while the file that another process rotated away is still open
            self._detach()
        else:
            remove_temporaries(self.files)
        if not self._sized or self.files.has_unknown_size:
            self._use(remember_size(self.files, self._lock))
            self._sized = True
        if status is not None and self._failed_syncs.has(identity(status)):
            self._failed_syncs.renew(self.files.base)
            self._names_changed = True
        before = self._identity
        self._open()
        if self._identity != before:
            self._look_for_full_files()

    def _use(self, files: FileSet) -> None:
        """Use the set in its present size from now on."""
        self.files = self._failed_syncs.files = files
        if self._compressor is not None:
            self._compressor.files = files

    def _look_for_full_files(self) -> None:
        if self._compressor is not None:
            self._compressor.look()

    def _ends_as_left(self) -> bool:
        """Return whether a file of the same length still ends as this process left it.

        Then its last byte is a newline, and the next append begins a line.
        """
        if self._failed_syncs.has(self._identity):
            return False
        return os.pread(self._fd, END_BYTES, max(0, self._end - END_BYTES)) == self._end_bytes

    def _report_nameless(self) -> None:
        if not self._nameless:
            self._nameless, self.healthy = True, False
            _logger.error(
                "store of facts: %s was replaced, and this process can only write to the old file, which has no name "
                "any more and is lost with the process. Mount the folder rather than the single file, and start again.",
                self.files.base,
            )

    def _open(self, like: os.stat_result | None = None) -> None:
        base = self.files.base
        fd = self._open_or_create(like)
        # Another process may have created, moved or written the file without a sync.
        self._names_changed = True
        self.dirty = self._sync_each or self._sync_later
        try:
            file = Segment(base, fd, tolerant=False)
            tail = repair_tail(file)
            self._learn_times(file, tail.end)
            last = last_sequence(self.files) if tail.seq is None else tail.seq
            self._end, self._next_seq = tail.end, max(last, self._lock.read_notes().last_seq) + 1
            self._end_bytes = os.pread(fd, END_BYTES, max(0, tail.end - END_BYTES))
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._identity = fd, file.identity
        self._rotation_size = self._max_bytes or 0
        if not os.fstat(fd).st_nlink:
            self._report_nameless()

    def _open_or_create(self, like: os.stat_result | None) -> int:
        """Open the base; a new one has the owner and mode of ``like``, or of the youngest full file."""
        base, flags = self.files.base, os.O_RDWR | os.O_APPEND
        while True:
            with suppress(FileNotFoundError):
                return open_regular(base, flags)
            if like is None and (full := self.files.present()):
                with suppress(FileNotFoundError):
                    like = full[-1].lstat()
            with suppress(FileExistsError):
                return create_file(base, flags, like)

    def _learn_times(self, file: Segment, end: int) -> None:
        """Learn the times in the file, or only those of the rest if the beginning is unchanged."""
        left = self._end if file.identity == self._identity and 0 < self._end <= end else -1
        if left > 0 and file.read_at(END_BYTES, max(0, left - END_BYTES)) == self._end_bytes:
            self.time_tracker.catch_up(file, left, end)
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
            if count == 0 and self._rotate():
                continue
            count = count or len(lines) - done.records  # the file can't be rotated, but no record is refused
            part = lines[done.records : done.records + count]
            data = b"".join(part)
            self._write(data, count, times_in(part) if times is None else times)
            done.records += count
            done.size += len(data)

    def _fitting(self, lines: Sequence[bytes], first: int) -> int:
        """Return how many lines still fit into the file.

        A line that is too long for any file fits into an empty one.
        """
        if self._max_bytes is None or time.monotonic() < self._rotate_at:
            return len(lines) - first
        room = self._rotation_size - self._end
        for index in range(first, len(lines)):
            room -= len(lines[index])
            if room < 0:
                return index - first or int(self._end == 0)
        return len(lines) - first

    def _write(self, data: bytes, count: int, times: Times) -> None:
        start, before = self._end, self._end_bytes
        try:
            write_all(self._fd, data)
        except BaseException:
            self._failed_write = FailedWrite(start, self._end_bytes, data)
            if self._cut(start):
                self._failed_write = None
            raise
        self._end += len(data)
        self._end_bytes = data[-END_BYTES:]
        self._next_seq += count
        self.time_tracker.add(times)
        self.dirty = self._sync_each or self._sync_later
        if self._sync_each:
            try:
                self._sync()
            except BaseException as error:
                self._failed_write = FailedWrite(start, before, data)
                self._take_back(data)
                if isinstance(error, OSError):  # not a reason to open the file again and write once more
                    raise PersistenceError(f"{self.files.base} could not be synced: {error}") from error
                raise
        self.time_tracker.note(self._end)

    def _cut(self, end: int) -> bool:
        """Cut off the lines of a failed write, because its callers get an error. Return False if that fails.

        If syncs are asked for, sync the cut: after a power cut, some of the lines might be back among later
        records.
        """
        try:
            if os.fstat(self._fd).st_size > end:  # another program may have cut it meanwhile
                os.ftruncate(self._fd, end)
            if self._sync_each or self._sync_later:
                self._sync()
        except (OSError, PersistenceError):
            self._detach()  # the next append repairs the torn tail
            return False
        return True

    def _take_back(self, data: bytes) -> None:
        """Cut off a batch whose sync failed, in its file and in the fresh one that may have replaced it."""
        if self._fd >= 0:
            cut_off(self._fd, data)
        self._detach()
        with suppress(OSError, PersistenceError):
            fd = open_regular(self.files.base, os.O_RDWR)
            cut_off(fd, data)
            os.close(fd)

    def _rotate(self) -> bool:
        """Begin a new file. Return False if the rename is refused, or the size of the set is unknown."""
        self._use(self.files.sized(self._lock.read_notes().max_files))
        if self.files.has_unknown_size:
            self._rotation_size = self._end + (self._max_bytes or 0)  # ask again when that much was added
            return False
        if self.dirty:
            self._sync()
        self.time_tracker.note(self._end, at_once=True)
        seq, status = self._next_seq, os.fstat(self._fd)
        try:
            rotate(self.files)
        except OSError as error:
            if error.errno not in REFUSED_RENAMES:
                self._detach()
                raise
            self._postpone_rotation(error)
            return False
        except BaseException:
            self._detach()
            raise
        finally:
            self._names_changed = True
        self._detach()
        self._open(status)
        self._next_seq = max(seq, self._next_seq)
        self._look_for_full_files()
        return True

    def _postpone_rotation(self, error: OSError) -> None:
        """Keep appending to the full file for some time: a refused rename must not refuse records."""
        self._rotate_at = time.monotonic() + ROTATION_RETRY_SECONDS
        if not self._rotation_warned:
            self._rotation_warned = True
            _logger.warning(
                "store of facts: %s can't be rotated (%s), so it grows beyond max_bytes. "
                "Let this process rename files in its folder; if the file is a mount of its own, mount the folder.",
                self.files.base,
                error,
            )

    # -- syncing

    def _sync(self) -> None:
        if not self._failed_syncs.sync(self._fd, self._identity):
            self.healthy = False
        for file in self._failed_syncs.all():  # the open file, or one that another process has rotated away
            if renewed := self._failed_syncs.replace(file):
                self._names_changed = True
            if renewed == self.files.base:
                self._reopen()
        if self._names_changed:
            try:
                sync_folder(self.files.base.parent)
            except OSError:
                self.healthy = False
                raise
            self._names_changed = False
        self.dirty = False

    def _reopen(self) -> None:
        """Open the fresh file. It must have at least all records of the old one."""
        expected = self._next_seq
        self._detach()
        self._open()
        if self._next_seq < expected:
            self._detach()
            raise PersistenceError(f"records of {self.files.base} were lost when it failed to sync")
