"""Numbers, durations and sizes as people write them: in URLs, variables, files and options alike.

Every reader takes a string and raises `ValueError` with what it expected, and an example.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["count", "duration", "one_of", "size"]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def duration(text: str) -> float:
    """Read seconds (``"90"``, ``"1.5"``) or a number with a unit (``"250ms"``, ``"15m"``, ``"7d"``)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?", text.strip(), re.ASCII)
    if match is None:
        raise ValueError(
            "expected seconds or a number with one of the units ms, s, m, h, d, w, as in 90, 15m or 7d"
        )
    return float(match[1]) * _SECONDS[match[2] or "s"]


def size(text: str) -> int:
    """Read bytes (``"4096"``) or a number with a unit (``"100MB"``, ``"1GiB"``)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower(), re.ASCII)
    if match is None or match[2] not in _BYTES:
        raise ValueError(
            "expected bytes or a number with a unit such as KB, MB, GB, MiB, GiB, as in 4096 or 100MB"
        )
    whole, _, fraction = match[1].partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * _BYTES[match[2]] // scale  # exact, where a float would not be


def count(text: str) -> int:
    """Read a whole number of at least 0."""
    if not re.fullmatch(r"\d+", text.strip(), re.ASCII):
        raise ValueError("expected a whole number of at least 0, as in 1000")
    return int(text)


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a reader that takes just these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return read
