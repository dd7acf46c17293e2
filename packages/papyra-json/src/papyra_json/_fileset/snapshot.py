"""All files of a set, opened at one moment: under the lock, under the shared lock, or without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import identity
from papyra_json._fileset.lock import lock_file_content
from papyra_json._fileset.notes import Notes, notes_in
from papyra_json._fileset.time_index import TABLE_BYTES
from papyra_json._segment.segment import Segment

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from papyra_json._fileset.lock import SetLock
    from papyra_json._fileset.names import FileSet

__all__ = ["Snapshot", "open_locked", "open_shared", "open_unlocked"]

MAX_TRIES = 50  # of a reader without the lock, against rotations in a row


class Snapshot:
    """The open files of a set, oldest first, and what was known about them when they were opened.

    ``fileset`` has the size of the set at that moment. ``failed`` are the files that could not be opened,
    with the reason. ``unexpected`` are the numbered files that do not belong to the set, if they were asked
    for. ``table`` is the table of times. ``locked`` says whether a lock was held.
    """

    def __init__(self, fileset: FileSet, content: bytes, *, locked: bool, list_unexpected: bool) -> None:
        """``content`` is that of the lock file."""
        self.notes: Notes = notes_in(content)
        self.fileset = fileset.sized(self.notes.max_files)
        self.table = content[:TABLE_BYTES]
        self.locked = locked
        self.unexpected = self.fileset.unexpected() if list_unexpected else []
        self.files: list[Segment] = []
        self.failed: list[tuple[Path, Exception]] = []
        for path in self.fileset.present():
            try:
                self.files.append(Segment.open(path))
            except FileNotFoundError:
                continue
            except (OSError, PersistenceError) as error:
                self.failed.append((path, error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every file."""
        for file in self.files:
            file.close()
        self.files = []

    def raise_failure(self) -> Self:
        """Return itself, or raise the reason why a file could not be opened."""
        if not self.failed:
            return self
        path, error = self.failed[0]
        self.close()
        if isinstance(error, PersistenceError):
            raise error
        raise PersistenceError(f"{path} can't be read ({error}). Check its owner and mode.") from error

    def is_current(self) -> bool:
        """Return whether the names still belong to the files that were opened."""
        opened = {file.path: file.identity for file in self.files}
        failed = {path for path, _ in self.failed}
        try:
            sized = self.fileset.sized(self.notes.max_files)
            now = {path: identity(path.lstat()) for path in sized.present() if path not in failed}
        except FileNotFoundError:
            return False
        return now == opened


def open_locked(files: FileSet, lock: SetLock, *, list_unexpected: bool = False) -> Snapshot:
    """Open every file of the set. For the holder of ``lock``."""
    return Snapshot(files, lock.content(), locked=True, list_unexpected=list_unexpected)


def open_shared(files: FileSet, lock: SetLock, *, list_unexpected: bool = False) -> Snapshot:
    """Open every file of the set under the shared lock; without a lock file, as `open_unlocked` does."""
    with lock.shared() as held:
        if held:
            return open_locked(files, lock, list_unexpected=list_unexpected)
        return open_unlocked(files, list_unexpected=list_unexpected)


def open_unlocked(files: FileSet, *, list_unexpected: bool = False) -> Snapshot:
    """Open every file of the set without its lock: try until no rotation or compaction came between."""
    for _ in range(MAX_TRIES):
        content = lock_file_content(files.base)
        snapshot = Snapshot(files, content, locked=False, list_unexpected=list_unexpected)
        if snapshot.is_current():
            return snapshot
        snapshot.close()
    raise PersistenceError(
        f"the files of {files.base} were moved faster than they could be opened. Try again."
    )
