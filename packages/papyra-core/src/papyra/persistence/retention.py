"""How much of the record is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["RetentionPolicy"]


class _Timed(Protocol):
    @property
    def timestamp(self) -> float: ...


_R = TypeVar("_R", bound=_Timed)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Keep the newest records: apply the age limit, then the record count, then the stored size.

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
            if not value >= 0:  # NaN is not, either
                raise ValueError(f"{name} must not be negative, but is {value!r}; use None for no limit")

    @property
    def keeps_all(self) -> bool:
        """Whether there is no limit at all."""
        return self.max_records is None and self.max_age_seconds is None and self.max_total_bytes is None

    def oldest_kept(self, now: float) -> float:
        """Return the Unix time before which a record is too old at ``now``; ``-inf`` without an age limit."""
        if self.max_age_seconds is None:
            return -math.inf
        try:
            return now - self.max_age_seconds
        except OverflowError:  # an int beyond every float
            return -math.inf

    def kept(self, newest_first: Iterable[tuple[_R, int]], now: float) -> Iterator[tuple[_R, int]]:
        """Yield the records that are kept at ``now``, newest first, each with its size in bytes.

        Takes no more from ``newest_first`` than needed, so that a store may pass a reader of its end.
        """
        oldest = self.oldest_kept(now)
        count = math.inf if self.max_records is None else self.max_records
        left = math.inf if self.max_total_bytes is None else self.max_total_bytes
        for record, size in newest_first if count else ():
            if record.timestamp < oldest:
                continue  # and look further: clocks go back, so an older record may have a younger time
            left -= size
            if left < 0:
                return
            yield record, size
            count -= 1
            if not count:
                return

    def newest_kept(self, newest_first: Iterable[_R], now: float, size: Callable[[_R], int]) -> list[_R]:
        """Return the records that are kept at ``now``, newest first; ``size`` returns a record's bytes.

        Takes no more from ``newest_first`` than needed, and asks for sizes only if they are limited.
        """
        measured = self.max_total_bytes is not None
        sized = ((record, size(record) if measured else 0) for record in newest_first)
        return [record for record, _ in self.kept(sized, now)]
