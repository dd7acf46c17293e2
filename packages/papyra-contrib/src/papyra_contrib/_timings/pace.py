"""How often to measure a message, where measuring each would cost too much."""

from __future__ import annotations

import random

__all__ = ["Pace"]

MAX_GAP_SENDS = 2048
"""The greatest mean number of sends from one sample to the next."""


class Pace:
    """When to take the next sample. The gap adapts to the rate, and is drawn at random around its mean."""

    __slots__ = ("_interval", "_last", "_mean", "_rng", "passed")

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate
        self._last = 0.0
        self._mean = 1
        self._rng = random.Random()  # noqa: S311 - spreads samples, guards nothing
        self.passed = 1  # sends that the next sample represents

    def take(self, now: float) -> tuple[int, int]:
        """Return how many sends this sample represents, and after how many to take the next."""
        weight = self.passed
        elapsed, self._last = now - self._last, now
        if elapsed < self._interval and self._mean < MAX_GAP_SENDS:
            self._mean *= 2
        elif elapsed > 2 * self._interval and self._mean > 1:
            self._mean //= 2
        # Uniform from 1 to twice the mean: no rhythm of the program can hide from it.
        self.passed = gap = int(self._rng.random() * (2 * self._mean - 1)) + 1
        return weight, gap
