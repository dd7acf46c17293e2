"""A value that is reused for a while."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

__all__ = ["Cached"]

_T = TypeVar("_T")


class Cached(Generic[_T]):
    """The last answer to a question that costs something, and how long it serves everybody."""

    __slots__ = ("_fresh_until", "_key", "_seconds", "value")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._fresh_until = 0.0
        self._key: object = None
        self.value: _T

    def is_fresh(self, key: object = None) -> bool:
        """Return whether `value` was kept for ``key`` and is young enough."""
        return time.monotonic() < self._fresh_until and self._key == key

    def keep(self, value: _T, key: object = None) -> _T:
        """Keep a value from now on and return it."""
        self._fresh_until = time.monotonic() + self._seconds
        self._key = key
        self.value = value
        return value

    def forget(self) -> None:
        """Ask again next time."""
        self._fresh_until = 0.0
