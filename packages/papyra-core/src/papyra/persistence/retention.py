"""How much of the record is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["RetentionPolicy"]


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Keep the newest records: first those young enough, of them so many, of them so many bytes as stored.

    The limits hold for all records of a store together. Age is in seconds of Unix time; ``None`` means no
    limit. Reads apply the policy; compaction makes it physical. Negative limits are a `ValueError`.
    """

    max_records: int | None = None
    max_age_seconds: float | None = None
    max_total_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_records", "max_age_seconds", "max_total_bytes"):
            value = getattr(self, name)
            if value is None:
                continue
            number = isinstance(value, int | float) if name == "max_age_seconds" else isinstance(value, int)
            if not number or isinstance(value, bool):
                raise ValueError(f"{name} must be a number or None, not {value!r}")
            if math.isnan(value) or value < 0:
                raise ValueError(f"{name} must not be negative, but is {value!r}; use None for no limit")

    @property
    def keeps_all(self) -> bool:
        """Whether there is no limit at all."""
        return self.max_records is None and self.max_age_seconds is None and self.max_total_bytes is None

    def oldest_kept(self, now: float) -> float:
        """Return the Unix time before which a record is too old at ``now``; ``-inf`` without an age limit."""
        return -math.inf if self.max_age_seconds is None else now - self.max_age_seconds
