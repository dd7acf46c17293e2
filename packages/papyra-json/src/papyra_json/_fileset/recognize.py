"""Recognize a store by its content.

Lines of records in ``FILE``, and rotations in ``FILE.1``, ``FILE.2.gz``, ...
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from papyra.exceptions import PersistenceError
from papyra.persistence.files import file_kind
from papyra_json._fileset.lock import SetLock, lock_file_content
from papyra_json._fileset.names import FileSet
from papyra_json._fileset.notes import notes_in
from papyra_json._record.decode import InvalidLine, decode, sequence_of
from papyra_json._record.lines import backward, forward, pieces
from papyra_json._segment.codec import UnreadableHere
from papyra_json._segment.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_SET_FILES", "Rotations", "find_rotations", "is_another_format"]

MAX_SET_FILES = 1000
"""More files than any application keeps; a larger number in a name is a date or the like."""

MAX_SEARCH_BYTES = 16 * 2**20
PROBE_BYTES = 64 * 2**10
LOCK_PATIENCE_SECONDS = 1.0  # then the files are looked at without the lock


class Rotations(NamedTuple):
    """The numbered files beside a file, the youngest first; ``misfit`` says why they are not its rotations.

    ``noted`` says that a rotating store has noted its size beside the file, which may not have rotated yet.
    """

    files: list[Path]
    misfit: str
    noted: bool = False

    @property
    def form_a_set(self) -> bool:
        """Whether the file and its rotations are a set."""
        return bool(self.files or self.noted) and not self.misfit


class _Mark(NamedTuple):
    """The place of a record in the order of a store."""

    line: bytes
    timestamp: float
    seq: int | None

    def may_follow(self, other: _Mark) -> bool:
        if self.seq is not None and other.seq is not None:
            return other.seq < self.seq
        return other.timestamp <= self.timestamp


class _Ends(NamedTuple):
    first: _Mark
    last: _Mark


def find_rotations(path: str) -> Rotations:
    """Find the files ``path.N`` and judge whether they and ``path`` are one rotated set.

    They are if each file holds a record, if each ends before the next younger one begins, and if their
    numbers count up from 1. A number may be missing if all records have a ``seq``, because then a scan
    reports what was lost. Damage alone does not exclude a file: invalid lines are skipped, and so is a file
    of NULs, or one that only this package can have compressed. Only the first and the last record of each
    file are read.
    """
    base = Path(path)
    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS

    def check() -> None:
        if time.monotonic() > deadline:
            raise PersistenceError(f"{base} is locked")

    try:
        # Under the lock no rotation is half done.
        with closing(SetLock(base, check)) as lock, lock.shared():
            return _look(base)
    except (OSError, PersistenceError):
        return _look(base)


def is_another_format(path: str) -> bool:
    """Return whether a regular file is binary and holds no record.

    Then it is not a damaged store of lines.
    """
    if file_kind(Path(path)) is not None:
        return False
    try:
        with closing(Segment.open(Path(path))) as file:
            if next(_marks(file), None) is not None:
                return False
            start = file.as_stored().read_at(PROBE_BYTES, 0)
    except (OSError, PersistenceError):
        return False  # opening the store reports the error
    return b"\0" in start and start.strip(b"\0") != b""


def _look(base: Path) -> Rotations:
    files = [path for path in reversed(FileSet(base, MAX_SET_FILES).present()) if path != base]
    noted = os.path.lexists(base) and notes_in(lock_file_content(base)).max_files > 1
    return Rotations(files, _misfit(base, files) if files else "", noted)


def _number_of(path: Path) -> int:
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    return int(name.rpartition(".")[2])


def _misfit(base: Path, files: list[Path]) -> str:
    ends_of: list[tuple[Path, _Ends]] = []
    for path in [*reversed(files), base]:
        if path == base and not os.path.lexists(base):
            continue
        try:
            with closing(Segment.open(path)) as file:
                ends = _ends_of(file)
                if ends is not None:
                    ends_of.append((path, ends))
                elif path != base and not _is_a_wreck(file):
                    return f"{path} holds no record"
        except UnreadableHere:
            continue
        except (OSError, PersistenceError):
            return f"{path} holds no record"
    return _gap_between(ends_of) or _gap_in_numbers(files, ends_of)


def _gap_between(known: list[tuple[Path, _Ends]]) -> str:
    for (older, one), (younger, other) in pairwise(known):
        if one.first.line == other.first.line or not other.first.may_follow(one.last):
            return f"{younger} does not go on where {older} ends"
    return ""


def _gap_in_numbers(files: list[Path], known: list[tuple[Path, _Ends]]) -> str:
    complete = [_number_of(path) for path in files] == list(range(1, len(files) + 1))
    if not complete and any(mark.seq is None for _, ends in known for mark in ends):
        return "their numbers do not count up from 1"
    return ""


def _ends_of(file: Segment) -> _Ends | None:
    first = next(_marks(file), None)
    return None if first is None else _Ends(first, next(_marks_from_the_end(file), first))


def _is_a_wreck(file: Segment) -> bool:
    """Return whether a file without a record belongs to a set all the same: damage made it so."""
    stored = file.as_stored()
    if file.packed is not None:
        magic = file.packed.codec.block_magic
        return stored.read_at(len(magic), 0) == magic
    start = stored.read_at(PROBE_BYTES, 0)
    return start != b"" and not start.strip(b"\0")


def _marks(file: Segment) -> Iterator[_Mark]:
    for offset, _, lines in forward(file, 0, file.size):
        if offset > MAX_SEARCH_BYTES:
            return
        yield from filter(None, (_mark(piece) for line in lines for _, piece in pieces(line)))


def _marks_from_the_end(file: Segment) -> Iterator[_Mark]:
    size = file.size
    for offset, line, _ in backward(file, size):
        if size - offset > MAX_SEARCH_BYTES:
            return
        yield from filter(None, (_mark(piece) for _, piece in reversed(pieces(line))))


def _mark(line: bytes) -> _Mark | None:
    try:
        return _Mark(line, decode(line).timestamp, sequence_of(line))
    except InvalidLine:
        return None
