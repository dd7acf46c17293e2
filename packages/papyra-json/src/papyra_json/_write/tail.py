"""The end of a set: the offset after its last valid record, and the number of that record."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import sync_file, write_all
from papyra_json._fileset.quarantine import quarantine
from papyra_json._record.decode import InvalidLine, sequence_of
from papyra_json._record.lines import backward, pieces
from papyra_json._segment.segment import Segment

if TYPE_CHECKING:
    from papyra_json._fileset.names import FileSet

__all__ = ["Tail", "last_sequence", "repair_tail"]


@dataclass(frozen=True, slots=True)
class Tail:
    """The offset after a file's last valid record, and the ``seq`` of that record if it has one."""

    end: int
    seq: int | None = None
    terminated: bool = True


def repair_tail(file: Segment) -> Tail:
    """Make an open file end after its last valid record, and return that end.

    A whole record that only lacks its newline gets one. All other bytes after the last valid record are
    copied to the quarantine and cut off. An interruption in between costs only a second copy.
    """
    if file.packed is not None:
        raise PersistenceError(
            f"{file.path} is compressed, so no record can be appended to it. Decompress it, or choose another path."
        )
    tail = _find_tail(file)
    if tail.terminated and tail.end == file.size:
        return tail
    if tail.end < file.size:
        copy = quarantine(file.path, file, [(tail.end, file.size)])
        try:
            os.ftruncate(file.fd, tail.end)
        except BaseException:
            copy.unlink()  # the bytes are still in the file, and the next append would copy them again
            raise
    if not tail.terminated:
        write_all(file.fd, b"\n")
        tail = Tail(tail.end + 1, tail.seq)
    sync_file(file.fd)  # or a power cut might leave some of the cut bytes among later records
    return tail


def _find_tail(file: Segment) -> Tail:
    for offset, line, terminated in backward(file, file.size):
        for start, piece in reversed(pieces(line)):
            try:
                seq = sequence_of(piece)
            except InvalidLine:
                continue
            end = start + len(piece)
            whole = terminated and end == len(line)
            return Tail(offset + end + whole, seq, whole)
    return Tail(0)


def last_sequence(files: FileSet) -> int:
    """Return the last number given out in a set, or 0. For the holder of the lock."""
    for path in reversed(files.present()):
        with closing(Segment.open(path)) as file:
            seq = _last_in(file)
        if seq is not None:
            return seq
    return 0


def _last_in(file: Segment) -> int | None:
    for _, line, _ in backward(file, file.size):
        if b'"seq"' not in line:
            continue  # not worth parsing: the published package did not number records
        for _, piece in reversed(pieces(line)):
            try:
                seq = sequence_of(piece)
            except InvalidLine:
                continue
            if seq is not None:
                return seq
    return None
