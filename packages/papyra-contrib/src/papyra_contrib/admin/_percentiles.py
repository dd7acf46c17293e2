"""Waiting and handling times of messages by type, measured while a client asks for them."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from papyra.exceptions import SystemNotRunning
from papyra_contrib._timings.histogram import quantile
from papyra_contrib._timings.timings import PapyraTimings

if TYPE_CHECKING:
    from papyra import ActorSystem
    from papyra.instruments import Target

__all__ = ["Percentiles"]

IDLE_SECONDS = 15.0
"""Without a request for this long, measuring stops."""

SPAN_SECONDS = 60.0
STEP_SECONDS = 5.0


class _WatchedTimings(PapyraTimings):
    """Timings that sleep, at no cost for sends, when no client has asked for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = time.monotonic()
        self.sleeps = False

    def send(self, target: Target, message: object, asks: bool) -> tuple[object, int]:
        """Take a sample, or none until a client asks again."""
        if time.monotonic() - self.looked > IDLE_SECONDS:
            self.sleeps = True
            return None, sys.maxsize
        return super().send(target, message, asks)

    async def run(self, system: ActorSystem) -> None:
        """Do nothing: the lag of the event loop is not measured here."""


class Percentiles:
    """The waits and durations of about the last minute, by type.

    The system's own `PapyraTimings` are read if it has some. Otherwise measuring starts with the first
    request, and stops after 15 s without one.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._own: _WatchedTimings | None = None
        self._before: deque[tuple[float, dict[tuple[str, str], list[int]]]] = deque()

    def look(self) -> dict[str, dict[str, float | None]]:
        """Return ``wait_p99``, ``takes_p50`` and ``takes_p99`` of each type, in seconds."""
        timings = self._timings()
        now = time.monotonic()
        counts = {
            (measure, name): list(histogram.counts)
            for measure, histograms in (("wait", timings.waits), ("takes", timings.durations))
            for name, histogram in histograms.all().items()
        }
        while len(self._before) > 1 and self._before[1][0] <= now - SPAN_SECONDS:
            self._before.popleft()
        earlier = self._before[0][1] if self._before else {}
        if not self._before or now - self._before[-1][0] >= STEP_SECONDS:
            self._before.append((now, counts))
        rows: dict[str, dict[str, float | None]] = {}
        for (measure, name), after in counts.items():
            before = earlier.get((measure, name), [0] * len(after))
            grown = [max(0, late - early) for late, early in zip(after, before, strict=True)]
            if not any(grown):
                grown = after  # without new measurements, older ones are better than none
            row = rows.setdefault(name, {})
            row[f"{measure}_p99"] = quantile(grown, 0.99)
            if measure == "takes":
                row["takes_p50"] = quantile(grown, 0.5)
        return rows

    def _timings(self) -> PapyraTimings:
        """Return the instrument to read, and wake our own if it sleeps."""
        for instrument in self._system.instruments:
            if isinstance(instrument, PapyraTimings) and instrument is not self._own:
                return instrument
        own = self._own or _WatchedTimings()
        try:
            if self._own is None:
                self._own = own
                self._system.add_instrument(own)
            elif own.sleeps:
                self._system.remove_instrument(own)
                own.sleeps = False
                self._system.add_instrument(own)
        except (SystemNotRunning, ValueError):  # it is closing, or removed the instrument after errors
            return own
        own.looked = time.monotonic()
        return own
