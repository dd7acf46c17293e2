"""Values over the last two minutes, and their lines on a page."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MINUTE_SECONDS", "SPAN_SECONDS", "Series", "Spark", "spark"]

SPAN_SECONDS = 120.0
MINUTE_SECONDS = 60.0

MIN_SPAN_SECONDS = 20.0
GAP_SECONDS = 5.0
"""No line is drawn between two looks that are farther apart."""

WIDTH, HEIGHT = 180.0, 28.0
PADDING = 2.0


class Spark:
    """A sparkline: the points of its lines and of its area, and what it shows in words."""

    __slots__ = ("areas", "lines", "text")

    def __init__(self, lines: list[str], areas: list[str], text: str) -> None:
        self.lines = lines
        self.areas = areas
        self.text = text


class Series:
    """A value of the last two minutes, about one point a second."""

    __slots__ = ("points",)

    def __init__(self) -> None:
        self.points: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float) -> None:
        """Note a value."""
        points = self.points
        points.append((now, value))
        while points[0][0] < now - SPAN_SECONDS:
            points.popleft()

    def grown(self, value: float, now: float) -> float:
        """Return the growth of a counter in the last minute, or since the first look in it."""
        since = now - MINUTE_SECONDS
        before = next((earlier for when, earlier in self.points if when >= since), value)
        return max(0.0, value - before)


def spark(points: Iterable[tuple[float, float]], *, floor: float | None = 0.0) -> Spark:
    """Return the line through points of a time and a value; its scale begins at ``floor``."""
    all_points = list(points)
    if not all_points:
        return Spark([], [], "no values yet")
    now, values = all_points[-1][0], [value for _, value in all_points]
    span = min(SPAN_SECONDS, max(MIN_SPAN_SECONDS, now - all_points[0][0]))
    low = min(values) if floor is None else min(floor, *values)
    high = max(values)
    scale = (HEIGHT - 2 * PADDING) / (high - low) if high > low else 0.0
    flat = HEIGHT - PADDING if high <= 0 else PADDING  # a line of zeros at the bottom, others at the top

    def place(when: float, value: float) -> tuple[float, float]:
        x = WIDTH * (1 - (now - when) / span)
        return x, HEIGHT - PADDING - (value - low) * scale if scale else flat

    pieces: list[list[tuple[float, float]]] = []
    before = None
    for when, value in all_points:
        if before is None or when - before > GAP_SECONDS:
            pieces.append([])
        pieces[-1].append(place(when, value))
        before = when
    lines = [" ".join(f"{x:.1f},{y:.1f}" for x, y in piece) for piece in pieces]
    areas = [
        f"{piece[0][0]:.1f},{HEIGHT:.0f} {line} {piece[-1][0]:.1f},{HEIGHT:.0f}"
        for piece, line in zip(pieces, lines, strict=True)
    ]
    text = (
        f"{_short(values[-1])} now, between {_short(min(values))} and {_short(high)} in the last {span:.0f} s"
    )
    return Spark(lines, areas, text)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:,.1f}"
