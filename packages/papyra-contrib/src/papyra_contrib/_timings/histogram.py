"""Histograms of seconds, by actor type, that one thread writes and any thread reads."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["BOUNDS_SECONDS", "Histogram", "Histograms", "quantile"]

BOUNDS_SECONDS = (
    *(float(f"{factor}e{power}") for power in range(-6, 1) for factor in (1, 2.5, 5)),
    10.0,
)
"""Upper bounds of the buckets: 22, from 1 us to 10 s."""

MAX_TYPES = 100
OTHER = "(other)"


class Histogram:
    """Counts of observations by bucket, weighted with the number of messages that each represents."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float, weight: int) -> None:
        """Count ``weight`` messages that took ``seconds``."""
        self.counts[bisect_left(BOUNDS_SECONDS, seconds)] += weight
        self.seconds += seconds * weight

    def buckets(self) -> list[tuple[str, float]]:
        """Return the bounds and the cumulative counts, in the form of Prometheus."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(_bound, BOUNDS_SECONDS), "+Inf"), list(self.counts), strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets


class Histograms:
    """One histogram for each of the first 100 types, and one for the rest."""

    def __init__(self) -> None:
        self._by_type: dict[str, Histogram] = {}

    def of(self, actor_type: str) -> Histogram:
        """Return the histogram of a type."""
        histogram = self._by_type.get(actor_type)
        if histogram is None:
            name = actor_type if len(self._by_type) < MAX_TYPES else OTHER
            histogram = self._by_type.setdefault(name, Histogram())
        return histogram

    def all(self) -> Mapping[str, Histogram]:
        """Return a copy of the list of types, with their histograms."""
        return dict(self._by_type)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the seconds by type, as plain data."""
        return {
            actor_type: {"counts": list(histogram.counts), "seconds": histogram.seconds}
            for actor_type, histogram in self.all().items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build histograms from the result of `to_dict`; raise `ValueError` for anything else."""
        histograms = cls()
        for actor_type, values in data.items():
            histogram = histograms.of(actor_type)
            if len(values["counts"]) != len(histogram.counts):
                raise ValueError(
                    f"a histogram has {len(histogram.counts)} counts, not {len(values['counts'])}"
                )
            histogram.counts = [int(count) for count in values["counts"]]
            histogram.seconds = float(values["seconds"])
        return histograms


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return the seconds that a share of the observations does not exceed; None without observations.

    Within a bucket, the observations are assumed to be spread evenly, as in Prometheus.
    """
    wanted = sum(counts) * share
    if not wanted:
        return None
    totals = list(accumulate(counts))
    index = bisect_left(totals, wanted)
    low = BOUNDS_SECONDS[index - 1] if index else 0.0
    high = BOUNDS_SECONDS[min(index, len(BOUNDS_SECONDS) - 1)]
    return high - (high - low) * (totals[index] - wanted) / counts[index]


def _bound(seconds: float) -> str:
    return repr(seconds)
