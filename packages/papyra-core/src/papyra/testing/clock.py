"""A clock that moves when a test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ManualClock"]


class ManualClock:
    """Give it to ``ActorSystem(time_fn=...)``: time-outs, backoff, restart windows and retention follow it.

    It starts at ``start`` (Unix time, seconds) and does not move until `advance` is called.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._attached: list[Callable[[], None]] = []

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on, and make every call that became due.

        What they set in motion runs as the event loop goes on.
        """
        if not seconds >= 0:
            raise ValueError(f"time only moves forward; advance() takes at least 0 seconds, not {seconds!r}")
        self._now += seconds
        for advanced in list(self._attached):
            advanced()

    def attach(self, advanced: Callable[[], None]) -> None:
        """Call ``advanced`` whenever time has moved on. The runtime uses it."""
        self._attached.append(advanced)

    def detach(self, advanced: Callable[[], None]) -> None:
        """Stop calling ``advanced``."""
        if advanced in self._attached:
            self._attached.remove(advanced)
