"""How long messages wait and are handled, from a sample of them."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

from papyra.instruments import Instrument
from papyra_contrib._timings.histogram import Histograms
from papyra_contrib._timings.pace import Pace

if TYPE_CHECKING:
    from papyra import ActorSystem
    from papyra.instruments import Target

__all__ = ["PapyraTimings"]

LAG_PERIOD_SECONDS = 0.5
LAG_MEMORY = 30
"""Measurements of the event loop's lag that are kept: the greatest of 15 s is reported."""


class PapyraTimings(Instrument):
    """Measures how long messages wait in mailboxes and are handled, about ``rate`` of them in a second.

    The share that is measured falls as the rate of messages rises, to one in about 2,048; each sample counts
    for the messages that it represents. Long messages that are rare may be missed; `ActorSystem.busy` does
    not miss them. It also measures the lag of the event loop.
    """

    def __init__(self, rate: float = 200) -> None:
        if not rate > 0:
            raise ValueError(f"rate must be more than 0 samples a second, not {rate!r}")
        self.waits = Histograms()
        self.durations = Histograms()
        self._paces = (Pace(rate), Pace(rate))  # of tells and of asks
        self._lags: deque[float] = deque(maxlen=LAG_MEMORY)

    @property
    def loop_lag(self) -> float:
        """By how many seconds the event loop was late, at most, in the last 15 s."""
        return max(tuple(self._lags), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return all that was measured, as plain data."""
        return {
            "waits": self.waits.to_dict(),
            "durations": self.durations.to_dict(),
            "loop_lag": self.loop_lag,
        }

    def send(self, target: Target, message: object, asks: bool) -> tuple[object, int]:
        """Take a sample."""
        now = time.perf_counter()
        weight, gap = self._paces[asks].take(now)
        return [weight, now], gap

    def begin(self, target: Target, mark: Any) -> None:
        """Measure how long the message has waited."""
        now = time.perf_counter()
        self.waits.of(_type_of(target)).observe(now - mark[1], mark[0])
        mark[1] = now

    def end(self, target: Target, mark: Any, error: BaseException | None) -> None:
        """Measure how long it was handled."""
        self.durations.of(_type_of(target)).observe(time.perf_counter() - mark[1], mark[0])

    async def run(self, system: ActorSystem) -> None:
        """Measure the lag of the event loop."""
        while True:
            due = time.perf_counter() + LAG_PERIOD_SECONDS
            await anyio.sleep(LAG_PERIOD_SECONDS)
            self._lags.append(max(0.0, time.perf_counter() - due))


def _type_of(target: Target) -> str:
    kind = target.actor_type
    return kind.__name__ if kind is not None else "Actor"
