"""The names of the files of a set, their numbers and their order.

A single file, ``base``, is a set of one. A rotating set also has the full files ``base.1`` (the youngest) to
``base.N`` (the oldest). A full file is named ``base.N.gz`` or ``base.N.zst`` once it is compressed. Of
several files with one number, which only other programs create, the first counts. A number may be missing
after a crash in the middle of a rotation; the order of the others does not change.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from papyra.persistence.files import identity
from papyra_json._fs.files import TEMPORARY_INFIX
from papyra_json._segment.codec import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["FOREIGN", "FileSet", "names_in"]

FEW_FILES = 64  # up to this size of a set, each name is looked up rather than the folder listed
FOREIGN = 10**9  # the number of a file whose suffix looks like a date, not like a rotation


class FileSet:
    """The names of a set of at most ``max_files`` files.

    ``max_files`` is a lower bound if another program has noted a larger size beside the set; with None the
    size is that of the files and the note. The size may only be used as long as the lock that it was learned
    under is held; see `sized`.
    """

    def __init__(self, base: Path, max_files: int | None = 1, *, rotating: bool | None = None) -> None:
        """A set that is not ``rotating`` is one file; by default a set of one is not."""
        self.base = base
        self.configured = max_files
        self.rotating = max_files != 1 if rotating is None else rotating
        self.max_files = max_files or 1
        name = re.escape(base.name)
        suffix = "|".join(map(re.escape, SUFFIXES))
        self._numbered = re.compile(rf"{name}\.(\d+)({suffix})", re.ASCII)
        # A suffix with more than three digits, or than the limit itself needs, is a date or the like.
        self._max_digits = max(3, len(str(self.max_files - 1)))
        self.temporary = re.compile(
            rf"\.{name}(\.\d+({suffix}))?{re.escape(TEMPORARY_INFIX)}[0-9a-f]+", re.ASCII
        )

    @property
    def has_unknown_size(self) -> bool:
        """Whether the size is unknown: neither configured nor noted, and there are no full files.

        Then the file is not rotated, because that would remove it.
        """
        return self.configured is None and self.max_files == 1

    def sized(self, noted: int) -> FileSet:
        """Return the set with its size as of now: configured, noted beside the set, or that of the files."""
        if not self.rotating:
            return self
        size = noted if self.configured is None else max(self.configured, noted)
        if self.configured is None:
            size = max(size, 1 + self._highest_number())
        if size == self.max_files:
            return self
        files = FileSet(self.base, size, rotating=True)
        files.configured = self.configured
        return files

    def _highest_number(self) -> int:
        numbers = (self.number_of(name) for name in names_in(self.base.parent))
        return max((number for number in numbers if number < FOREIGN), default=0)

    def member(self, number: int, suffix: str = "") -> Path:
        """Return the path of a file by its number; 0 is the base."""
        return self.base.with_name(f"{self.base.name}.{number}{suffix}") if number else self.base

    def present(self) -> list[Path]:
        """Return the paths of the set that exist, oldest first."""
        return [paths[0] for number in self._numbers() if (paths := self.members(number))]

    def _numbers(self) -> Iterable[int]:
        """Return the numbers that may have a file, from the highest to 0."""
        if self.max_files <= FEW_FILES:  # the folder may hold far more files than the set
            return range(self.max_files - 1, -1, -1)
        numbers = {self.number_of(name) for name in names_in(self.base.parent)}
        return sorted((number for number in numbers if 0 <= number < self.max_files), reverse=True)

    def members(self, number: int) -> list[Path]:
        """Return the files that exist for a number; the first one counts."""
        return list(self._identities(number))

    def renumbered(self, path: Path, to: int) -> Path:
        """Return the path of a numbered file under another number; how it is compressed stays."""
        match = self._numbered.fullmatch(path.name)
        return self.member(to, match[2] if match is not None else "")

    def uncompressed(self) -> list[Path]:
        """Return the full files whose name says that they are not compressed, the youngest first.

        A number with two files is left out: the extra one is not ours and would block the rename.
        """
        numbers = sorted(number for number in self._numbers() if number)
        return [self.member(number) for number in numbers if self.members(number) == [self.member(number)]]

    def unexpected(self) -> list[Path]:
        """Return the files that are numbered like a file of the set, but do not belong to it.

        A set of one has no numbers: numbered files beside it belong to another program.
        """
        if not self.rotating or self.max_files == 1:
            return []
        twins = (path for number in self._numbers() for path in self._twins(number))
        return sorted([*twins, *self.beyond()])

    def _twins(self, number: int) -> list[Path]:
        """Return the extra files of a number.

        Two looks must agree, because a file that is being compressed has two names for a moment.
        """
        identities = self._identities(number)
        return list(identities)[1:] if len(identities) > 1 and self._identities(number) == identities else []

    def _identities(self, number: int) -> dict[Path, tuple[int, int]]:
        identities: dict[Path, tuple[int, int]] = {}
        for suffix in SUFFIXES if number else SUFFIXES[:1]:
            # An error that a folder may not be entered is raised: the set must not look empty.
            with suppress(FileNotFoundError, NotADirectoryError):
                path = self.member(number, suffix)
                identities[path] = identity(path.lstat())
        return identities

    def beyond(self) -> list[Path]:
        """Return the files with a higher number than the set has, dates included."""
        names = names_in(self.base.parent)
        return [self.base.with_name(name) for name in names if self.number_of(name) >= self.max_files]

    def number_of(self, name: str) -> int:
        """Return the number of a file by its name: the inverse of `member`.

        0 for the base, -1 if unrelated, `FOREIGN` for a date or the like.
        """
        if name == self.base.name:
            return 0
        match = self._numbered.fullmatch(name)
        if match is None:
            return -1
        return int(match[1]) if match[1][0] != "0" and len(match[1]) <= self._max_digits else FOREIGN


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder; none if it does not exist."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - only names are needed, and Paths cost ten times as much
    except (FileNotFoundError, NotADirectoryError):
        return []
