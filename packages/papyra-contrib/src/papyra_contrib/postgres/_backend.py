"""The backend ``postgres``: the contract of a store, implemented with a table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from psycopg import conninfo

from papyra.exceptions import BackendURLError
from papyra.persistence.models import PersistedRecord
from papyra.persistence.paging import Page, check_page_limit
from papyra.persistence.query import Query
from papyra.persistence.threaded import ThreadedBackend
from papyra.persistence.url import duration
from papyra_contrib.postgres import _maintenance, _queries
from papyra_contrib.postgres._connection import Database
from papyra_contrib.postgres._follower import Follower
from papyra_contrib.postgres._schema import Tables
from papyra_contrib.postgres._writing import write

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from typing import Self

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import (
        CompactionReport,
        PersistenceAnomaly,
        PersistenceRecoveryConfig,
        PersistenceRecoveryReport,
    )
    from papyra.persistence.retention import RetentionPolicy
    from papyra.persistence.url import BackendURL
    from papyra_contrib.postgres._connection import Connection

__all__ = ["PostgresPersistence"]


_R = TypeVar("_R", bound=PersistedRecord)
_T = TypeVar("_T")


def _non_empty(text: str) -> str:
    if not text:
        raise ValueError("expected a non-empty value")
    return text


class PostgresPersistence(ThreadedBackend):
    """Keep facts in a table of a PostgreSQL database: ``postgres://user@localhost/shop?table=papyra_facts``.

    A batch is one transaction: all of it is stored, or nothing. A writer holds a lock until it commits, so
    the numbers of the rows have the order of the commits, and a follower misses none. The id of each run's
    last batch is stored in the same transaction: a batch that is offered again after its answer was lost is
    not stored twice. Any number of processes may use one table. The first one that opens
    the store creates the tables.

    ``url`` is a URL of libpq: ``postgresql://user:password@host:port/database``, where options such as
    ``sslmode`` may follow. A call without an answer for ``timeout`` seconds raises. ``max_total_bytes``
    counts the text of the rows. Payloads of more than 1 MiB are replaced by a note of their size.
    """

    name: ClassVar[str] = "postgres"
    schemes: ClassVar[tuple[str, ...]] = ("postgresql",)
    papyra_api: ClassVar[str] = "1.0"
    url_options: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        "table": _non_empty,
        "timeout": duration,
        "host": _non_empty,
        "sslmode": _non_empty,
        "sslrootcert": _non_empty,
    }

    def __init__(
        self,
        url: str = "postgresql://localhost/",
        retention_policy: RetentionPolicy | None = None,
        *,
        table: str = "papyra_facts",
        timeout: float = 5.0,
    ) -> None:
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        super().__init__(retention_policy)
        self._tables = Tables(table)
        self._database = Database(url, timeout)
        self._label = f"{self._database.name}, table {table}"
        self._is_made = False

    @classmethod
    def from_parsed_url(
        cls, url: BackendURL, retention: RetentionPolicy | None, options: Mapping[str, Any]
    ) -> Self:
        """Open the store that a URL names."""
        own = {name: options[name] for name in ("table", "timeout") if name in options}
        libpq = {name: value for name, value in options.items() if name not in own}
        parts = {
            "user": url.user,
            "password": url.password,
            "host": url.host,
            "port": url.port,
            "dbname": url.database,
        }
        given = {name: value for name, value in {**parts, **libpq}.items() if value is not None}
        if not given:
            raise BackendURLError(
                "a PostgreSQL store needs an address: postgres://USER:PASSWORD@HOST:PORT/DATABASE"
            )
        return cls(conninfo.make_conninfo("", **given), retention, **own)

    # -- writing

    def blocking_open(self, work: Work) -> None:
        """Connect, and create the tables if they are missing."""
        with self._database.connection(work) as connection:
            self._make_in(connection)

    def blocking_ping(self, work: Work) -> None:
        """Raise unless a record could be written now: write one, and roll it back."""
        statement = (
            "INSERT INTO {facts} (kind, timestamp, system_id, actor, type, run, details, payload, size, crc) "
            "VALUES ('probe', 0, '', '', '', '', '', '', 0, 0)"
        )
        with self._database.connection(work) as connection, connection.transaction(force_rollback=True):
            self._tables.make(connection)
            connection.execute(self._tables.sql(statement))

    def blocking_record_batch(
        self, work: Work, records: Sequence[PersistedRecord], batch_id: str | None
    ) -> int:
        """Store records in one transaction, unless a batch with this id was stored before."""
        with self._database.connection(work) as connection:
            self._make_in(connection)
            return write(connection, self._tables, records, batch_id)

    def _make_in(self, connection: Connection) -> None:
        if not self._is_made:
            with connection.transaction():
                self._tables.make(connection)
            self._is_made = True

    def blocking_close(self, work: Work) -> None:
        """Close every connection."""
        self._database.close()

    # -- reading

    def blocking_select(self, work: Work, query: Query[_R], now: float) -> list[_R]:
        """Return the newest ``query.limit`` records that match, oldest first; damaged rows are left out."""
        find = partial(_queries.find, tables=self._tables, query=query, policy=self.retention, now=now)
        return self._read(work, find, [])

    def _read(self, work: Work, function: Callable[[Connection], _T], empty: _T) -> _T:
        """Call a function in one snapshot of the store. Return ``empty`` if the tables do not exist yet."""
        with self._database.connection(work) as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return function(connection) if self._tables.exist(connection) else empty

    def follow(
        self,
        query: Query[Any] | None = None,
        *,
        limit: int = 0,
        wanted: Callable[[PersistedRecord], bool] | None = None,
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield the newest ``query.limit`` records that match, oldest first, then each new one.

        It ends with the backend.

        The server notifies followers of new records. No record is missed or repeated, even if the server is
        restarted, except those that were compacted away before they were read. ``wanted`` is called in a
        worker thread.
        """
        return Follower(self._database, self._tables).records(self, query, limit, wanted)

    async def page(self, query: Query[_R], *, after: str | None = None, limit: int = 1000) -> Page[_R]:
        """Return the first ``limit`` records after a cursor that match and are kept.

        They are in the order of the commits.

        A cursor names the store and a row, so the cost of a page depends on its size alone. In a store that
        was created again, all records are new.
        """
        self.refuse_if_closed()
        check_page_limit(limit)
        empty: Page[_R] = Page([], after or "")
        read = partial(
            _queries.page_after,
            tables=self._tables,
            query=query,
            policy=self.retention,
            now=self.time_fn(),
            place=_queries.place_of(after),
            limit=limit,
        )
        return await self.run_read(lambda work: self._read(work, read, empty))

    async def count(self, query: Query[Any]) -> int:
        """Return how many records match and are kept, at most ``query.limit``.

        Damaged rows may be among them.
        """
        self.refuse_if_closed()
        counted = partial(
            _queries.count, tables=self._tables, query=query, policy=self.retention, now=self.time_fn()
        )
        return await self.run_read(lambda work: self._read(work, counted, 0))

    async def stream(
        self, *, since: float | None = None, until: float | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield every record that is kept now, between two Unix times, newest first.

        At most a page of them is in memory.
        """
        self.refuse_if_closed()
        query: Query[PersistedRecord] = Query(since=since, until=until)
        read = partial(
            _queries.page_below,
            tables=self._tables,
            query=query,
            policy=self.retention,
            now=self.time_fn(),
        )
        below: int | None = None
        while below != 0:
            records, below = await self.run_read(partial(self._read_page, page=partial(read, below=below)))
            for record in records:
                yield record

    def _read_page(
        self, work: Work, page: Callable[[Connection], tuple[list[PersistedRecord], int]]
    ) -> tuple[list[PersistedRecord], int]:
        nothing: tuple[list[PersistedRecord], int] = ([], 0)
        return self._read(work, page, nothing)

    # -- maintenance

    def blocking_scan(self, work: Work) -> Sequence[PersistenceAnomaly]:
        """Verify the check sum of each row, and change nothing."""
        scan = partial(_maintenance.scan, tables=self._tables, name=self._label, work=work)
        return self._read(work, scan, [])

    def blocking_recover(
        self, work: Work, config: PersistenceRecoveryConfig, *, dry_run: bool
    ) -> PersistenceRecoveryReport:
        """Delete damaged rows; ``QUARANTINE`` moves them to the table ``<table>_quarantine``."""
        with self._database.connection(work) as connection:
            self._make_in(connection)
            return _maintenance.recover(
                connection, self._tables, config, self.name, self._label, work, dry_run=dry_run
            )

    def blocking_compact(self, work: Work, now: float, *, dry_run: bool) -> CompactionReport:
        """Delete the records beyond retention, while others write."""
        with self._database.connection(work) as connection:
            self._make_in(connection)
            return _maintenance.compact(
                connection, self._tables, self.retention, now, self.name, work, dry_run=dry_run
            )
