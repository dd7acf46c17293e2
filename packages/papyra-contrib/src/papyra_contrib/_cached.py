"""A value that is kept for some seconds."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

__all__ = ["Cached"]

_T = TypeVar("_T")


class Cached(Generic[_T]):
    """A value that is reused for ``seconds``. There is none before the first `keep`."""

    __slots__ = ("_fresh_until", "_key", "_seconds", "value")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._fresh_until = 0.0
        self._key: object = None
        self.value: _T

    def is_fresh(self, key: object = None) -> bool:
        """Return whether the value was kept for ``key`` and is younger than ``seconds``."""
        return time.monotonic() < self._fresh_until and self._key == key

    def keep(self, value: _T, key: object = None) -> _T:
        """Keep a value for ``key`` from now on, and return it."""
        self._fresh_until = time.monotonic() + self._seconds
        self._key = key
        self.value = value
        return value

    def forget(self) -> None:
        """Make the value stale: `is_fresh` returns False until the next `keep`."""
        self._fresh_until = 0.0
