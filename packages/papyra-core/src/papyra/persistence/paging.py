"""Pages in the order of writing, for stores that can only stream: the default ``page``."""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Generic, TypeVar

from papyra.persistence.models import PersistedRecord

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from papyra.persistence.query import Query

__all__ = ["Page", "bad_cursor", "check_page_limit", "page_of_stream"]

_R = TypeVar("_R", bound=PersistedRecord)

CURSOR_MARKS = 8  # records that a cursor remembers, in case that a compaction removes the last ones first

_MARK = re.compile(r"([0-9a-f]{16})\.([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Page(Generic[_R]):
    """Some records in the order of writing, oldest first, and the ``cursor`` of the place after them.

    A page without records is the last one for now. Its cursor is as good as any other, and may be kept over
    restarts.
    """

    records: list[_R]
    cursor: str


async def page_of_stream(
    stream: AsyncGenerator[PersistedRecord], query: Query[_R], after: str | None, limit: int
) -> Page[_R]:
    """Return a page of what a store streams, newest first. It reads the whole stream, and holds it in memory.

    The cursor knows records by their content. Equal ones are distinguished by their count; that fails only if
    a compaction removes some of them while others are recorded.
    """
    async with aclosing(stream) as newest_first:
        records = [record async for record in newest_first]
    records.reverse()
    keys = [_key(record) for record in records]
    begin = _place(keys, _marks(after)) if after else 0
    found: list[_R] = []
    end = begin
    for record in records[begin:]:
        if len(found) == limit:
            break
        end += 1
        if query.matches(record):
            found.append(record)
    return Page(found, _cursor(keys, end) or after or "")


def check_page_limit(limit: int) -> None:
    """Raise `ValueError` for a page that could never have a record."""
    if limit < 1:
        raise ValueError(f"limit must be at least 1, but is {limit}")


def bad_cursor(after: str) -> ValueError:
    """Return the error for a text that is not a cursor of this store."""
    return ValueError(f"{after!r} is not a cursor of this store; give the cursor of a page, or None to begin")


def _key(record: PersistedRecord) -> str:
    return blake2b(repr(record).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _cursor(keys: Sequence[str], end: int) -> str:
    """Return marks of the records before ``end``: each one's key, and how many equal ones came up to it."""
    last = range(end - 1, max(-1, end - 1 - CURSOR_MARKS), -1)
    return "-".join(f"{keys[index]}.{keys[: index + 1].count(keys[index])}" for index in last)


def _marks(cursor: str) -> list[tuple[str, int]]:
    matches = [_MARK.fullmatch(mark) for mark in cursor.split("-")]
    if not all(matches):
        raise bad_cursor(cursor)
    return [(mark[1], int(mark[2])) for mark in matches if mark]


def _place(keys: Sequence[str], marks: Sequence[tuple[str, int]]) -> int:
    """Return the index after the newest marked record that is left; 0 if a compaction removed them all."""
    for key, ordinal in marks:
        places = [index for index, other in enumerate(keys) if other == key]
        if places:
            return places[min(ordinal, len(places)) - 1] + 1
    return 0
