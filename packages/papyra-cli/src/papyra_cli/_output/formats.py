"""Times, spans, counts and sizes as people write and read them."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from datetime import time as clock

__all__ = [
    "count",
    "duration_with_unit",
    "figure",
    "format_span",
    "format_time",
    "odd_moment",
    "read_moment",
    "size",
    "size_with_unit",
]

_DAYS = {"today": 0, "yesterday": 1}
_FIRST_UNIX_TIME = 1e8  # 1973: a smaller number is a span without its unit
_YEAR_1980 = 315_532_800.0
_SPANS = ((86400.0 * 365, "y"), (86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))


def format_time(timestamp: float, style: str, now: float | None = None) -> str:
    """Return a Unix time in a format.

    ``iso`` is local, with its offset; ``brief`` is local; ``relative`` is to ``now``.
    """
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
    """Read a moment: ISO 8601, ``02:00``, ``today``, ``yesterday``, ``15m`` ago, or Unix time.

    ISO 8601 is local without an offset. A time of day is the latest one that has come, perhaps yesterday's.
    Eight digits are a date, ``20260701``. A number that is neither a date nor a Unix time of 1973 or later
    lacks its unit. Anything else is a `ValueError` that says so.
    """
    text = text.strip()
    try:
        return _moment(text)
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            "expected Unix time, ISO 8601 as in 2026-07-01T12:00, a time of day as in 02:00, today, yesterday, "
            "or a span ago as in 15m (units ms, s, m, h, d, w)"
        ) from None


def _moment(text: str) -> float:
    from papyra.units import duration

    if text in _DAYS:
        return (_midnight() - timedelta(days=_DAYS[text])).timestamp()
    if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text, re.ASCII):
        hour, _, rest = text.partition(":")
        return _latest(f"{hour:0>2}:{rest}")
    if text[-1:].isalpha() and text[:1].isdigit() and text[-1] not in "Zz":
        return time.time() - duration(text)
    if text.replace(".", "", 1).isdecimal() and text.isascii() and len(text) != 8:
        moment = float(text)
        if 0 < moment < _FIRST_UNIX_TIME:
            raise ValueError
        return moment
    return datetime.fromisoformat(text).timestamp()


def _midnight() -> datetime:
    return datetime.combine(datetime.now().date(), datetime.min.time())


def _latest(text: str) -> float:
    """Return the latest moment at which a local clock showed this time of day."""
    moment = datetime.combine(_midnight().date(), clock.fromisoformat(text))
    return (moment if moment <= datetime.now() else moment - timedelta(days=1)).timestamp()


def odd_moment(moment: float) -> str:
    """Return what is odd about a moment that a user gave, "" if nothing is."""
    if moment > time.time() + 1:
        return "lies in the future"
    return "lies before 1980" if moment < _YEAR_1980 else ""


def duration_with_unit(text: str) -> float:
    """Read a span of time as in ``15m`` or ``1.5h``; a number without a unit is a `ValueError`."""
    from papyra.units import duration

    if not text.strip()[-1:].isalpha() and text.strip() != "0":
        raise ValueError("expected a number with a unit (ms, s, m, h, d, w), as in 30s, 15m or 7d")
    return duration(text)


def size_with_unit(text: str) -> int:
    """Read a size as in ``100MB`` or ``1GiB``; a number without a unit is a `ValueError`."""
    from papyra import units

    if not text.strip()[-1:].isalpha():
        raise ValueError("expected a number with a unit (B, KB, MB, GB, KiB, MiB, GiB), as in 4096B or 100MB")
    return units.size(text)


def count(number: int, one: str, many: str) -> str:
    """Return a number with the right form of what it counts."""
    return f"{number:,} {one if number == 1 else many}"


def figure(number: int, *, drawn: bool) -> str:
    """Return a number with its thousands apart for a person, and plain for a program that reads a pipe."""
    return f"{number:,}" if drawn else str(number)


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
