"""The files of a store: ``base``, and for a rotating one ``base.1`` (the youngest of the full) to ``base.N`` (the oldest).

A single file is a set of one. A full file is named ``base.N.gz`` or ``base.N.zst`` once it is compressed; of several
with one number, as only others make them, the first counts. A number may be missing - a crash in the middle of a
rotation leaves such a hole - and the order of the others stands.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra_json._fileset.lock import table_beside
from papyra_json._fs.files import TEMPORARY, identity, odd_kind, open_regular
from papyra_json._fs.posix import locked_file
from papyra_json._record.decode import InvalidLine, sequence_of
from papyra_json._record.lines import forward
from papyra_json._segment.codec import SUFFIXES
from papyra_json._segment.segment import Segment, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["FileSet", "Segment", "Snapshot"]

_logger = logging.getLogger("papyra")

_FEW = 64
_NO_NUMBER = 10**9
_TRIES = 50  # of a reader without the lock against rotations in a row


class FileSet:
    """The names of a set of at most ``max_files`` files, and how they move."""

    def __init__(self, base: Path, max_files: int = 1) -> None:
        self.base = base
        self.max_files = max_files
        name = re.escape(base.name)
        suffix = "|".join(map(re.escape, SUFFIXES))
        self._numbered = re.compile(rf"{name}\.(\d+)({suffix})", re.ASCII)
        # More digits than three, or than the limit itself needs, are a date or the like, and no rotation of ours.
        self._digits = max(3, len(str(max_files - 1)))
        self._temporary = re.compile(rf"\.{name}(\.\d+({suffix}))?{re.escape(TEMPORARY)}[0-9a-f]+", re.ASCII)

    def member(self, number: int, suffix: str = "") -> Path:
        """Return the path of a file by its number; 0 is the base."""
        return self.base.with_name(f"{self.base.name}.{number}{suffix}") if number else self.base

    def present(self) -> list[Path]:
        """Return the paths of the set at which something stands, oldest first."""
        standing = ((number, self.suffixes(number)) for number in self._numbers())
        return [self.member(number, suffixes[0]) for number, suffixes in standing if suffixes]

    def _numbers(self) -> Iterable[int]:
        """Return the numbers at which something may stand, from the highest to that of the base."""
        if self.max_files <= _FEW:  # a folder may hold far more files than the set
            return range(self.max_files - 1, -1, -1)
        numbers = {self._number_of(name) for name in _names_in(self.base.parent)}
        return sorted((number for number in numbers if 0 <= number < self.max_files), reverse=True)

    def suffixes(self, number: int) -> list[str]:
        """Return how the names of what stands at a number end; what has the first of them counts."""
        known = SUFFIXES if number else SUFFIXES[:1]
        return [suffix for suffix in known if _is_there(self.member(number, suffix))]

    def uncompressed(self) -> list[Path]:
        """Return the full files whose name says that they are not compressed, the youngest first.

        But for those beside which another stands with the same number: it is somebody else's, and in the way.
        """
        numbers = sorted(number for number in self._numbers() if number)
        return [self.member(number) for number in numbers if self.suffixes(number) == [""]]

    def unexpected(self) -> list[Path]:
        """Return what is numbered like a file of the set, but does not belong to it.

        A set of one has no numbers: what is numbered beside it is somebody else's.
        """
        if self.max_files == 1:
            return []
        twins = (path for number in self._numbers() for path in self._twins(number))
        return sorted([*twins, *self._beyond()])

    def _twins(self, number: int) -> list[Path]:
        """Return what stands at a number beside what counts. Two looks must agree, for a file may just be compressed."""
        found = self._identities(number)
        return list(found)[1:] if len(found) > 1 and self._identities(number) == found else []

    def _identities(self, number: int) -> dict[Path, tuple[int, int]]:
        found: dict[Path, tuple[int, int]] = {}
        for suffix in SUFFIXES if number else SUFFIXES[:1]:
            with suppress(FileNotFoundError, NotADirectoryError):
                path = self.member(number, suffix)
                found[path] = identity(path.lstat())
        return found

    def _beyond(self) -> list[Path]:
        """Return what has a higher number than the set has."""
        names = _names_in(self.base.parent)
        return [self.base.with_name(name) for name in names if self._number_of(name) >= self.max_files]

    def _number_of(self, name: str) -> int:
        """Return the number of a file by its name: 0 for the base, -1 for another's file, much for what is no rotation."""
        if name == self.base.name:
            return 0
        match = self._numbered.fullmatch(name)
        if match is None:
            return -1
        return int(match[1]) if match[1][0] != "0" and len(match[1]) <= self._digits else _NO_NUMBER

    def open_all(self) -> Snapshot:
        """Open every file of the set. For who holds the lock."""
        snapshot = Snapshot(table_beside(self.base))
        for path in self.present():
            try:
                snapshot.files.append(Segment.open(path))
            except FileNotFoundError:
                continue
            except (OSError, PersistenceError) as error:
                snapshot.failed.append((path, error))
        return snapshot

    def open_unlocked(self) -> Snapshot:
        """Open every file of the set without its lock: try until no rotation or compaction came between."""
        for _ in range(_TRIES):
            snapshot = self.open_all()
            if self._unmoved(snapshot):
                return snapshot
            snapshot.close()
        raise PersistenceError(
            f"the files of {self.base} were moved faster than they could be opened; try again"
        )

    def _unmoved(self, snapshot: Snapshot) -> bool:
        opened = {file.path: file.identity for file in snapshot.files}
        failed = {path for path, _ in snapshot.failed}
        try:
            now = {path: identity(path.lstat()) for path in self.present() if path not in failed}
        except FileNotFoundError:
            return False
        return now == opened

    def rotate(self) -> None:
        """Move every file up by one number and let go of the oldest if the set is full. For the lock's holder.

        At each step every file has one name, so a crash in between leaves a hole, and no other record is lost.
        """
        free = self._first_free()
        if self.max_files == 1:
            self.base.unlink()
            return
        for suffix in self.suffixes(free):
            self.member(free, suffix).unlink()
        for number in range(free, 0, -1):
            for suffix in self.suffixes(number - 1):
                self.member(number - 1, suffix).replace(self.member(number, suffix))

    def trim(self) -> None:
        """Remove files beyond ``max_files``, which an earlier, larger limit has left. For the lock's holder.

        Only those that begin with a record: anything else is somebody else's, and a scan reports it. What is numbered
        beside a set of one is somebody else's whatever it holds: logrotate's copies of the one file begin so, too.
        """
        if self.max_files == 1:
            return
        removed = [
            path
            for path in sorted(self._beyond())
            if self._number_of(path.name) < _NO_NUMBER and _begins_with_record(path)
        ]
        if removed:
            _logger.warning(
                "store of facts: removing %s, for %s has at most %d files (max_files)",
                ", ".join(path.name for path in removed),
                self.base,
                self.max_files,
            )
        for path in removed:
            path.unlink()

    def remove_temporaries(self) -> None:
        """Remove what interrupted work has left. For the lock's holder.

        Who works without that lock holds the temporary file's own.
        """
        for name in _names_in(self.base.parent):
            if self._temporary.fullmatch(name) and not _in_use(self.base.with_name(name)):
                with suppress(OSError):
                    self.base.with_name(name).unlink()

    def _first_free(self) -> int:
        """Return the lowest number that is free, or that of the oldest file, which has to go."""
        number = 0
        while suffixes := self.suffixes(number):
            for path in (self.member(number, suffix) for suffix in suffixes):
                odd = odd_kind(path)
                if odd is not None:
                    raise PersistenceError(
                        f"can't rotate {self.base}: {path} is {odd}, not a file of the set; move it"
                    )
            if number == self.max_files - 1:
                break
            number += 1
        return number


def _begins_with_record(path: Path) -> bool:
    try:
        with closing(Segment.open(path)) as file:
            for _, _, lines in forward(file, 0, file.size):
                sequence_of(lines[0])
                return True
    except (OSError, PersistenceError, InvalidLine):
        return False
    return False


def _in_use(path: Path) -> bool:
    try:
        fd = open_regular(path, os.O_RDONLY)
    except (OSError, PersistenceError):
        return False
    try:
        with locked_file(fd) as free:
            return not free
    finally:
        os.close(fd)


def _is_there(path: Path) -> bool:
    # Unlike os.path.lexists(), for which a folder that may not be entered is empty.
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is wanted, and Paths cost ten times as much
    except (FileNotFoundError, NotADirectoryError):
        return []
