"""Between records and the entries of a stream, and walks along it, page by page."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistedRecord
from papyra.persistence.payload import clean_text
from papyra_contrib._rows import StoredRow, read_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib._rows import Row
    from papyra_contrib.redis._connection import Argument, Server

__all__ = [
    "START",
    "Entry",
    "Kept",
    "Walk",
    "cleaned",
    "count_kept",
    "find",
    "kept",
    "key_of",
    "last_id",
    "read_entry",
    "to_fields",
]

Entry: TypeAlias = "tuple[bytes, list[bytes]]"
"""Its id, and its fields and values in turn."""

START = b"0-0"
"""An id that is lower than that of every entry."""

_FIELDS = (
    b"kind",
    b"timestamp",
    b"system_id",
    b"actor",
    b"type",
    b"run",
    b"details",
    b"payload",
    b"size",
    b"crc",
)
_ADDED = dict.fromkeys((b"run", b"details"), b"")  # left out where empty, as in entries of older versions
_PAGE_BYTES = 2**22
_MOST_ENTRIES = 500

_R = TypeVar("_R", bound=PersistedRecord)


class Kept(NamedTuple):
    """A record within the retention policy, and the id of its entry."""

    id: bytes
    record: PersistedRecord

    @property
    def timestamp(self) -> float:
        """The time of the record."""
        return self.record.timestamp


def to_fields(row: Row) -> list[Argument]:
    """Return a row as the fields and values of an entry."""
    parts: list[Argument] = []
    for field, value in zip(_FIELDS, row, strict=True):
        if value != "" or field not in _ADDED:
            parts += [field, repr(value) if isinstance(value, float) else str(value)]
    return parts


def read_entry(entry: Entry) -> tuple[PersistedRecord, int] | None:
    """Return the record in an entry and its size; None if it is not what was written."""
    identifier, parts = entry
    values = _ADDED | dict(zip(parts[::2], parts[1::2], strict=True))
    try:
        raw = StoredRow(identifier, *(values[field] for field in _FIELDS))
        row = raw._replace(timestamp=float(raw.timestamp), size=int(raw.size), crc=int(raw.crc))
        record = read_row(row)
        return None if record is None else (record, row.size)
    except (KeyError, ValueError):
        return None


class Walk:
    """The entries of a stream, oldest or newest first; between two of them, another ``work`` may be set."""

    def __init__(
        self, server: Server, stream: str, *, newest_first: bool = False, start: bytes | None = None
    ) -> None:
        self.work = Work()
        self._server, self._stream = server, stream
        self._command, self._end = ("XREVRANGE", b"-") if newest_first else ("XRANGE", b"+")
        self._next = start or (b"+" if newest_first else b"-")

    def __iter__(self) -> Iterator[Entry]:
        count = _MOST_ENTRIES
        while True:
            self.work.check()
            page: list[Entry] = self._server.call(
                self._command, self._stream, self._next, self._end, "COUNT", count
            )
            yield from page
            if len(page) < count:
                return
            self._next = b"(" + page[-1][0]
            size = sum(len(value) for _, parts in page for value in parts)
            count = max(1, min(_MOST_ENTRIES, 2 * count, count * _PAGE_BYTES // max(size, 1)))


def kept(newest_first: Iterable[Entry], policy: RetentionPolicy, now: float) -> Iterator[Kept]:
    """Yield the records that the policy keeps, newest first, and read no further than needed.

    Skip damaged entries.
    """
    sized_entries = ((entry[0], read_entry(entry)) for entry in newest_first)
    sized = ((Kept(key, record[0]), record[1]) for key, record in sized_entries if record is not None)
    return (kept_entry for kept_entry, _ in policy.kept(sized, now))


def find(
    newest_first: Iterable[Kept], query: Query[_R], wanted: Callable[[_R], bool] | None = None
) -> list[_R]:
    """Return the newest ``query.limit`` records that match, oldest first."""
    query = cleaned(query)
    records: list[_R] = []
    for _, record in newest_first if query.limit != 0 else ():
        if query.matches(record) and (wanted is None or wanted(record)):
            records.append(record)
            if len(records) == query.limit:
                break
    records.reverse()
    return records


def count_kept(newest_first: Iterable[Kept], query: Query[Any]) -> int:
    """Return how many records match, at most ``query.limit``."""
    query = cleaned(query)
    matching = (entry for entry in newest_first if query.matches(entry.record))
    return sum(1 for _ in islice(matching, query.limit))


def cleaned(query: Query[_R]) -> Query[_R]:
    """Return a query for texts as they are stored."""
    return replace(query, type=_clean(query.type), actor=_clean(query.actor))


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


def last_id(server: Server, stream: str) -> bytes:
    """Return the highest id that an entry has, or had before it was compacted away."""
    if not server.call("EXISTS", stream):
        return START
    facts: list[object] = server.call("XINFO", "STREAM", stream)
    last = dict(zip(facts[::2], facts[1::2], strict=True))[b"last-generated-id"]
    return last if isinstance(last, bytes) else START


def key_of(identifier: bytes) -> tuple[int, int]:
    """Return the two numbers of an id, by which ids are ordered."""
    moment, _, number = identifier.partition(b"-")
    return int(moment), int(number)
