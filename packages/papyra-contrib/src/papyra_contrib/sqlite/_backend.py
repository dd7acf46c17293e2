"""The backend ``sqlite``: the contract of a store of facts, over a database."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

import anyio

from papyra.exceptions import BackendURLError, PersistenceError
from papyra.persistence.batch import BatchBackend
from papyra.persistence.following import INTERVAL
from papyra.persistence.models import PersistedRecord, PersistenceRecoveryConfig, PersistenceScanReport
from papyra.persistence.retention import RetentionPolicy
from papyra.persistence.url import BackendURL, duration, file_url, one_of
from papyra_contrib._jobs import Jobs
from papyra_contrib._progress import Meter
from papyra_contrib._rows import to_row
from papyra_contrib.sqlite import _compaction, _recovery, _scan
from papyra_contrib.sqlite._database import SYNCHRONOUS, Database
from papyra_contrib.sqlite._files import is_database, stored_bytes
from papyra_contrib.sqlite._paging import NOWHERE, begin_following, begin_streaming, read_above, read_below
from papyra_contrib.sqlite._queries import find
from papyra_contrib.sqlite._schema import INSERT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable, Sequence
    from typing import Self

    from papyra.persistence.models import CompactionReport, PersistenceRecoveryReport
    from papyra.persistence.progress import Progress
    from papyra.persistence.query import Query
    from papyra_contrib._jobs import Job
    from papyra_contrib._rows import Row
    from papyra_contrib.sqlite._paging import Place

__all__ = ["SQLitePersistence"]

_READS_AT_ONCE = 4

_R = TypeVar("_R", bound=PersistedRecord)
_T = TypeVar("_T")

_OPTIONS: dict[str, Callable[[str], object]] = {
    "durability": one_of(*SYNCHRONOUS),
    "busy_timeout": duration,
}


class SQLitePersistence(BatchBackend):
    """Keep facts in the SQLite database at ``path``: ``sqlite:./papyra.db?max_records=100000``.

    A batch is one transaction: all of it is stored, or nothing. With ``durability="os"`` an acknowledged
    record survives the death of the process at any instant, and a power loss takes at most the last ones;
    with ``"always"`` it survives both. Any number of processes may write, read, compact and recover one
    database; each waits up to ``busy_timeout`` seconds for the others. Reads create nothing.

    New files are for the owner alone; a recovery keeps the owner and mode of the old one. Beside the database stand SQLite's log and index (``-wal``, ``-shm``)
    and a permanent ``.lock``. ``max_total_bytes`` counts the text of the rows, not pages and indexes.
    Payloads of more than 1 MiB are replaced by a note of their size.
    """

    name: ClassVar[str] = "sqlite"
    in_files: ClassVar[bool] = True
    papyra_api: ClassVar[str] = "1.0"

    def __init__(
        self,
        path: str | os.PathLike[str],
        retention_policy: RetentionPolicy | None = None,
        *,
        durability: Literal["os", "always"] = "os",
        busy_timeout: float = 30.0,
    ) -> None:
        if durability not in SYNCHRONOUS:
            raise ValueError(f"durability is one of {', '.join(SYNCHRONOUS)}, not {durability!r}")
        if not 0 <= busy_timeout < float("inf"):
            raise ValueError(f"busy_timeout must be a number of seconds of at least 0, not {busy_timeout!r}")
        self._retention = retention_policy or RetentionPolicy()
        self._store = Database(_checked_path(path), durability, busy_timeout)
        self._writes, self._reads = Jobs(1), Jobs(_READS_AT_ONCE)
        self._closed = False

    @classmethod
    def recognizes(cls, path: str) -> str | None:
        """Return the URL of an SQLite database; opening one of another program says whose it is."""
        return file_url(cls.name, path) if is_database(Path(path)) else None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open what ``url`` names; takes ``durability``, ``busy_timeout`` and the limits of retention."""
        parsed = BackendURL.parse(url)
        retention, options = parsed.convert_with_retention(_OPTIONS)
        try:
            return cls(parsed.path, retention, **options)
        except ValueError as error:
            raise BackendURLError(f"can't open {url!r}: {error}") from error

    # -- writing

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        """Database records in one transaction: all of them, or none if this raises."""
        self._refuse_if_unusable()
        if not records:
            return
        try:
            written = await self._writes.run(lambda job: self._insert(records, job))
        except Exception:
            self.metrics.write_errors += 1
            raise
        self.metrics.records_written += len(records)
        self.metrics.bytes_written += written

    async def aclose(self) -> None:
        """Wait for the writes that are going on and release everything; closing twice is fine."""
        self._closed = True
        if self._store.inherited:
            return  # it is the parent's, whose threads this process doesn't have
        with anyio.CancelScope(shield=True):  # a cancelled caller would leave the database open
            await self._writes.run(self._store.close)

    # -- reading

    async def select(self, query: Query[_R]) -> list[_R]:
        """Return the newest ``query.limit`` records that match, oldest first; rows that are damaged are left out."""
        self._refuse_if_unusable()
        policy, now = self.retention, self.time_fn()

        def read(connection: sqlite3.Connection) -> list[_R]:
            return find(connection, query, policy, now)

        return await self._read(read, [])

    async def follow(
        self, *, limit: int = 0, wanted: Callable[[PersistedRecord], bool] | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield the newest ``limit`` records, oldest first, and then each new one, until the backend is closed.

        Only records for which ``wanted`` is true count and come; it is called in a worker thread. Nothing is left out
        or doubled, whatever other processes do, but for records that were compacted away before they were read. The
        database is looked at ten times a second.
        """
        self._refuse_if_unusable()
        if limit < 0:
            raise ValueError(f"limit must not be negative, but is {limit}")
        begin = partial(
            begin_following, limit=limit, wanted=wanted, policy=self.retention, now=self.time_fn()
        )
        nothing: tuple[list[PersistedRecord], Place] = ([], NOWHERE)
        records, place = await self._read(begin, nothing)
        while True:
            for record in records:
                yield record
            if not place.more:
                await anyio.sleep(INTERVAL)
            if self._closed:
                return
            nothing = ([], replace(place, more=False))
            records, place = await self._read(partial(read_above, place=place, wanted=wanted), nothing)

    async def stream(
        self, *, since: float | None = None, until: float | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield every record that is kept now, between two Unix times, newest first; a page of them is in memory.

        What a compaction takes away meanwhile, or was recorded since, may be missing.
        """
        self._refuse_if_unusable()
        begin = partial(begin_streaming, since=since, until=until, policy=self.retention, now=self.time_fn())
        span = await self._read(begin, None)
        while span is not None:
            self._refuse_if_unusable()
            page = await self._read(partial(read_below, span=span), None)
            if page is None:
                raise PersistenceError(f"{self._store.path} was removed or replaced while it was streamed")
            records, span = page
            for record in records:
                yield record

    # -- care

    async def scan(self, *, progress: Progress | None = None) -> PersistenceScanReport:
        """Run SQLite's own check and verify each row's check sum; changes nothing."""
        self._refuse_if_unusable()
        with self.metrics.counting("scan"):
            anomalies = await self._care(
                self._reads, progress, lambda job, meter: _scan.scan(self._store, job, meter.part(0, 1))
            )
        self.metrics.anomalies_detected += len(anomalies)
        return PersistenceScanReport(self.name, anomalies)

    async def recover(
        self,
        config: PersistenceRecoveryConfig | None = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PersistenceRecoveryReport:
        """Save every readable row of a damaged database into a new one, which takes its place at once.

        ``QUARANTINE`` keeps the damaged file under a new name. So does ``REPAIR`` if nothing in the file shows
        that it was ours. A database of another program is left alone and is a `PersistenceError`.
        """
        self._refuse_if_unusable()
        allowed = config or PersistenceRecoveryConfig()

        def work(job: Job, meter: Meter) -> PersistenceRecoveryReport:
            return _recovery.recover(self._store, allowed, self.name, job, meter, dry_run=dry_run)

        with self.metrics.counting("recovery", dry_run=dry_run):
            return await self._care(self._reads if dry_run else self._writes, progress, work)

    async def compact(self, *, dry_run: bool = False, progress: Progress | None = None) -> CompactionReport:
        """Delete what is beyond retention and shrink the file. Other writers wait meanwhile.

        Bytes include the write-ahead log; those after a dry run are an estimate.
        """
        self._refuse_if_unusable()
        policy, now = self.retention, self.time_fn()
        compact = _compaction.preview if dry_run else _compaction.compact

        def work(job: Job, meter: Meter) -> CompactionReport:
            return compact(self._store, policy, now, self.name, job, meter.part(0, 1))

        with self.metrics.counting("compaction", dry_run=dry_run):
            return await self._care(self._reads if dry_run else self._writes, progress, work)

    # -- facts about the backend itself

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    @property
    def healthy(self) -> bool:
        """False once a sync to disk failed or damage was met, until a recovery has repaired the database."""
        return self._store.healthy

    # -- inside

    async def _care(self, jobs: Jobs, progress: Progress | None, work: Callable[[Job, Meter], _T]) -> _T:
        def measured(job: Job) -> _T:
            meter = Meter(progress, stored_bytes(self._store.path))
            done = work(job, meter)
            meter.reach(meter.total)
            return done

        return await jobs.run(measured)

    async def _read(self, function: Callable[[sqlite3.Connection], _T], empty: _T) -> _T:
        return await self._reads.run(lambda job: self._store.read(job, function, empty))

    def _refuse_if_unusable(self) -> None:
        self._refuse_if_closed()
        self._store.refuse_if_forked()

    def _insert(self, records: Sequence[PersistedRecord], job: Job) -> int:
        try:
            rows: list[Row] = [to_row(record) for record in records]
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PersistenceError(f"a record has a field of the wrong type: {error}") from error
        with self._store.transaction(job) as connection:
            connection.executemany(INSERT, rows)
        return sum(row.size for row in rows)


def _checked_path(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not text:
        raise ValueError("an SQLite database needs a path, as in sqlite:./papyra.db")
    if text == ":memory:":
        raise ValueError("a database in memory can't be shared between threads; use the backend 'memory'")
    if text.startswith("file:"):
        raise ValueError(f"{text!r} is an SQLite URI; give the path alone, and options as arguments")
    if "\0" in text:
        raise ValueError(f"the path {text!r} has a NUL character in it")
    # Absolute from now on: the process may change its folder.
    return Path(text).absolute()
