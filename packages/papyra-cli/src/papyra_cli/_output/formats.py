"""Times, spans, counts and sizes as people write and read them."""

from __future__ import annotations

import time
from datetime import datetime

__all__ = ["count", "format_span", "format_time", "read_moment", "size"]

_SPANS = ((86400.0 * 365, "y"), (86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))


def format_time(timestamp: float, style: str, now: float | None = None) -> str:
    """Return Unix time as ``unix``, ``iso`` (local, with its offset), ``brief`` (local) or ``relative`` to ``now``."""
    if style == "unix":
        return repr(timestamp)
    try:
        if style == "relative":
            return _relative((time.time() if now is None else now) - timestamp)
        moment = datetime.fromtimestamp(timestamp)
        if style == "brief":
            return moment.isoformat(timespec="seconds")
        return moment.astimezone().isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return repr(timestamp)  # a store may hold any number: years that no calendar has, nan, inf


def _relative(seconds: float) -> str:
    size = abs(seconds)
    for span, unit in _SPANS:
        if size >= span:
            text = f"{int(size / span)}{unit}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "now"


def format_span(seconds: float) -> str:
    """Return a span of time in its two largest units, as in ``2d 4h`` or ``20ms``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    parts: list[str] = []
    left = round(seconds)
    for span, unit in _SPANS:
        number, left = divmod(left, round(span))
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])


def read_moment(text: str) -> float:
    """Read a moment: Unix time, ISO 8601 (local without an offset), or a span ago such as ``15m``.

    Eight digits are a date, ``20260701``. Anything else is a `ValueError` that says so.
    """
    from papyra.persistence.url import duration

    text = text.strip()
    try:
        if text[-1:].isalpha() and text[:1].isdigit() and text[-1] not in "Zz":
            return time.time() - duration(text)
        if text.replace(".", "", 1).isdecimal() and text.isascii() and len(text) != 8:
            return float(text)
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            "expected Unix time, ISO 8601 as in 2026-07-01T12:00, or a span ago as in 15m (units ms, s, m, h, d, w)"
        ) from None


def count(number: int, one: str, many: str) -> str:
    """Return a number with the right form of what it counts."""
    return f"{number:,} {one if number == 1 else many}"


def size(number: int | None) -> str:
    """Return bytes for people, in the units that ``--max-bytes`` reads."""
    if number is None:
        return "-"
    amount, unit = float(number), "B"
    for bigger in ("KB", "MB", "GB", "TB"):
        if abs(amount) < 1000:
            break
        amount, unit = amount / 1000, bigger
    return f"{number} B" if unit == "B" else f"{amount:.1f} {unit}"
