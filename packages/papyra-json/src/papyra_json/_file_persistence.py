"""The common part of the two file backends: everything except the number of files."""

from __future__ import annotations

import math
import os
import weakref
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, get_args

import anyio

from papyra.exceptions import PersistenceError
from papyra.persistence.batch import BatchBackend
from papyra.persistence.blocking import Work, run_blocking
from papyra.persistence.files import file_kind
from papyra.persistence.following import INTERVAL, following_of
from papyra.persistence.models import (
    PersistedRecord,
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
)
from papyra.persistence.paging import Page, check_page_limit
from papyra.persistence.query import Query
from papyra.persistence.retention import RetentionPolicy
from papyra.persistence.url import check_path, duration, one_of
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance import operations
from papyra_json._read.batches import Feed
from papyra_json._read.follow import follow
from papyra_json._read.paging import Pager
from papyra_json._read.query import count_matching, newest, newest_first
from papyra_json._write.appender import Appender
from papyra_json._write.committer import Committer
from papyra_json._write.probe import probe

if TYPE_CHECKING:
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

Durability: TypeAlias = Literal["os", "interval", "always"]

_T = TypeVar("_T")
_R = TypeVar("_R", bound=PersistedRecord)


class FilePersistence(BatchBackend):
    """A store in NDJSON files; see `JsonFilePersistence` and `RotatingFilePersistence`.

    A new object touches nothing on the disk: the first record creates the file, its folders and the lock
    file. Reading a store that does not exist yet finds no records and no damage.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_files: int | None,
        max_bytes: int | None,
        retention_policy: RetentionPolicy | None,
        durability: Durability,
        fsync_interval: float,
    ) -> None:
        _check_durability(durability, fsync_interval)
        self._path = _checked_path(path)
        self.retention = retention_policy or RetentionPolicy()
        self._closed = False
        self._pager = Pager()
        self._writable = True  # as the last probe found it
        self.files = FileSet(self._path, max_files, rotating=max_bytes is not None)
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
        # If aclose() is forgotten, the thread must not outlive the backend.
        weakref.finalize(self, self._committer.abandon).atexit = False

    async def ping(self) -> None:
        """Return if a record could be written now; a `PersistenceError` says what is in the way.

        Writes and syncs a temporary file beside the store, and no record. `healthy` is false until a later
        probe succeeds.
        """
        self.refuse_if_closed()
        self._writable = False
        await self._in_thread("probed", lambda _: probe(self._path), Work())
        self._writable = True

    # -- writing

    async def record_batch(self, records: Sequence[PersistedRecord], *, batch_id: str | None = None) -> None:
        """Store records in their order, with one write for all waiting batches.

        If this raises, no record is stored, unless the error is a `PartialWriteError`. If the caller is
        cancelled, its records are stored as a whole, or not at all.
        """
        self.refuse_if_closed()
        if records:
            await self._committer.store(records)

    async def flush(self) -> None:
        """Return once every acknowledged record is as durable as ``durability`` says."""
        self.refuse_if_closed()
        await self._committer.sync()

    async def aclose(self) -> None:
        """Store the waiting batches, flush, and release everything, in a cancelled scope too.

        A `PersistenceError` says that the last sync failed; everything is released all the same. If another
        process holds the lock for 10 more seconds, or until the deadline of the scope that this is called in,
        the waiting batches are not stored and their callers get an error.
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

    async def count(self, query: Query[Any]) -> int:
        """Return how many records match and are kept, at most ``query.limit``; none is held in memory."""
        self.refuse_if_closed()
        now = self.time_fn()
        return await self._in_thread(
            "read", lambda work: count_matching(self.files, query, self.retention, now, work.check), Work()
        )

    async def page(self, query: Query[_R], *, after: str | None = None, limit: int = 1000) -> Page[_R]:
        """Return the first ``limit`` records after a cursor that match and are kept, in the order of writing.

        Only they are in memory. A cursor stays good over restarts, rotations and compactions; in a store that
        was made anew all records are new. Of several equal records without ``seq`` (those of the published
        package) some may be left out if a compaction comes between two pages.
        """
        self.refuse_if_closed()
        check_page_limit(limit)
        policy, now = self.retention, self.time_fn()
        return await self._in_thread(
            "read",
            lambda work: self._pager.page(self.files, query, after, limit, policy, now, work.check),
            Work(),
        )

    async def follow(
        self,
        query: Query[Any] | None = None,
        *,
        limit: int = 0,
        wanted: Callable[[PersistedRecord], bool] | None = None,
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield the newest ``query.limit`` records that match, oldest first, then each new one.

        It ends with the backend.

        ``wanted`` is called in a worker thread. Every new record comes once and in order, while other
        processes append, rotate, compact, recover, move files away or delete them; the last ones before
        `aclose` come too. Records without ``seq`` (those of the published package) are distinguished by their
        content: some of several equal ones may be left out if a file is replaced at that moment.
        """
        self.refuse_if_closed()
        count, matches = following_of(query, limit, wanted)
        policy, now = self.retention, self.time_fn()
        files = await self._in_thread("read", lambda _: self._files_to_follow(), Work())
        with closing(Feed(lambda work: follow(files, count, matches, policy, now, work))) as feed:
            while True:
                ending = self._closed  # then this is the last look
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
        """Yield every kept record between two Unix times, newest first.

        Some thousands are in memory at once.
        """
        self.refuse_if_closed()
        query: Query[PersistedRecord] = Query(since=since, until=until)
        policy, now = self.retention, self.time_fn()
        with closing(Feed(lambda work: newest_first(self.files, query, policy, now, work.check))) as feed:
            while block := await self._in_thread("read", lambda _: feed.draw(), feed.work):
                for record in block:
                    yield record

    # -- maintenance

    async def scan(self, *, progress: Progress | None = None) -> PersistenceScanReport:
        """Report all damage and write nothing; right even while other processes write."""
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
        """Drop invalid lines, and keep every valid one byte for byte.

        With ``QUARANTINE`` dropped bytes go to quarantine files first, with ``REPAIR`` only those of files
        without a single record, which may belong to another program. ``IGNORE``, the default, only scans. An
        interruption, or a second call, does no harm.
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
        """Drop the records that the retention policy does not keep; invalid lines go to the quarantine."""
        return await self._compact(dry_run=dry_run, progress=progress)

    async def _compact(
        self, *, dry_run: bool, progress: Progress | None, max_files: int | None = None
    ) -> CompactionReport:
        self.refuse_if_closed()
        policy, now = self.retention, self.time_fn()
        with self.metrics.counting("compaction", dry_run=dry_run):
            return await self._in_thread(
                "compacted",
                lambda work: operations.compact(
                    self.files, self.name, policy, now, work, dry_run=dry_run, max_files=max_files
                ),
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
        """Whether every sync and the last `ping` succeeded, and the file that is written still has a name."""
        return self._appender.healthy and self._writable

    def refuse_if_closed(self) -> None:
        if self._closed:
            raise PersistenceError(f"the store {self._path} is closed. Open a new one.")

    async def _in_thread(self, done: str, function: Callable[[Work], _T], work: Work) -> _T:
        def explained(work: Work) -> _T:
            try:
                return function(work)
            except OSError as error:
                raise PersistenceError(f"{self._path} could not be {done}: {error}") from error

        return await run_blocking(explained, work, abandon=True)


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(path).absolute()


def _checked_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a store.

    A path without a file name is a `ValueError`; a path that is not a regular file is a `PersistenceError`.
    """
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ValueError(f"path must name a file, but is {text!r}. Write for example 'papyra.ndjson'.")
    check_path(text)
    absolute = Path(text).absolute()
    kind = "a folder" if text.endswith(os.sep) else file_kind(absolute)
    if kind is not None:
        advice = (
            f"Name a file in it, as in {absolute / 'papyra.ndjson'}"
            if kind == "a folder"
            else "Choose another path"
        )
        raise PersistenceError(f"{absolute} is {kind}, not a regular file. {advice}, or move it away.")
    return absolute


def _check_durability(durability: object, fsync_interval: object) -> None:
    if durability not in get_args(Durability):
        raise ValueError(f"durability must be one of 'os', 'interval', 'always', not {durability!r}")
    if (
        not isinstance(fsync_interval, int | float)
        or isinstance(fsync_interval, bool)
        or not 0 < fsync_interval < math.inf
    ):
        raise ValueError(f"fsync_interval must be a number of seconds above 0, not {fsync_interval!r}")
