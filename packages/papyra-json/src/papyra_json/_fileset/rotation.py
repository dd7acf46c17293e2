"""Rotation: how the files of a set move, and how many of them there may be.

For the holder of the set's lock.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import file_kind, open_regular, try_locked
from papyra_json._fileset.names import FOREIGN, names_in
from papyra_json._record.decode import InvalidLine, sequence_of
from papyra_json._record.lines import forward
from papyra_json._segment.segment import Segment

if TYPE_CHECKING:
    from pathlib import Path

    from papyra_json._fileset.lock import SetLock
    from papyra_json._fileset.names import FileSet

__all__ = ["close_holes", "remember_size", "remove_temporaries", "rotate"]

_logger = logging.getLogger("papyra")


def rotate(files: FileSet) -> None:
    """Move every file up by one number, and remove the oldest if the set is full.

    At each step every file has one name, so a crash in between leaves a hole in the numbers and loses no
    other record.
    """
    free = _first_free(files)
    if files.max_files == 1:
        files.base.unlink()
        return
    for path in files.members(free):
        path.unlink()
    for number in range(free, 0, -1):
        _move(files, number - 1, number)


def close_holes(files: FileSet) -> None:
    """Give the files the lowest numbers, in their order."""
    free = 1
    for path in reversed(files.present()):
        number = files.number_of(path.name)
        if number > free:
            _move(files, number, free)
        free += number > 0


def _move(files: FileSet, number: int, to: int) -> None:
    for path in files.members(number):
        path.replace(files.renumbered(path, to))


def _first_free(files: FileSet) -> int:
    """Return the lowest number without a file, or that of the oldest file if the set is full."""
    number = 0
    while paths := files.members(number):
        for path in paths:
            kind = file_kind(path)
            if kind is not None:
                raise PersistenceError(
                    f"{files.base} can't be rotated: {path} is {kind}, not a file of the set. Move it away."
                )
        if number == files.max_files - 1:
            break
        number += 1
    return number


def remember_size(files: FileSet, lock: SetLock) -> FileSet:
    """Return the set with its size as of now, and note a larger size beside it.

    A set that grew before sizes were noted is as large as its files. So no program removes files of a larger
    set.
    """
    if not files.rotating:
        return files
    notes = lock.read_notes()
    noted = notes.max_files or _size_on_disk(files)
    sized = files.sized(noted)
    if sized.max_files > notes.max_files:
        notes.max_files = sized.max_files
        lock.write_notes(notes)
    if files.configured is not None and sized.max_files > files.configured:
        _logger.warning(
            "store of facts: %s keeps up to %d files, as noted beside it, not %d (max_files). To change that, run "
            "'papyra persistence compact --max-files %d' on it.",
            files.base,
            sized.max_files,
            files.configured,
            files.configured,
        )
    return sized


def _size_on_disk(files: FileSet) -> int:
    """Return the size of a set by its highest number whose file begins with a record."""
    numbers = [
        files.number_of(path.name)
        for path in files.beyond()
        if files.number_of(path.name) < FOREIGN and _begins_with_record(path)
    ]
    return max(numbers, default=-1) + 1


def _begins_with_record(path: Path) -> bool:
    try:
        with closing(Segment.open(path)) as file:
            for _, _, lines in forward(file, 0, file.size):
                sequence_of(lines[0])
                return True
    except (OSError, PersistenceError, InvalidLine):
        return False
    return False


def remove_temporaries(files: FileSet) -> None:
    """Remove the temporary files of interrupted work.

    Work without the set's lock holds the temporary file's own.
    """
    for name in names_in(files.base.parent):
        if files.temporary.fullmatch(name) and not _in_use(files.base.with_name(name)):
            with suppress(OSError):
                files.base.with_name(name).unlink()


def _in_use(path: Path) -> bool:
    try:
        fd = open_regular(path, os.O_RDWR)
    except (OSError, PersistenceError):
        return False
    try:
        with try_locked(fd) as free:
            return not free
    finally:
        os.close(fd)
