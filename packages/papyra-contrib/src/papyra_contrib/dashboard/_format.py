"""Numbers, times and texts in a readable form."""

from __future__ import annotations

import time
from math import isfinite

__all__ = ["DASH", "TIMES", "clock", "count", "counted", "moment", "rate", "short", "span"]


DASH = "\N{EN DASH}"
"""Shown for an unknown number."""

TIMES = "\N{MULTIPLICATION SIGN}"


def _finite(value: object) -> float | None:
    """Return a number, or None for anything else: another program may have written it into a record."""
    try:
        number = float(value) if isinstance(value, int | float) else None
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if number is not None and isfinite(number) else None


def count(number: object) -> str:
    """Return a whole number with its thousands; a dash for anything but a number."""
    known = _finite(number)
    return DASH if known is None else f"{known:,.0f}"


def counted(number: object, one: str) -> str:
    """Return how many there are of a thing, whose plural ends with an s."""
    return f"{count(number)} {one if number == 1 else one + 's'}"


MAX_NAME_CHARS = 100


def short(name: str) -> str:
    """Return a name, cut if it is too long for a row."""
    return name if len(name) <= MAX_NAME_CHARS else name[: MAX_NAME_CHARS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def rate(number: float | None) -> str:
    """Return a rate: with one digit after the point below 10."""
    if number is None:
        return DASH
    return f"{number:,.0f}" if number >= 9.95 or number < 0.05 else f"{number:.1f}"


def span(duration: object) -> str:
    """Return a duration in seconds in the unit that fits; a dash for anything but a number."""
    seconds = _finite(duration)
    if seconds is None:
        return DASH
    if seconds < 120 and seconds.is_integer():
        return f"{seconds:.0f} s"
    for limit, unit, factor in ((0.9995e-3, "µs", 1e6), (0.9995, "ms", 1e3)):
        if seconds < limit:
            return f"{seconds * factor:.0f} {unit}"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 2880 else f"{minutes / 1440:.0f} days"


def clock(timestamp: float | None) -> str:
    """Return the time of the day, in the zone of the server."""
    return _formatted(timestamp, "%H:%M:%S")


def moment(timestamp: float | None) -> str:
    """Return the date and the time of the day, in the zone of the server."""
    return _formatted(timestamp, "%Y-%m-%d %H:%M:%S")


def _formatted(timestamp: float | None, form: str) -> str:
    seconds = _finite(timestamp)
    if seconds is None:
        return DASH
    try:
        return time.strftime(form, time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # another program may have written any number
        return DASH
