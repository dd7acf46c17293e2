"""The end of a set: where the last valid record ends, and which number it has."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra_json._fileset.quarantine import quarantine
from papyra_json._fs.files import write_all
from papyra_json._fs.posix import sync_file
from papyra_json._record.decode import InvalidLine, sequence_of
from papyra_json._record.lines import backward
from papyra_json._segment.segment import Segment

if TYPE_CHECKING:
    from papyra_json._fileset.names import FileSet

__all__ = ["Tail", "last_sequence", "repair_tail"]


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a file's last valid record ends, and its ``seq`` if it has one."""

    end: int
    seq: int | None = None
    terminated: bool = True


def repair_tail(file: Segment) -> Tail:
    """Make an open file end after its last valid record, and return that end.

    A whole record that only lacks its newline gets it. All else behind the last valid record is copied to
    the quarantine and cut. To be interrupted in between costs a second copy, nothing else.
    """
    if file.packed is not None:
        raise PersistenceError(
            f"{file.path} is compressed, and no fact can be appended to it; unpack it, or name another"
        )
    tail = _find_tail(file)
    if tail.terminated and tail.end == file.size:
        return tail
    if tail.end < file.size:
        quarantine(file.path, file, [(tail.end, file.size)])
        os.ftruncate(file.fd, tail.end)
    if not tail.terminated:
        write_all(file.fd, b"\n")
        tail = Tail(tail.end + 1, tail.seq)
    sync_file(file.fd)  # or a power cut might leave parts of what was cut among the records to come
    return tail


def _find_tail(file: Segment) -> Tail:
    for offset, line, terminated in backward(file, file.size):
        try:
            seq = sequence_of(line)
        except InvalidLine:
            continue
        return Tail(offset + len(line) + terminated, seq, terminated)
    return Tail(0)


def last_sequence(files: FileSet) -> int:
    """Return the last number given out in a set, or 0. For the lock's holder."""
    for path in reversed(files.present()):
        with closing(Segment.open(path)) as file:
            seq = _last_in(file)
        if seq is not None:
            return seq
    return 0


def _last_in(file: Segment) -> int | None:
    for _, line, _ in backward(file, file.size):
        if b'"seq"' not in line:
            continue  # not worth parsing: the published package numbered nothing
        try:
            seq = sequence_of(line)
        except InvalidLine:
            continue
        if seq is not None:
            return seq
    return None
