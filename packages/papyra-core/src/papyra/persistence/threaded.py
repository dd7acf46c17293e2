"""A backend for stores with a blocking driver.

Write the blocking half of each method, and it runs in a thread.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, TypeVar

import anyio

from papyra.exceptions import PersistenceError
from papyra.persistence.batch import BatchBackend
from papyra.persistence.blocking import Work, run_blocking
from papyra.persistence.models import (
    PersistedRecord,
    PersistenceRecoveryConfig,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra.persistence.retention import RetentionPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from papyra.persistence.models import CompactionReport, PersistenceAnomaly
    from papyra.persistence.progress import Progress
    from papyra.persistence.query import Query

__all__ = ["ThreadedBackend"]

_R = TypeVar("_R", bound=PersistedRecord)
_T = TypeVar("_T")


class ThreadedBackend(BatchBackend):
    """The base of backends whose driver blocks: write the ``blocking_`` methods, which run in threads.

    Writes, recoveries and compactions run one at a time, beside up to `reads_at_once` reads. A `Work` comes
    with each call: pass its `check` in long loops, wrap a statement that can be interrupted in ``with
    work.interruptible(connection)``, and report progress with `Work.advance` or `Work.reach`. A cancelled
    caller returns when its thread has ended, so bound every wait. Writes, errors and maintenance are counted
    in `metrics`. Call ``super().__init__(retention_policy)``.
    """

    reads_at_once: ClassVar[int] = 4

    reports_progress: ClassVar[bool] = False
    """Whether `blocking_scan` and `blocking_compact` report their progress."""

    def __init__(self, retention_policy: RetentionPolicy | None = None) -> None:
        self.retention = retention_policy or RetentionPolicy()
        self._papyra_writes = anyio.CapacityLimiter(1)
        self._papyra_reads = anyio.CapacityLimiter(self.reads_at_once)
        self._papyra_closed = False
        self._papyra_reached = True

    # -- to write

    @abstractmethod
    def blocking_record_batch(
        self, work: Work, records: Sequence[PersistedRecord], batch_id: str | None
    ) -> int:
        """Store records in their order, all or none, and return their size in bytes as stored.

        Keep ``batch_id``, if there is one, in the same transaction, and skip a batch whose id the store has
        already.
        """

    @abstractmethod
    def blocking_select(self, work: Work, query: Query[_R], now: float) -> list[_R]:
        """Return the newest ``query.limit`` records that match and are kept at ``now``, oldest first."""

    @abstractmethod
    def blocking_compact(self, work: Work, now: float, *, dry_run: bool) -> CompactionReport:
        """Delete what `retention` does not keep at ``now``; with ``dry_run`` only report it."""

    def blocking_scan(self, work: Work) -> Sequence[PersistenceAnomaly]:
        """Return all damage, and change nothing. By default there is none."""
        return ()

    def blocking_recover(
        self, work: Work, config: PersistenceRecoveryConfig, *, dry_run: bool
    ) -> PersistenceRecoveryReport:
        """Repair damage as ``config`` allows; with ``dry_run`` only report it. By default there is none."""
        return PersistenceRecoveryReport(
            self._papyra_label, PersistenceScanReport(self._papyra_label, tuple(self.blocking_scan(work)))
        )

    @abstractmethod
    def blocking_close(self, work: Work) -> None:
        """Release everything. No write runs beside it; a read may. It is called again if `aclose` is."""

    def blocking_open(self, work: Work) -> None:
        """Connect, and make or migrate what the store needs. By default there is nothing to do."""

    def blocking_ping(self, work: Work) -> None:
        """Raise `PersistenceError` if the store is away or takes no records. By default nothing is asked."""

    # -- the contract

    async def open(self) -> None:
        """Connect, and make or migrate what the store needs."""
        self.refuse_if_closed()
        await self.run_write(self.blocking_open)

    async def ping(self) -> None:
        """Return if the store is there and takes records now.

        A `PersistenceError` says what is in the way.
        """
        self.refuse_if_closed()
        self._papyra_reached = False
        await self.run_write(self.blocking_ping)
        self._papyra_reached = True

    async def record_batch(self, records: Sequence[PersistedRecord], *, batch_id: str | None = None) -> None:
        """Store records in their order: all of them, or none if this raises."""
        self.refuse_if_closed()
        if not records:
            return
        try:
            written = await self.run_write(lambda work: self.blocking_record_batch(work, records, batch_id))
        except Exception as error:
            self.metrics.write_errors += 1
            self._papyra_reached = isinstance(error, PersistenceError) and error.retry is False
            raise
        self._papyra_reached = True
        self.metrics.records_written += len(records)
        self.metrics.bytes_written += written

    async def select(self, query: Query[_R]) -> list[_R]:
        """Return the newest ``query.limit`` records that match, oldest first."""
        self.refuse_if_closed()
        now = self.time_fn()
        return await self.run_read(lambda work: self.blocking_select(work, query, now))

    async def scan(self, *, progress: Progress | None = None) -> PersistenceScanReport:
        """Report all damage; change nothing."""
        self.refuse_if_closed()
        with self.metrics.counting("scan"):
            anomalies = tuple(await self.run_read(self.blocking_scan, progress=progress))
        self.metrics.anomalies_detected += len(anomalies)
        return PersistenceScanReport(self._papyra_label, anomalies)

    async def recover(
        self,
        config: PersistenceRecoveryConfig | None = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PersistenceRecoveryReport:
        """Repair what `scan` finds, as ``config`` allows; with ``dry_run`` only report it."""
        self.refuse_if_closed()
        allowed = config or PersistenceRecoveryConfig()
        run = self.run_read if dry_run else self.run_write
        with self.metrics.counting("recovery", dry_run=dry_run):
            return await run(
                lambda work: self.blocking_recover(work, allowed, dry_run=dry_run), progress=progress
            )

    async def compact(self, *, dry_run: bool = False, progress: Progress | None = None) -> CompactionReport:
        """Make retention physical and report before and after; with ``dry_run`` change nothing."""
        self.refuse_if_closed()
        now = self.time_fn()
        run = self.run_read if dry_run else self.run_write
        with self.metrics.counting("compaction", dry_run=dry_run):
            return await run(
                lambda work: self.blocking_compact(work, now, dry_run=dry_run), progress=progress
            )

    async def aclose(self) -> None:
        """Wait for the write that is going on and release everything; closing twice is fine."""
        self._papyra_closed = True
        with anyio.CancelScope(shield=True):  # a cancelled caller would leave connections open
            await self.run_write(self.blocking_close)

    def close_without_waiting(self) -> None:
        """Refuse further calls and release nothing, in a process that was forked.

        It has none of the threads.
        """
        self._papyra_closed = True

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._papyra_closed

    @property
    def healthy(self) -> bool:
        """Whether the last write or ping succeeded."""
        return self._papyra_reached

    # -- for methods of your own

    async def run_write(self, function: Callable[[Work], _T], *, progress: Progress | None = None) -> _T:
        """Return what ``function(work)`` returns in a thread, with no other write beside it."""
        return await run_blocking(function, Work(progress), limiter=self._papyra_writes)

    async def run_read(self, function: Callable[[Work], _T], *, progress: Progress | None = None) -> _T:
        """Return what ``function(work)`` returns in a thread."""
        return await run_blocking(function, Work(progress), limiter=self._papyra_reads)
