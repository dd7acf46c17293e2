"""What is known of the times in a set's files, in a table at the beginning of its lock file.

An entry says of the first bytes of some file between which times its records lie, and how much out of order they are. It
names no file: it is about the one whose bytes before ``end`` have the CRC ``check``, wherever that stands by now. So a
file that was renamed is known on, and one that was replaced, restored or copied over is not, nor are lines behind
``end``, whoever appended them. Entries may be old, torn or gone; all they do is to save reading.
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

    from papyra_json._record.lines import Readable

__all__ = ["TABLE", "Entry", "check_at", "entry_for", "line_of", "place_of", "read_table"]

_ENTRIES = 32
_WIDTH = 256

TABLE = _ENTRIES * _WIDTH
"""So many bytes the table has; each entry is a line of its own, filled up with spaces."""

_CHECKED = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """The times of a file's records before ``end``; ``number`` counts up with the files that were begun."""

    number: int
    end: int
    check: int
    times: Times


def check_at(file: Readable, end: int) -> int:
    """Return what an entry for this end of a file's content has as its ``check``."""
    start = max(0, end - _CHECKED)
    return crc32(file.read_at(end - start, start))


def entry_for(file: Readable, size: int, entries: Iterable[Entry]) -> Entry | None:
    """Return the entry that reaches furthest of those about a file of ``size`` bytes."""
    for entry in sorted(entries, key=lambda entry: entry.end, reverse=True):
        if entry.end <= size and entry.check == check_at(file, entry.end):
            return entry
    return None


def place_of(entry: Entry) -> int:
    """Return where an entry stands in the lock file: in the place of the one 32 files before."""
    return entry.number % _ENTRIES * _WIDTH


def line_of(entry: Entry) -> bytes | None:
    """Return an entry as it is written; None if it says nothing, or more than there is room for."""
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
    return line.ljust(_WIDTH - 1) + b"\n" if len(line) < _WIDTH else None


def read_table(content: bytes) -> list[Entry]:
    """Return the entries that are whole; ``content`` is the beginning of a lock file."""
    places = range(0, min(len(content), TABLE), _WIDTH)
    entries = (_read_entry(content[place : place + _WIDTH].strip()) for place in places)
    return [entry for entry in entries if entry is not None]


def _read_entry(line: bytes) -> Entry | None:
    if not line or not intact(line):
        return None
    try:
        found = orjson.loads(line)
        times = Times(float(found["oldest"]), float(found["newest"]), float(found["disorder"]))
        return Entry(int(found["number"]), int(found["end"]), int(found["check"], 16), times)
    except (ValueError, TypeError, KeyError):
        return None
