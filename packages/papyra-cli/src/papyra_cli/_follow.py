"""New records of a store as they come, by asking again and again: a store tells nobody of new ones."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import anyio

from papyra_cli._json import dump

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

__all__ = ["follow"]

_R = TypeVar("_R")

_INTERVAL = 0.25
"""Seconds between two looks."""

_WINDOW = 256
"""How many of the newest records a look reads at first, so that its cost does not depend on the store's size."""


async def follow(newest: Callable[[int], Awaitable[Sequence[_R]]]) -> AsyncIterator[list[_R]]:
    """Yield the records that came since the last look, oldest first; also an empty list when none came.

    ``newest(n)`` returns the newest n records, oldest first. What stands in the store at the first look is not
    yielded. Records are told apart by their content, not by their time: writers' clocks may disagree.
    """
    seen = Counter(map(dump, await newest(_WINDOW)))
    while True:
        await anyio.sleep(_INTERVAL)
        window, keys = await _look(newest, seen)
        known = seen.copy()
        fresh: list[_R] = []
        for record, key in zip(window, keys, strict=True):
            if known[key]:
                known[key] -= 1
            else:
                fresh.append(record)
        seen = Counter(keys)
        yield fresh


async def _look(
    newest: Callable[[int], Awaitable[Sequence[_R]]], seen: Counter[str]
) -> tuple[Sequence[_R], list[str]]:
    """Read so many that the last look's records are among them, lest a burst is missed."""
    size = _WINDOW
    while True:
        window = await newest(size)
        keys = list(map(dump, window))
        if len(window) < size or not seen or not seen.keys().isdisjoint(keys):
            return window, keys
        size *= 4
