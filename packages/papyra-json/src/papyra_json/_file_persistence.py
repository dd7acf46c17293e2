"""What the two file backends share: all but how many files there are."""

from __future__ import annotations

import weakref
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio

from papyra.exceptions import PersistenceError
from papyra.persistence.batch import BatchBackend
from papyra.persistence.blocking import Work, run_blocking
from papyra.persistence.following import INTERVAL
from papyra.persistence.models import (
    PersistedRecord,
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
)
from papyra.persistence.query import Query
from papyra.persistence.retention import RetentionPolicy
from papyra.persistence.url import duration, one_of
from papyra_json._arguments import Durability, check_durability, checked_path
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance import operations
from papyra_json._read.batches import Feed, newest_first
from papyra_json._read.follow import follow
from papyra_json._read.query import newest
from papyra_json._write.appender import Appender
from papyra_json._write.committer import Committer

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from typing import Any

    from papyra.persistence.models import CompactionReport, PersistenceScanReport
    from papyra.persistence.progress import Progress

__all__ = ["DURABILITY_OPTIONS", "Durability", "FilePersistence"]

DURABILITY_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "durability": one_of("os", "interval", "always"),
    "fsync_interval": duration,
}
"""The options of both backends in a URL."""

_T = TypeVar("_T")
_R = TypeVar("_R", bound=PersistedRecord)


class FilePersistence(BatchBackend):
    """A store in NDJSON files; see `JsonFilePersistence` and `RotatingFilePersistence`.

    Making one touches nothing on the disk: the first record makes the file, the folders above it and the
    lock file. Reading what is not there yet finds nothing, and no damage.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_files: int,
        max_bytes: int | None,
        retention_policy: RetentionPolicy | None,
        durability: Durability,
        fsync_interval: float,
    ) -> None:
        check_durability(durability, fsync_interval)
        self._path = checked_path(path)
        self.retention = retention_policy or RetentionPolicy()
        self._closed = False
        self.files = FileSet(self._path, max_files)
        self._appender = Appender(
            self.files,
            sync_each=durability == "always",
            sync_later=durability == "interval",
            max_bytes=max_bytes,
        )
        self._committer = Committer(
            self._appender,
            self.metrics,
            str(self._path),
            fsync_interval if durability == "interval" else None,
        )
        # For who forgets aclose(): the thread must not outlive the backend.
        weakref.finalize(self, self._committer.abandon).atexit = False

    # -- writing

    async def record_batch(self, records: Sequence[PersistedRecord], *, batch_id: str | None = None) -> None:
        """Store records in their order, with one write for all that wait.

        None is stored if this raises, unless it is a `PartialWriteError`. A caller that is cancelled leaves
        its records to be stored whole, or not at all.
        """
        self.refuse_if_closed()
        if records:
            await self._committer.store(records)

    async def flush(self) -> None:
        """Return once every acknowledged record is as durable as ``durability`` says."""
        self.refuse_if_closed()
        await self._committer.sync()

    async def aclose(self) -> None:
        """Store what waits, flush, and release everything; being cancelled does not cut this short.

        A `PersistenceError` says that the last sync failed; everything is released all the same. If another process
        holds the lock for 10 more seconds, what waits is not stored, and its callers hear so.
        """
        self._closed = True
        await self._committer.close()

    # -- reading

    async def select(self, query: Query[_R]) -> list[_R]:
        """Return the newest ``query.limit`` records that match, oldest first."""
        self.refuse_if_closed()
        now = self.time_fn()
        return await self._in_thread(
            "read", lambda work: newest(self.files, query, self.retention, now, work.check), Work()
        )

    async def follow(
        self, *, limit: int = 0, wanted: Callable[[PersistedRecord], bool] | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield the newest ``limit`` records, oldest first, and then each new one, until the backend is closed.

        ``wanted`` is called in a worker thread. Every new record comes once and in order, while other processes append,
        rotate, compact, recover, move files away or delete them; the last ones before `aclose` come, too. Records
        without ``seq`` (those of the published package) are told apart by their content: of equal ones, some
        may be left out where a file is replaced just then.
        """
        self.refuse_if_closed()
        if limit < 0:
            raise ValueError(f"limit must not be negative, but is {limit}")
        policy, now = self.retention, self.time_fn()
        files = await self._in_thread("read", lambda _: self._files_to_follow(), Work())
        with closing(Feed(lambda work: follow(files, limit, wanted or _any, policy, now, work))) as feed:
            while True:
                ending = self._closed  # then this look is the last one
                while block := await self._in_thread("read", lambda _: feed.draw(), feed.work):
                    for record in block:
                        yield record
                if ending:
                    return
                await anyio.sleep(INTERVAL)

    def _files_to_follow(self) -> FileSet:
        return self.files

    async def stream(
        self, *, since: float | None = None, until: float | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield every kept record between two Unix times, newest first, with some thousand of them in memory."""
        self.refuse_if_closed()
        query: Query[PersistedRecord] = Query(since=since, until=until)
        policy, now = self.retention, self.time_fn()
        with closing(Feed(lambda work: newest_first(self.files, query, policy, now, work))) as feed:
            while block := await self._in_thread("read", lambda _: feed.draw(), feed.work):
                for record in block:
                    yield record

    # -- care

    async def scan(self, *, progress: Progress | None = None) -> PersistenceScanReport:
        """Report all damage; write nothing, whatever others write meanwhile."""
        self.refuse_if_closed()
        with self.metrics.counting("scan"):
            report = await self._in_thread(
                "scanned", lambda work: operations.scan(self.files, self.name, work), Work(progress)
            )
        self.metrics.anomalies_detected += len(report.anomalies)
        return report

    async def recover(
        self,
        config: PersistenceRecoveryConfig | None = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PersistenceRecoveryReport:
        """Drop what is no valid record, and keep every valid one byte for byte.

        With ``QUARANTINE`` what is dropped goes to quarantine files first, with ``REPAIR`` only that of files without a
        single record, which may be somebody else's; ``IGNORE``, which is also what no
        ``config`` means, only scans. To be interrupted, or called again, does no harm.
        """
        config = config or PersistenceRecoveryConfig()
        mode = PersistenceRecoveryMode(config.mode)
        if mode is PersistenceRecoveryMode.IGNORE:
            return PersistenceRecoveryReport(self.name, await self.scan(progress=progress))
        self.refuse_if_closed()
        folder = None if config.quarantine_dir is None else _absolute(config.quarantine_dir)
        with self.metrics.counting("recovery", dry_run=dry_run):
            report = await self._in_thread(
                "recovered",
                lambda work: operations.recover(self.files, self.name, mode, folder, work, dry_run=dry_run),
                Work(progress),
            )
        self.metrics.anomalies_detected += len(report.scan.anomalies)
        return report

    async def compact(self, *, dry_run: bool = False, progress: Progress | None = None) -> CompactionReport:
        """Drop what the retention policy does not keep; what is no valid record goes to the quarantine."""
        self.refuse_if_closed()
        policy, now = self.retention, self.time_fn()
        with self.metrics.counting("compaction", dry_run=dry_run):
            return await self._in_thread(
                "compacted",
                lambda work: operations.compact(self.files, self.name, policy, now, work, dry_run=dry_run),
                Work(progress),
            )

    # -- facts about the backend itself

    @property
    def path(self) -> Path:
        """The file, or the youngest of the set; absolute."""
        return self._path

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    @property
    def healthy(self) -> bool:
        """Whether every sync to the disk succeeded."""
        return self._appender.healthy

    def refuse_if_closed(self) -> None:
        if self._closed:
            raise PersistenceError(f"the store {self._path} is closed; open a new one")

    async def _in_thread(self, done: str, function: Callable[[Work], _T], work: Work) -> _T:
        def explained(work: Work) -> _T:
            try:
                return function(work)
            except OSError as error:
                raise PersistenceError(f"{self._path} could not be {done}: {error}") from error

        return await run_blocking(explained, work, abandon=True)


def _any(_: PersistedRecord) -> bool:
    return True


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(path).absolute()
