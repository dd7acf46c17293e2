"""Files whose sync failed. They are replaced by fresh ones with the valid records.

After a failed fsync the kernel may call pages clean that never reached the disk, and the next fsync would
report success (PostgreSQL's "fsyncgate"). So such a file is never trusted again. Only for the holder of the
set's lock.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from papyra.persistence.files import identity, sync_file
from papyra_json._maintenance.plan import keep_valid
from papyra_json._maintenance.rewrite import note_gaps, quarantining, replace
from papyra_json._maintenance.scanner import Scanner
from papyra_json._segment.segment import Segment

if TYPE_CHECKING:
    from pathlib import Path

    from papyra_json._fileset.lock import SetLock
    from papyra_json._fileset.names import FileSet

__all__ = ["FailedSyncs", "cut_off"]

_logger = logging.getLogger("papyra")


class FailedSyncs:
    """The files whose sync failed, and which are not replaced yet."""

    def __init__(self, files: FileSet, lock: SetLock) -> None:
        self.files = files
        self._lock = lock
        self._identities: set[tuple[int, int]] = set()

    def has(self, file: tuple[int, int]) -> bool:
        """Return whether the sync of a file failed."""
        return file in self._identities

    def all(self) -> tuple[tuple[int, int], ...]:
        """Return the files whose sync failed, and which are not replaced yet."""
        return tuple(self._identities)

    def sync(self, fd: int, file: tuple[int, int]) -> bool:
        """Sync a file, unless its sync failed before. Return False if it fails now."""
        if file in self._identities:
            return True
        try:
            sync_file(fd)
        except OSError as error:
            self._identities.add(file)
            _logger.error(
                "store of facts: syncing %s failed (%s); it is replaced by a fresh file",
                self.files.base,
                error,
            )
            return False
        return True

    def replace(self, file: tuple[int, int]) -> Path | None:
        """Replace a file whose sync failed.

        Return its path, or None if another process has removed or replaced it.
        """
        path = self._path_of(file)
        if path is None:
            self._identities.discard(file)
            return None
        self.renew(path)
        return path

    def _path_of(self, wanted: tuple[int, int]) -> Path | None:
        for path in self.files.present():
            if identity(path.lstat()) == wanted:
                return path
        return None

    def renew(self, path: Path) -> None:
        """Replace a file by a fresh, synced one with the valid records."""
        file = Segment.open(path, tolerant=False)
        try:
            scanner = Scanner(self._lock.read_notes())
            scanner.add(file)
            plan = keep_valid(scanner)
            with quarantining(plan):
                note_gaps(self._lock, scanner, plan, all_gaps=False)
                replace(plan[0])
            self._identities.discard(file.identity)
        finally:
            file.close()


def cut_off(fd: int, data: bytes) -> None:
    """Cut ``data`` off the end of a file, if it ends with it and can be cut."""
    with suppress(OSError):
        start = os.fstat(fd).st_size - len(data)
        if start >= 0 and os.pread(fd, len(data), start) == data:
            os.ftruncate(fd, start)
