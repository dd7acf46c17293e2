"""The backend ``sqlite``: the contract of a store of facts, over a database."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

import anyio

from papyra.exceptions import PersistenceError
from papyra.persistence.following import INTERVAL, following_of
from papyra.persistence.models import PersistedRecord
from papyra.persistence.paging import Page, check_page_limit
from papyra.persistence.threaded import ThreadedBackend
from papyra.persistence.url import check_path, duration, file_url, one_of
from papyra_contrib._rows import SIZE, to_rows
from papyra_contrib.sqlite import _compaction, _recovery, _scan
from papyra_contrib.sqlite._backup import write_backup
from papyra_contrib.sqlite._batch_ids import has_batch, note_batch
from papyra_contrib.sqlite._database import SYNCHRONOUS, Database
from papyra_contrib.sqlite._files import is_database, stored_bytes
from papyra_contrib.sqlite._queries import (
    NOWHERE,
    begin_following,
    begin_streaming,
    count_rows,
    find,
    place_of,
    read_above,
    read_below,
    read_page,
)
from papyra_contrib.sqlite._schema import INSERT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from typing import Any

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import (
        CompactionReport,
        PersistenceAnomaly,
        PersistenceRecoveryConfig,
        PersistenceRecoveryReport,
    )
    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib.sqlite._queries import Place

__all__ = ["SQLitePersistence"]

_R = TypeVar("_R", bound=PersistedRecord)
_T = TypeVar("_T")


class SQLitePersistence(ThreadedBackend):
    """Keep facts in the SQLite database at ``path``: ``sqlite:./papyra.db?max_records=100000``.

    A batch is one transaction: all of it is stored, or nothing. With ``durability="os"`` an acknowledged
    record survives the death of the process at any instant, and a power loss takes at most the last ones;
    with ``"always"`` it survives both. Any number of processes may write, read, compact and recover one
    database; each waits up to ``busy_timeout`` seconds for the others. Reads create nothing.

    Only the owner of a new file can read it; a recovery keeps the owner and mode of the old one. SQLite's log
    and index (``-wal``, ``-shm``) and a permanent ``.lock`` are beside the database. ``max_total_bytes``
    counts the text of the rows, not pages and indexes. Payloads of more than 1 MiB are replaced by a note of
    their size.
    """

    name: ClassVar[str] = "sqlite"
    in_files: ClassVar[bool] = True
    papyra_api: ClassVar[str] = "1.0"
    reports_progress: ClassVar[bool] = True
    url_options: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        "durability": one_of(*SYNCHRONOUS),
        "busy_timeout": duration,
    }

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
        super().__init__(retention_policy)
        self._database = Database(_checked_path(path), durability, busy_timeout)

    @classmethod
    def recognizes(cls, path: str) -> str | None:
        """Return the URL of an SQLite database; opening one of another program says whose it is."""
        return file_url(cls.name, path) if is_database(Path(path)) else None

    # -- writing

    def blocking_record_batch(
        self, work: Work, records: Sequence[PersistedRecord], batch_id: str | None
    ) -> int:
        """Store records in one transaction: all of them, or none if this raises."""
        rows = to_rows(records)
        with self._database.transaction(work) as connection:
            if batch_id is None or not has_batch(connection, batch_id):
                connection.executemany(INSERT, rows)
                if batch_id is not None:
                    note_batch(connection, batch_id)
        return sum(row[SIZE] for row in rows)

    def blocking_ping(self, work: Work) -> None:
        """Write a row and roll it back; where there is no database yet, look whether one could be made."""
        self._database.probe(work)

    async def aclose(self) -> None:
        """Wait for the write that is going on and release everything; closing twice is fine."""
        if self._database.inherited:
            self.close_without_waiting()  # the parent's threads do not exist in this process
        else:
            await super().aclose()

    def blocking_close(self, work: Work) -> None:
        """Close the connection for writing and the lock file."""
        self._database.close(work)

    # -- reading

    def blocking_select(self, work: Work, query: Query[_R], now: float) -> list[_R]:
        """Return the newest ``query.limit`` records that match, oldest first; damaged rows are left out."""
        return self._database.read(work, partial(find, query=query, policy=self.retention, now=now), [])

    async def follow(
        self,
        query: Query[Any] | None = None,
        *,
        limit: int = 0,
        wanted: Callable[[PersistedRecord], bool] | None = None,
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield the newest ``query.limit`` records that match, oldest first, then each new one.

        It ends with the backend.

        No record is left out or doubled, whatever other processes do, except those that were compacted away
        before they were read. The database is read ten times a second; ``wanted`` is called in a worker
        thread.
        """
        self.refuse_if_closed()
        count, matches = following_of(query, limit, wanted)
        begin = partial(
            begin_following, limit=count, wanted=matches, policy=self.retention, now=self.time_fn()
        )
        nothing: tuple[list[PersistedRecord], Place] = ([], NOWHERE)
        records, place = await self._read(begin, nothing)
        while True:
            for record in records:
                yield record
            if not place.more:
                await anyio.sleep(INTERVAL)
            if self.closed:
                return
            nothing = ([], replace(place, more=False))
            records, place = await self._read(partial(read_above, place=place, wanted=matches), nothing)

    async def page(self, query: Query[_R], *, after: str | None = None, limit: int = 1000) -> Page[_R]:
        """Return the first ``limit`` records after a cursor that match and are kept, in the order of writing.

        A cursor names the database and a row, so a page costs what it holds. In a database that was put in
        its place all records are new.
        """
        self.refuse_if_closed()
        check_page_limit(limit)
        place = place_of(after)
        empty: Page[_R] = Page([], after or "")
        policy, now = self.retention, self.time_fn()
        return await self._read(
            partial(read_page, query=query, place=place, limit=limit, policy=policy, now=now), empty
        )

    async def count(self, query: Query[Any]) -> int:
        """Return how many records match and are kept, at most ``query.limit``.

        Damaged rows may be among them.
        """
        self.refuse_if_closed()
        counted = partial(count_rows, query=query, policy=self.retention, now=self.time_fn())
        return await self._read(counted, 0)

    async def stream(
        self, *, since: float | None = None, until: float | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield every record that is kept now, between two Unix times, newest first.

        At most a page of them is in memory. Records that a compaction removes meanwhile, or that are recorded
        meanwhile, may be missing.
        """
        self.refuse_if_closed()
        begin = partial(begin_streaming, since=since, until=until, policy=self.retention, now=self.time_fn())
        span = await self._read(begin, None)
        while span is not None:
            self.refuse_if_closed()
            page = await self._read(partial(read_below, span=span), None)
            if page is None:
                raise PersistenceError(f"{self._database.path} was removed or replaced while it was streamed")
            records, span = page
            for record in records:
                yield record

    # -- maintenance

    def blocking_scan(self, work: Work) -> tuple[PersistenceAnomaly, ...]:
        """Run SQLite's own check and verify the checksum of each row; change nothing."""
        work.total = stored_bytes(self._database.path)
        return _scan.scan(self._database, work, work.part(0, 1))

    def blocking_recover(
        self, work: Work, config: PersistenceRecoveryConfig, *, dry_run: bool
    ) -> PersistenceRecoveryReport:
        """Copy every readable row of a damaged database into a new one, which replaces it at once.

        ``QUARANTINE`` keeps the damaged file under a new name. So does ``REPAIR`` if nothing in the file
        shows that it is a store. A database of another program is left alone and is a `PersistenceError`.
        """
        work.total = stored_bytes(self._database.path)
        return _recovery.recover(self._database, config, self.name, work, dry_run=dry_run)

    def blocking_compact(self, work: Work, now: float, *, dry_run: bool) -> CompactionReport:
        """Delete what is beyond retention and shrink the file. Other writers wait meanwhile.

        Bytes include the write-ahead log; those after a dry run are an estimate.
        """
        work.total = stored_bytes(self._database.path)
        compact = _compaction.preview if dry_run else _compaction.compact
        return compact(self._database, self.retention, now, self.name, work, work.part(0, 1))

    async def backup(self, path: str) -> bool:
        """Write a consistent copy to a new database at ``path``, by SQLite's backup API.

        Others may write meanwhile.
        """
        target = _checked_path(path)
        return await self._read(lambda connection: write_backup(connection, target), False)

    # -- facts about the backend itself

    @property
    def healthy(self) -> bool:
        """Whether the last write or ping succeeded, no sync to disk failed and no damage was met.

        A recovery that has repaired the database makes it healthy again.
        """
        return self._database.healthy and super().healthy

    # -- inside

    async def _read(self, function: Callable[[sqlite3.Connection], _T], empty: _T) -> _T:
        return await self.run_read(lambda work: self._database.read(work, function, empty))

    def refuse_if_closed(self) -> None:
        """Raise `PersistenceError` if the store was closed, or belongs to the parent of this process."""
        super().refuse_if_closed()
        self._database.refuse_if_forked()


def _checked_path(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not text:
        raise ValueError("an SQLite database needs a path, as in sqlite:./papyra.db")
    if text == ":memory:":
        raise ValueError("a database in memory can't be shared between threads; use the backend 'memory'")
    if text.startswith("file:"):
        raise ValueError(f"{text!r} is an SQLite URI; give the path alone, and options as arguments")
    check_path(text)
    # Absolute from now on: the process may change its folder.
    return Path(text).absolute()
