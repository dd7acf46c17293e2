"""Whether the files ``FILE.1``, ``FILE.2.gz``, ... beside a file are its rotations, or somebody's copies."""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, BinaryIO

__all__ = ["Siblings", "find_siblings", "start_of"]

_NUMBER = re.compile(r"([1-9][0-9]{0,2})(|\.gz|\.zst)")  # no more digits: FILE.20260701 is somebody's copy
_GZIP, _ZSTD = b"\x1f\x8b", (b"\x28\xb5\x2f\xfd", b"\x5a\x2a\x4d\x18")  # with what such a file begins
_KINDS = ("event", "audit", "dead_letter")
_CHUNK = 64 * 2**10
_LONGEST = 16 * 2**20  # of a line that is a record
_RETRIES = 5
_SUBFIELD = b"Py"  # marks what the store itself compressed: after a gzip member's header, or in a skippable zstd frame


class Siblings(NamedTuple):
    """The numbers of the files beside a file, with their names, and why they are not its rotations; no ``misfit`` means that they are."""

    numbers: dict[int, str]
    misfit: str


class _Mark(NamedTuple):
    """Where a record stands in the order of a store."""

    timestamp: float
    seq: int | None

    def may_follow(self, other: _Mark) -> bool:
        if self.seq is not None and other.seq is not None:
            return other.seq < self.seq
        return other.timestamp <= self.timestamp


class _Ends(NamedTuple):
    """The first line of a file that is a record, that record, and the last one of the file."""

    line: bytes
    first: _Mark
    last: _Mark


def find_siblings(path: str) -> Siblings:
    """Find the files ``path.N`` and judge whether they and ``path`` are one rotated set.

    They are if each holds a record, each ends before the next younger one begins, and their numbers count up from 1; a
    number may be missing, for a file was lost or a rotation interrupted, if all records are numbered. Damage makes nobody
    a stranger: lines that are no record are passed over, and so are files of NULs alone, and those that the store
    compressed and nothing can be read of. Only the first record and the last are looked for; in compressed files only the
    first, and in those that this Python can't unpack none.
    """
    before = _identity(path)
    siblings = _look(path)
    for _ in range(_RETRIES):
        now = _identity(path)
        if now == before:
            break
        before, siblings = now, _look(path)  # an application rotated its files meanwhile
    return siblings


def start_of(path: str, size: int) -> bytes:
    """Return the first ``size`` bytes of a file; none if they can't be read, or it is something else."""
    if not Path(path).is_file():  # opening a pipe would wait for a writer
        return b""
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except OSError:  # who wants more of it than a look meets the error
        return b""


def _look(path: str) -> Siblings:
    numbered = _numbered(path)
    return Siblings(numbered, _misfit(path, numbered) if numbered else "")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _numbered(path: str) -> dict[int, str]:
    """Return the numbered files, the lowest first; of several with one number, as it is for the store, a plain one."""
    whole = Path(path)
    try:
        with os.scandir(whole.parent) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    prefix = f"{whole.name}."
    suffixes = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    matches = filter(None, map(_NUMBER.fullmatch, suffixes))
    found = sorted(((int(match[1]), match[0]) for match in matches), reverse=True)
    return {number: f"{path}.{suffix}" for number, suffix in reversed(list(dict(found).items()))}


def _misfit(path: str, numbered: dict[int, str]) -> str:
    names = reversed(numbered.values())
    chain = [(name, _ends_of(name)) for name in names if not _is_unreadable_here(name)]
    if not _begins_nothing(path):
        chain.append((path, _ends_of(path)))
    for name, ends in chain:
        if ends is None and not _is_a_wreck(name, youngest=name == path):
            return f"{name} holds no record"
    known = [(name, ends) for name, ends in chain if ends is not None]
    for (older, one), (younger, other) in pairwise(known):
        if one.line == other.line or not other.first.may_follow(one.last):
            return f"{younger} does not go on where {older} ends"
    complete = list(numbered) == list(range(1, len(numbered) + 1))
    if not complete and any(mark.seq is None for _, ends in known for mark in (ends.first, ends.last)):
        return "their numbers do not count up from 1"
    return ""


def _begins_nothing(path: str) -> bool:
    """Whether the youngest file holds no line yet: a rotation, or a crash just after one, leaves it so."""
    if not os.path.lexists(path):
        return True
    if not Path(path).is_file():
        return False
    try:
        with Path(path).open("rb") as file:
            line = file.readline(_LONGEST)
    except OSError:
        return False
    return not line or (not line.endswith(b"\n") and _mark(line) is None)


def _ends_of(path: str) -> _Ends | None:
    if not Path(path).is_file():  # opening a pipe would wait for a writer
        return None
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            packed = magic.startswith((_GZIP, *_ZSTD))
            for line in _lines(file, magic):
                first = _mark(line)
                if first is not None:
                    break
            else:
                return None
            return _Ends(line, first, first if packed else next(_marks_from_the_end(file), first))
    except OSError:
        return None


def _is_a_wreck(path: str, *, youngest: bool) -> bool:
    """Whether a file that holds no record belongs to a set all the same: damage did that to it.

    The youngest one does, for it is the very file that the store was said to be.
    """
    if youngest:
        return Path(path).is_file()
    start = start_of(path, _CHUNK)
    marked = start[12:14] if start.startswith(_GZIP) else start[8:10] if start.startswith(_ZSTD) else b""
    return marked == _SUBFIELD or (start != b"" and not start.strip(b"\0"))


def _lines(file: BinaryIO, magic: bytes) -> Iterator[bytes]:
    """Yield the first lines of what may be compressed, as far as it can be unpacked."""
    unpacked: IO[bytes] | gzip.GzipFile = file
    errors: tuple[type[Exception], ...] = ()
    if magic.startswith(_GZIP):
        unpacked, errors = gzip.GzipFile(fileobj=file), (EOFError, zlib.error)
    elif magic.startswith(_ZSTD):
        zstd = _zstd()
        unpacked, errors = zstd.ZstdFile(file), (EOFError, zstd.ZstdError)
    left = _LONGEST
    with suppress(*errors):
        while left > 0 and (line := unpacked.readline(left)):
            left -= len(line)
            yield line


class _Zstd(Protocol):
    """What is used of `compression.zstd`."""

    ZstdFile: Callable[[BinaryIO], IO[bytes]]
    ZstdError: type[Exception]


def _zstd() -> _Zstd:
    return cast("_Zstd", import_module("compression.zstd"))


def _is_unreadable_here(path: str) -> bool:
    """Whether a file is compressed with zstd, and this Python can't unpack that: before 3.14 none can."""
    if not start_of(path, 4).startswith(_ZSTD):
        return False
    try:
        _zstd()
    except ImportError:
        return True
    return False


def _marks_from_the_end(file: BinaryIO) -> Iterator[_Mark]:
    """Yield the last record: the last line may be torn, or longer than what is read at first."""
    size = file.seek(0, os.SEEK_END)
    length = _CHUNK
    while True:
        start = max(size - length, 0)
        file.seek(start)
        lines = file.read(length).split(b"\n")
        for line in reversed(lines if start == 0 else lines[1:]):
            mark = _mark(line)
            if mark is not None:
                yield mark
                return
        if start == 0 or length > _LONGEST:
            return
        length *= 4


def _mark(line: bytes) -> _Mark | None:
    """Return where the record in a line stands, None if there is no record in it."""
    try:
        loaded: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(loaded, dict):
        return None
    record = cast("dict[str, object]", loaded)
    timestamp, seq, crc = record.get("timestamp"), record.get("seq"), record.get("crc")
    if isinstance(crc, str) and crc != format(zlib.crc32(line[: line.rfind(b',"crc"')]), "08x"):
        return None
    if record.get("kind") not in _KINDS or isinstance(timestamp, bool):
        return None
    if not isinstance(timestamp, int | float):
        return None
    return _Mark(timestamp, seq if isinstance(seq, int) and not isinstance(seq, bool) else None)
