"""A sparse index of the times in a set's files, in a table at the beginning of its lock file.

An entry describes the first ``end`` bytes of some file: the oldest and newest time of its records, and how
far they are out of order. It belongs to the file whose bytes before ``end`` have the CRC ``check``, not to a
name. So it stays valid when its file is renamed, and is void once the file was replaced, restored or copied
over. Lines after ``end`` are not covered. Entries may be old, torn or lost, because they only save reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING
from zlib import crc32

import orjson

from papyra_json._record.decode import intact
from papyra_json._record.time_range import Times

if TYPE_CHECKING:
    from collections.abc import Iterable

    from papyra_json._fs.files import Readable

__all__ = ["TABLE_BYTES", "Entry", "check_at", "entry_for", "line_of", "place_of", "read_table"]

TABLE_ENTRIES = 32
ENTRY_BYTES = 256
CHECKED_BYTES = 1024

TABLE_BYTES = TABLE_ENTRIES * ENTRY_BYTES
"""The size of the table; each entry is a line of its own, filled up with spaces."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The times of a file's records before ``end``; ``number`` counts up with the files of the set."""

    number: int
    end: int
    check: int
    times: Times


def check_at(file: Readable, end: int) -> int:
    """Return the ``check`` of an entry that ends at this offset of a file's content."""
    start = max(0, end - CHECKED_BYTES)
    return crc32(file.read_at(end - start, start))


def entry_for(file: Readable, size: int, entries: Iterable[Entry]) -> Entry | None:
    """Return the entry of a file of ``size`` bytes that covers most of it."""
    for entry in sorted(entries, key=lambda entry: entry.end, reverse=True):
        if entry.end <= size and entry.check == check_at(file, entry.end):
            return entry
    return None


def place_of(entry: Entry) -> int:
    """Return the offset of an entry in the lock file. It replaces the entry of 32 files before."""
    return entry.number % TABLE_ENTRIES * ENTRY_BYTES


def line_of(entry: Entry) -> bytes | None:
    """Return an entry as a line; None if its times are not finite, or the line is too long."""
    times = entry.times
    if not isfinite(times.oldest + times.newest + times.disorder):
        return None
    fields = {
        "number": entry.number,
        "end": entry.end,
        "check": f"{entry.check:08x}",
        "oldest": times.oldest,
        "newest": times.newest,
        "disorder": times.disorder,
    }
    body = orjson.dumps(fields)[:-1]
    line = body + b',"crc":"%08x"}' % crc32(body)
    return line.ljust(ENTRY_BYTES - 1) + b"\n" if len(line) < ENTRY_BYTES else None


def read_table(content: bytes) -> list[Entry]:
    """Return the whole entries; ``content`` is the beginning of a lock file."""
    places = range(0, min(len(content), TABLE_BYTES), ENTRY_BYTES)
    entries = (_read_entry(content[place : place + ENTRY_BYTES].strip()) for place in places)
    return [entry for entry in entries if entry is not None]


def _read_entry(line: bytes) -> Entry | None:
    if not line or not intact(line):
        return None
    try:
        fields = orjson.loads(line)
        times = Times(float(fields["oldest"]), float(fields["newest"]), float(fields["disorder"]))
        return Entry(int(fields["number"]), int(fields["end"]), int(fields["check"], 16), times)
    except (ValueError, TypeError, KeyError):
        return None
