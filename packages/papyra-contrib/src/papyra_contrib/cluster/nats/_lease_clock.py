"""The clock that leases are measured on."""

from __future__ import annotations

import time

__all__ = ["lease_clock"]

if hasattr(time, "CLOCK_BOOTTIME"):

    def lease_clock() -> float:
        """Return seconds on a clock that also runs while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:  # pragma: no cover - not on Linux

    def lease_clock() -> float:
        """Return seconds on the monotonic clock: this system has no clock that runs during suspends."""
        return time.monotonic()
