"""Numbers, times and texts as a person reads them."""

from __future__ import annotations

import time
from math import isfinite

__all__ = ["DASH", "TIMES", "clock", "count", "moment", "printable", "rate", "span"]


DASH = "\N{EN DASH}"
"""Stands for a number that is not known."""

TIMES = "\N{MULTIPLICATION SIGN}"


def printable(text: str) -> str:
    """Return a text with every character that is not printable as a backslash escape, as the command does.

    Escaped are control characters, bidi controls and other invisible format characters, line separators, lone
    surrogates and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def count(number: float | None) -> str:
    """Return a whole number with its thousands; a dash for None."""
    return DASH if number is None else f"{number:,.0f}"


def rate(number: float | None) -> str:
    """Return a rate: with one digit after the point below 10."""
    if number is None:
        return DASH
    return f"{number:,.0f}" if number >= 9.95 or number < 0.05 else f"{number:.1f}"


def span(seconds: float | None) -> str:
    """Return a duration in the unit that fits."""
    if seconds is None:
        return DASH
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
    if timestamp is None or not isfinite(timestamp):
        return DASH
    try:
        return time.strftime(form, time.localtime(timestamp))
    except (OverflowError, ValueError, OSError):  # another program may have written any number
        return DASH
