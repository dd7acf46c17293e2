"""New records as they come, from a store that does not report them: by looking again and again."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio

from papyra.exceptions import PersistenceError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from papyra.persistence.models import PersistedRecord
    from papyra.persistence.query import Query

__all__ = ["INTERVAL", "following_of", "look_again"]

INTERVAL = 0.1
"""Seconds between two looks."""

_WINDOW = 256  # records that a look reads at first, so that its cost does not depend on the store's size


def following_of(
    query: Query[Any] | None, limit: int, wanted: Callable[[PersistedRecord], bool] | None
) -> tuple[int, Callable[[PersistedRecord], bool]]:
    """Return how many old records ``follow`` begins with, and the condition of the records it yields."""
    if query is None:
        if limit < 0:
            raise ValueError(f"limit must not be negative, but is {limit}")
        return limit, wanted or (lambda _: True)
    count = sys.maxsize if query.limit is None else query.limit
    if wanted is None:
        return count, query.matches
    return count, lambda record: query.matches(record) and wanted(record)


async def look_again(
    newest: Callable[[int], Awaitable[Sequence[PersistedRecord]]],
    closed: Callable[[], bool],
    limit: int,
    wanted: Callable[[PersistedRecord], bool],
) -> AsyncGenerator[PersistedRecord]:
    """Yield the newest ``limit`` wanted records, then each new one, until the store is closed.

    ``newest(n)`` returns the newest n records, oldest first. Records are distinguished by their content and
    not by their time, because writers' clocks may disagree.
    """
    window = await newest(_WINDOW)
    size = _WINDOW
    while limit and sum(map(wanted, window)) < limit and len(window) == size:
        size *= 4
        window = await newest(size)
    matching = list(filter(wanted, window))
    for record in matching[len(matching) - limit :] if limit < len(matching) else matching if limit else ():
        yield record
    seen = Counter(map(repr, window[-_WINDOW:]))
    while True:
        await anyio.sleep(INTERVAL)
        if closed():
            return
        try:
            window, keys = await _look(newest, seen)
        except PersistenceError:
            if closed():  # while it was asked
                return
            raise
        known = seen.copy()
        seen = Counter(keys[-_WINDOW:])
        for record, key in zip(window, keys, strict=True):
            if known[key]:
                known[key] -= 1
            elif wanted(record):
                yield record


async def _look(
    newest: Callable[[int], Awaitable[Sequence[PersistedRecord]]], seen: Counter[str]
) -> tuple[Sequence[PersistedRecord], list[str]]:
    """Read until all records of the last look are among the read ones, so that no burst is missed."""
    size = _WINDOW
    while True:
        window = await newest(size)
        keys = list(map(repr, window))
        if len(window) < size or not seen or not (seen - Counter(keys)):
            return window, keys
        size *= 4
