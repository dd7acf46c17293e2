"""New records of a store as they come, by asking again and again: a store tells nobody of new ones."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from papyra_cli._json import dump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Follower"]

_R = TypeVar("_R")

_INTERVAL = 0.25
"""Seconds between two looks."""

_WINDOW = 256
"""How many of the newest records a look reads at first, so that its cost does not depend on the store's size."""


class Follower(Generic[_R]):
    """Tell what came to a store since the last look.

    ``newest(n)`` returns the newest n records, oldest first. Records are told apart by their content, not by
    their time: writers' clocks may disagree.
    """

    def __init__(self, newest: Callable[[int], Awaitable[Sequence[_R]]]) -> None:
        self._newest = newest
        self._seen: Counter[str] = Counter()
        self._told: Counter[str] = Counter()

    async def start(self) -> None:
        """Take what stands in the store now as known."""
        self._seen = Counter(map(dump, await self._newest(_WINDOW)))

    def tell(self, records: Sequence[_R]) -> None:
        """Leave out ``records``, which were read after `start`: those that came in between were shown already."""
        self._told = Counter(map(dump, records)) - self._seen

    async def fresh(self) -> list[_R]:
        """Wait a moment, and return what came since the last look, oldest first."""
        await anyio.sleep(_INTERVAL)
        window, keys = await self._look()
        known = self._seen + self._told
        fresh: list[_R] = []
        for record, key in zip(window, keys, strict=True):
            if known[key]:
                known[key] -= 1
            else:
                fresh.append(record)
        self._seen = Counter(keys)
        self._told -= self._seen
        return fresh

    async def _look(self) -> tuple[Sequence[_R], list[str]]:
        """Read so many that the last look's records are among them, lest a burst is missed."""
        size = _WINDOW
        while True:
            window = await self._newest(size)
            keys = list(map(dump, window))
            if len(window) < size or not self._seen or not self._seen.keys().isdisjoint(keys):
                return window, keys
            size *= 4
