"""Counts over time in bounded memory, for any times in any order."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bars", "Timeline"]

# Seconds of a slot; each is a whole multiple of the one before, so that slots can be merged.
_STEPS = (
    *(0.001, 0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0),
    *(604_800.0, 2_419_200.0, 31_449_600.0, 314_496_000.0, 3_144_960_000.0),
)
_MAX_SLOTS = 1200  # of the last step, they hold more than 100,000 years
_FARTHEST = 1e11  # Unix time in seconds, 3,000 years: a number beyond it is not a date


@dataclass(frozen=True, slots=True)
class Bars:
    """Counts in equal spans of ``seconds``, the first of which begins at the Unix time ``start``."""

    start: float | None
    seconds: float | None
    facts: list[int]
    crashes: list[int]

    @property
    def end(self) -> float | None:
        """The Unix time at which the last span ends."""
        if self.start is None or self.seconds is None:
            return None
        return self.start + self.seconds * len(self.facts)

    def narrowed(self, most: int) -> Bars:
        """Return the same counts in at most ``most`` spans."""
        width = -(-len(self.facts) // most)
        if width <= 1 or self.seconds is None:
            return self
        return Bars(
            self.start, self.seconds * width, _grouped(self.facts, width), _grouped(self.crashes, width)
        )


def _grouped(counts: list[int], width: int) -> list[int]:
    return [sum(counts[begin : begin + width]) for begin in range(0, len(counts), width)]


class Timeline:
    """Counts facts, and crashes among them, in slots that widen as the times need it."""

    def __init__(self) -> None:
        self._step = 0
        self._facts: dict[int, int] = {}
        self._crashes: dict[int, int] = {}
        self._low = self._high = 0

    def add(self, timestamp: float, *, crash: bool) -> None:
        """Count one fact; a time that is not a date is left out."""
        if not -_FARTHEST < timestamp < _FARTHEST:  # also for NaN
            return
        slot = int(timestamp // _STEPS[self._step])
        self._low, self._high = (min(self._low, slot), max(self._high, slot)) if self._facts else (slot, slot)
        self._facts[slot] = self._facts.get(slot, 0) + 1
        if crash:
            self._crashes[slot] = self._crashes.get(slot, 0) + 1
        while self._high - self._low >= _MAX_SLOTS:
            self._widen()

    def bars(self, most: int) -> Bars:
        """Return the counts in at most ``most`` spans, as narrow as possible."""
        if not self._facts:
            return Bars(None, None, [], [])
        slots = self._high - self._low + 1
        width = -(-slots // most)
        seconds = _STEPS[self._step]
        facts, crashes = [0] * -(-slots // width), [0] * -(-slots // width)
        for counts, spans in ((self._facts, facts), (self._crashes, crashes)):
            for slot, number in counts.items():
                spans[(slot - self._low) // width] += number
        return Bars(self._low * seconds, width * seconds, facts, crashes)

    def _widen(self) -> None:
        factor = round(_STEPS[self._step + 1] / _STEPS[self._step])
        self._step += 1
        self._facts, self._crashes = _merged(self._facts, factor), _merged(self._crashes, factor)
        self._low, self._high = self._low // factor, self._high // factor


def _merged(counts: dict[int, int], factor: int) -> dict[int, int]:
    merged: dict[int, int] = {}
    for slot, number in counts.items():
        merged[slot // factor] = merged.get(slot // factor, 0) + number
    return merged
