"""The share of facts that were dropped recently. Until it is 0 again, the store is not healthy."""

from __future__ import annotations

import time
from dataclasses import dataclass

__all__ = ["WINDOW_SECONDS", "DroppedShare"]

WINDOW_SECONDS = 60.0
"""How far back the share reaches: at least this far, and at most twice as far."""


@dataclass(slots=True)
class _Counts:
    recorded: int = 0
    dropped: int = 0


class DroppedShare:
    """Facts that were recorded and dropped, in this window and the one before."""

    def __init__(self) -> None:
        self._before = _Counts()
        self._now = _Counts()
        self._until = time.monotonic() + WINDOW_SECONDS

    def count(self, *, recorded: int = 0, dropped: int = 0) -> None:
        """Count facts that were recorded or dropped just now."""
        self._turn()
        self._now.recorded += recorded
        self._now.dropped += dropped

    def share(self) -> float:
        """Return the share that was dropped, from 0 to 1."""
        self._turn()
        dropped = self._before.dropped + self._now.dropped
        return dropped / (dropped + self._before.recorded + self._now.recorded) if dropped else 0.0

    def _turn(self, at: float | None = None) -> None:
        late = (time.monotonic() if at is None else at) - self._until
        if late < 0:
            return
        self._before = self._now if late < WINDOW_SECONDS else _Counts()
        self._now = _Counts()
        self._until += WINDOW_SECONDS * (1 + late // WINDOW_SECONDS)
