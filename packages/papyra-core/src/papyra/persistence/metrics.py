"""Counters of a store of facts."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["PersistenceMetrics"]


@dataclass(slots=True)
class PersistenceMetrics:
    """What a backend did since it was opened; each counter only grows.

    A backend counts what it does; the system adds what it had to drop before the backend saw it.
    """

    records_written: int = 0
    bytes_written: int = 0
    scans: int = 0
    anomalies_detected: int = 0
    recoveries: int = 0
    compactions: int = 0
    write_errors: int = 0
    scan_errors: int = 0
    recovery_errors: int = 0
    compaction_errors: int = 0
    records_dropped: int = 0

    def snapshot(self) -> dict[str, int]:
        """Return the counters as they are now."""
        return asdict(self)
