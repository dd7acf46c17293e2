"""Pages of a stream in the order of writing: a cursor names the entry that was read last."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from papyra.persistence.models import PersistedRecord
from papyra.persistence.paging import Page, bad_cursor
from papyra_contrib.redis._entries import START, Walk, cleaned, kept, key_of, last_id, read_entry

if TYPE_CHECKING:
    from papyra.persistence.blocking import Work
    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib.redis._connection import Server

__all__ = ["Place", "page_after", "place_of"]

MARK_DISTANCES = (1, 10, 100, 1000)  # entries before the place
MAX_MARKS = 8

_CURSOR = re.compile(r"[0-9]{1,20}-[0-9]{1,20}(\.[0-9]{1,20}-[0-9]{1,20})*")

_R = TypeVar("_R", bound=PersistedRecord)


class Place(NamedTuple):
    """The entry that was read last, and some before it, newest first.

    They show whether a stream that ends before the place is another one, or that of a replica that took over
    and lacks the last entries.
    """

    last: bytes = START
    marks: tuple[bytes, ...] = ()

    @property
    def cursor(self) -> str:
        """The place as a text."""
        return ".".join(identifier.decode() for identifier in (self.last, *self.marks))


def place_of(cursor: str | None) -> Place:
    """Return the place that a cursor names; a text that is not a cursor is a `ValueError`."""
    if not cursor:
        return Place()
    if not _CURSOR.fullmatch(cursor):
        raise bad_cursor(cursor)
    last, *marks = cursor.encode().split(b".")
    return Place(last, tuple(marks))


def page_after(
    server: Server,
    stream: str,
    query: Query[_R],
    policy: RetentionPolicy,
    now: float,
    place: Place,
    limit: int,
    work: Work,
) -> Page[_R]:
    """Return the first ``limit`` records after a place that match and are kept."""
    place = _still_there(server, stream, place)
    floor = _floor(server, stream, policy, now, place, work)
    if floor is None:
        return Page([], place.cursor)
    walk = Walk(server, stream, start=b"(" + place.last)
    walk.work = work
    query, oldest = cleaned(query), policy.oldest_kept(now)
    records: list[_R] = []
    passed: list[bytes] = []
    for entry in walk:
        passed.append(entry[0])
        read = read_entry(entry) if key_of(entry[0]) >= floor else None
        if read is not None and read[0].timestamp >= oldest and query.matches(read[0]):
            records.append(read[0])
            if len(records) == limit:
                break
    return Page(records, _moved(place, passed).cursor)


def _still_there(server: Server, stream: str, place: Place) -> Place:
    """Return the place to continue from, or the start if the cursor is from another stream."""
    newest = last_id(server, stream)
    if key_of(newest) >= key_of(place.last):
        return place
    is_same = any(server.call("XRANGE", stream, mark, mark) for mark in place.marks)
    return Place(newest, place.marks) if is_same else Place()


def _floor(
    server: Server, stream: str, policy: RetentionPolicy, now: float, place: Place, work: Work
) -> tuple[int, int] | None:
    """Return the oldest entry after a place that count and size keep, or None."""
    if policy.max_records is None and policy.max_total_bytes is None:
        return key_of(START)
    walk = Walk(server, stream, newest_first=True)
    walk.work = work
    after = takewhile(lambda entry: key_of(entry[0]) > key_of(place.last), walk)
    floor = None
    for one in kept(after, policy, now):
        floor = key_of(one.id)
    return floor


def _moved(place: Place, passed: list[bytes]) -> Place:
    """Return the place after the entries that were passed."""
    if not passed:
        return place
    earlier = [place.last, *place.marks] if place.last != START else []
    marks = [passed[-1 - distance] for distance in MARK_DISTANCES if distance < len(passed)]
    return Place(passed[-1], tuple([*marks, passed[0], *earlier][:MAX_MARKS]))
