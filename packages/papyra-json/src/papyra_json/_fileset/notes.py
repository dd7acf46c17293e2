"""The content of a set's lock file: a table of times, and notes about ``seq``.

The file begins with a table of the times in the set's files (see `time_index`), which saves reading. Notes
about ``seq`` follow it, as JSON objects, one a line. The line with the highest ``version`` counts; a line
whose ``crc`` does not fit was interrupted:

- ``gaps``: pairs ``[a, b]``. A recovery or compaction made or saw a gap in ``seq`` within such a range, so a
  scan does not report it again. Records are never renumbered and no marker lines are added: the data files
  hold records only.
- ``last_seq``: the last number given out, if its record was dropped.
- ``max_files``: the largest number of files that a writer of this set was opened with.

The notes are an aid. Without them, as after the file was copied, a scan reports old gaps again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

import orjson

from papyra.persistence.files import sync_file, write_all
from papyra_json._fileset.time_index import TABLE_BYTES, line_of, place_of, read_table
from papyra_json._record.decode import MAX_SEQ, intact

if TYPE_CHECKING:
    from papyra_json._fileset.time_index import Entry

__all__ = ["NoteFile", "Notes", "notes_in"]

MAX_NOTES_BYTES = 2**20
MAX_GAPS = 500  # beyond, neighbours are merged: the notes must not grow with the damage
MAX_MAX_FILES = 10**6  # a larger number in the notes is damage


@dataclass(slots=True)
class Notes:
    """Facts about a set that its records don't show."""

    last_seq: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    max_files: int = 0

    def knows_gap(self, before: int, after: int) -> bool:
        """Return whether a gap from ``before`` to ``after`` was noted."""
        low, high = min(before, after), max(before, after)
        return any(start <= low and high <= end for start, end in self.gaps)

    def note_gap(self, before: int, after: int) -> None:
        """Note a gap, unless it is known."""
        if self.knows_gap(before, after):
            return
        self.gaps.append((min(before, after), max(before, after)))
        if len(self.gaps) > MAX_GAPS:
            self.gaps.sort()
            pairs = zip(self.gaps[::2], [*self.gaps[1::2], self.gaps[-1]], strict=False)
            self.gaps = [(first[0], max(first[1], second[1])) for first, second in pairs]


def notes_in(content: bytes) -> Notes:
    """Return the notes in a lock file's content; empty ones if they are missing or invalid."""
    notes = Notes()
    with suppress(ValueError, TypeError, KeyError):
        found, _, _ = _newest(content)
        last_seq, max_files = int(found.get("last_seq", 0)), int(found.get("max_files", 0))
        notes.gaps = [(int(start), int(end)) for start, end in found.get("gaps", ())]
        notes.last_seq = last_seq if 0 <= last_seq < MAX_SEQ else 0
        notes.max_files = max_files if 0 <= max_files <= MAX_MAX_FILES else 0
    return notes


class NoteFile:
    """Reads and writes the notes in an open lock file. Its user holds the lock."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._has_room = False  # whether the table's place is known to be free of notes

    def content(self) -> bytes:
        """Return the content of the lock file; empty if it can't be read, because it is only an aid."""
        try:
            return os.pread(self._fd, MAX_NOTES_BYTES, 0)
        except OSError:
            return b""

    def read_notes(self) -> Notes:
        """Return the notes; empty ones if they are missing or invalid."""
        return notes_in(self.content())

    def write_notes(self, notes: Notes) -> None:
        """Replace the notes, in place because the lock file must stay the same file.

        The new line is written and synced before or after the old one, with a higher version. So the old or
        the new notes are there at every instant.
        """
        found, start, end = _newest(os.pread(self._fd, MAX_NOTES_BYTES, 0))
        end = max(end, TABLE_BYTES)
        fields = {
            "last_seq": notes.last_seq,
            "gaps": notes.gaps,
            "max_files": notes.max_files,
            "version": _version(found) + 1,
        }
        body = orjson.dumps(fields)[:-1]
        line = body + b',"crc":"%08x"}' % crc32(body)
        fits_before = len(line) < start - TABLE_BYTES
        try:
            if fits_before:
                _write_at(self._fd, line.ljust(start - TABLE_BYTES - 1) + b"\n", TABLE_BYTES)
            else:
                os.ftruncate(self._fd, end)  # an interrupted write may have left bytes there
                _write_at(self._fd, line + b"\n", end)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, end)
            raise
        sync_file(self._fd)
        if fits_before:
            os.ftruncate(self._fd, start)

    def read_table(self) -> list[Entry]:
        """Return the entries about the times in the set's files."""
        return read_table(os.pread(self._fd, TABLE_BYTES, 0))

    def write_entry(self, entry: Entry) -> None:
        """Write an entry about the times in a file. It is not synced: a lost entry only costs reading."""
        line = line_of(entry)
        if line is None:
            return
        if not self._has_room:
            found, start, _ = _newest(os.pread(self._fd, MAX_NOTES_BYTES, 0))
            if found and start < TABLE_BYTES:
                self.write_notes(self.read_notes())
            self._has_room = True
        _write_at(self._fd, line, place_of(entry))


def _newest(content: bytes) -> tuple[dict[str, Any], int, int]:
    """Return the newest whole line of notes and its range; an empty object if no line is whole."""
    newest: tuple[dict[str, Any], int, int] = ({}, 0, 0)
    end = 0
    # Versions before the table wrote the notes in its place.
    table, notes = content[:TABLE_BYTES], content[TABLE_BYTES:]
    for line in (*table.splitlines(keepends=True), *notes.splitlines(keepends=True)):
        start, end = end, end + len(line)
        text = line.strip()
        with suppress(ValueError, TypeError):
            found: dict[str, Any] | None = orjson.loads(text)
            if not isinstance(found, dict) or "end" in found:
                continue
            whole = line.endswith(b"\n") and ("crc" not in found or intact(text))
            if whole and _version(found) >= _version(newest[0]):
                newest = (found, start, end)
    return newest


def _version(notes: dict[str, Any]) -> int:
    version = notes.get("version")
    return version if isinstance(version, int) and 0 <= version < MAX_SEQ else 0


def _write_at(fd: int, data: bytes, offset: int) -> None:
    os.lseek(fd, offset, os.SEEK_SET)
    write_all(fd, data)
