"""Counters of a store of facts."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Generator

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

    @contextmanager
    def counting(
        self, work: Literal["scan", "recovery", "compaction"], *, dry_run: bool = False
    ) -> Generator[None]:
        """Count the work in the block: as done, or as an error if it raises; a ``dry_run`` is not counted."""
        try:
            yield
        except Exception:
            if not dry_run:
                self.scan_errors += work == "scan"
                self.recovery_errors += work == "recovery"
                self.compaction_errors += work == "compaction"
            raise
        if not dry_run:
            self.scans += work == "scan"
            self.recoveries += work == "recovery"
            self.compactions += work == "compaction"

    def reset(self) -> None:
        """Set every counter to 0."""
        for name in asdict(self):
            setattr(self, name, 0)

    def snapshot(self) -> dict[str, int]:
        """Return the counters as they are now."""
        return asdict(self)
