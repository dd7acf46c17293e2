"""The backend ``redis``: the contract of a store of facts, over a stream."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, TypeVar
from urllib.parse import urlsplit

from papyra.exceptions import BackendURLError
from papyra.persistence.models import PersistedRecord
from papyra.persistence.paging import Page, check_page_limit
from papyra.persistence.query import Query
from papyra.persistence.retention import RetentionPolicy
from papyra.persistence.threaded import ThreadedBackend
from papyra.persistence.url import duration, one_of
from papyra_contrib._rows import SIZE, to_rows
from papyra_contrib.redis import _maintenance
from papyra_contrib.redis._batches import add_batch
from papyra_contrib.redis._checks import check_server, probe
from papyra_contrib.redis._connection import Server
from papyra_contrib.redis._entries import Walk, count_kept, find, kept, last_id, to_fields
from papyra_contrib.redis._follower import Follower
from papyra_contrib.redis._groups import Groups, check_count
from papyra_contrib.redis._paging import page_after, place_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from typing import Any, Self

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import (
        CompactionReport,
        PersistenceAnomaly,
        PersistenceRecoveryConfig,
        PersistenceRecoveryReport,
    )
    from papyra.persistence.url import BackendURL
    from papyra_contrib.redis._groups import Delivery, PendingDelivery

__all__ = ["RedisPersistence"]

_logger = logging.getLogger("papyra")

_PAGE = 500

_R = TypeVar("_R", bound=PersistedRecord)


def _some_text(text: str) -> str:
    if not text:
        raise ValueError("expected the name of a key, as in papyra:facts")
    return text


class RedisPersistence(ThreadedBackend):
    """Keep facts in a stream of a Redis server.

    A URL is ``redis://localhost:6379/0?stream=papyra:facts&max_records=100000``.

    A batch is one transaction: all of it is stored, or nothing. The id of each run's last batch is kept in
    the hash ``<stream>:batches`` in the same transaction: a batch that is offered again after its answer was
    lost is not stored twice. What an acknowledged record survives depends on the server: power loss with
    ``appendonly yes`` and ``appendfsync always``, less by default. A replica that takes over may lack the
    last records. Any number of processes may use one stream.

    A call without a reply for ``timeout`` seconds raises. ``redis:/run/redis.sock`` names a Unix socket;
    ``rediss://`` and ``tls=yes`` encrypt. ``url`` is as the library redis has it: ``redis://``, ``rediss://``
    or ``unix://``. The server must be Redis 6.2 or newer, or Valkey, and not a cluster. ``max_total_bytes``
    counts the text of the records. Payloads of more than 1 MiB are replaced by a note of their size.
    """

    name: ClassVar[str] = "redis"
    schemes: ClassVar[tuple[str, ...]] = ("rediss",)
    papyra_api: ClassVar[str] = "1.0"
    reports_progress: ClassVar[bool] = True
    url_options: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        "stream": _some_text,
        "timeout": duration,
        "tls": one_of("no", "yes"),
    }

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        retention_policy: RetentionPolicy | None = None,
        *,
        stream: str = "papyra:facts",
        timeout: float = 5.0,
    ) -> None:
        if not stream:
            raise ValueError("stream must be the name of a key, as in papyra:facts")
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        super().__init__(retention_policy)
        self._stream = stream
        self._server = Server(url, timeout)
        self._groups = Groups(self._server, stream)

    @classmethod
    def from_parsed_url(
        cls, url: BackendURL, retention: RetentionPolicy | None, options: Mapping[str, Any]
    ) -> Self:
        """Open the server that ``url`` names."""
        given = dict(options)
        text = url.text.partition("?")[0]
        tls = given.pop("tls", "yes" if url.scheme == "rediss" else "no") == "yes"
        address = _address(f"redis:{text.partition(':')[2]}", tls=tls)
        try:
            return cls(address, retention, **given)
        except ValueError as error:  # without the URL, which may hold a password
            raise BackendURLError(f"can't open the redis backend: {error}") from error

    # -- writing

    def blocking_open(self, work: Work) -> None:
        """Connect.

        A server that can't keep a store is a `PersistenceError`, and unsafe settings are logged once.
        """
        warnings = check_server(self._server)
        for warning in set(warnings) - set(self.store_warnings):
            _logger.warning("%s", warning)
        self.store_warnings = warnings

    def blocking_ping(self, work: Work) -> None:
        """Raise unless a record could be written now.

        One is, to a key that is deleted in the same transaction.
        """
        check_server(self._server)
        probe(self._server, self._stream)

    def blocking_record_batch(
        self, work: Work, records: Sequence[PersistedRecord], batch_id: str | None
    ) -> int:
        """Store records in one transaction, unless the last batch of its run had this id."""
        rows = to_rows(records)
        if not add_batch(self._server, self._stream, map(to_fields, rows), batch_id):
            return 0  # stored before, and the answer was lost
        return sum(row[SIZE] for row in rows)

    def blocking_close(self, work: Work) -> None:
        """Wait for the calls that are going on and release every connection."""
        self._server.close()

    # -- reading

    def blocking_select(self, work: Work, query: Query[_R], now: float) -> list[_R]:
        """Return the newest ``query.limit`` records that match, oldest first.

        Damaged entries are left out.
        """
        return find(kept(self._walk(work), self.retention, now), query)

    def follow(
        self,
        query: Query[Any] | None = None,
        *,
        limit: int = 0,
        wanted: Callable[[PersistedRecord], bool] | None = None,
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield the newest ``query.limit`` records that match, oldest first, then each new one.

        It ends with the backend.

        The server reports new records at once. No record is left out or doubled, also when the server is
        restarted, except those that were compacted away before they were read. After the key was deleted, all
        records of the new stream are new. ``wanted`` is called in a worker thread.
        """
        return Follower(self._server, self._stream).records(self, query, limit, wanted)

    async def page(self, query: Query[_R], *, after: str | None = None, limit: int = 1000) -> Page[_R]:
        """Return the first ``limit`` records after a cursor that match and are kept, in the order of writing.

        A cursor names an entry, so a page costs what it holds; with a limit of records or bytes, all that
        comes after it is read. In a stream that was created again, all records are new.
        """
        self.refuse_if_closed()
        check_page_limit(limit)
        place, policy, now = place_of(after), self.retention, self.time_fn()
        return await self.run_read(
            lambda work: page_after(self._server, self._stream, query, policy, now, place, limit, work)
        )

    async def count(self, query: Query[Any]) -> int:
        """Return how many records match and are kept, at most ``query.limit``.

        Where nothing limits them, the server counts, damaged entries included. Otherwise all are read.
        """
        self.refuse_if_closed()
        policy, now = self.retention, self.time_fn()
        if policy == RetentionPolicy() and replace(query, limit=None) == Query():
            length: int = await self.run_read(lambda _: self._server.call("XLEN", self._stream))
            return length if query.limit is None else min(length, query.limit)
        return await self.run_read(lambda work: count_kept(kept(self._walk(work), policy, now), query))

    async def stream(
        self, *, since: float | None = None, until: float | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield every record that is kept now, between two Unix times, newest first.

        At most a page of them is in memory.
        """
        self.refuse_if_closed()
        span: Query[PersistedRecord] = Query(since=since, until=until)
        last = await self.run_read(lambda _: last_id(self._server, self._stream))
        walk = Walk(self._server, self._stream, newest_first=True, start=last)
        matching = filter(span.matches, (one.record for one in kept(walk, self.retention, self.time_fn())))

        def page(work: Work) -> list[PersistedRecord]:
            walk.work = work
            return list(islice(matching, _PAGE))

        while records := await self.run_read(page):
            for record in records:
                yield record

    # -- consumer groups

    async def consume(
        self, group: str, consumer: str, *, count: int = 100, block: float | None = 1.0
    ) -> list[Delivery]:
        """Return up to ``count`` records that no consumer of the group has got yet, in the order of writing.

        If there are none, wait ``block`` seconds for one, or without an end if it is None; then the list is
        empty. Each record is pending until it is acknowledged with `ack`. If the answer is lost, or the
        consumer dies, it stays pending, and another consumer takes it over with `claim`. So each record is
        delivered at least once, except those that are compacted away before. A new group begins with the
        oldest record of the stream. The server's errors are a `PersistenceError`; call again if its ``retry``
        is true.
        """
        self.refuse_if_closed()
        check_count(count)
        return await self._groups.consume(group, consumer, count, block)

    async def ack(self, group: str, ids: Sequence[str]) -> int:
        """Acknowledge deliveries by their ids; return how many of them were pending."""
        self.refuse_if_closed()
        return await self.run_read(partial(self._groups.ack, group, list(ids)))

    async def claim(self, group: str, consumer: str, min_idle: float, *, count: int = 100) -> list[Delivery]:
        """Take over up to ``count`` deliveries that have been pending for ``min_idle`` seconds, oldest first.

        Choose more seconds than the slowest consumer needs for what it was given. Deliveries of records that
        were compacted away meanwhile are left out.
        """
        self.refuse_if_closed()
        check_count(count)
        return await self.run_read(partial(self._groups.claim, group, consumer, min_idle, count))

    async def pending(self, group: str) -> list[PendingDelivery]:
        """Return the deliveries that were not acknowledged yet, in the order of writing."""
        self.refuse_if_closed()
        return await self.run_read(partial(self._groups.pending, group))

    # -- maintenance

    def blocking_scan(self, work: Work) -> tuple[PersistenceAnomaly, ...]:
        """Verify the checksum of each entry; change nothing."""
        return _maintenance.scan(self._server, self._stream, work)

    def blocking_recover(
        self, work: Work, config: PersistenceRecoveryConfig, *, dry_run: bool
    ) -> PersistenceRecoveryReport:
        """Delete the damaged entries, or with ``QUARANTINE`` move them to the stream ``<stream>:quarantine``.

        A key that is not a stream is left alone and is a `PersistenceError`.
        """
        return _maintenance.recover(self._server, self._stream, config, self.name, work, dry_run=dry_run)

    def blocking_compact(self, work: Work, now: float, *, dry_run: bool) -> CompactionReport:
        """Delete what is beyond retention, while others write."""
        return _maintenance.compact(
            self._server, self._stream, self.retention, now, self.name, work, dry_run=dry_run
        )

    # -- facts about the backend itself

    @property
    def healthy(self) -> bool:
        """Whether the server answered the last call."""
        return self._server.reachable

    # -- inside

    def _walk(self, work: Work, start: bytes | None = None) -> Walk:
        walk = Walk(self._server, self._stream, newest_first=True, start=start)
        walk.work = work
        return walk


def _address(url: str, *, tls: bool) -> str:
    """Return the address as the library redis has it."""
    if not url.startswith("redis:/"):
        raise BackendURLError(
            "a Redis server needs an address: redis://HOST:PORT/DB, or redis:/run/redis.sock"
        )
    parts = urlsplit(url)
    database = parts.path.removeprefix("/")
    if parts.netloc or not database or database.isdigit():
        if database and not database.isdigit():
            raise BackendURLError(f"the database of a Redis server is a number, not {database!r}")
        return f"{'rediss' if tls else 'redis'}://{parts.netloc or 'localhost'}/{database or 0}"
    if tls:
        raise BackendURLError(
            "a Unix socket is not encrypted; write redis: in place of rediss:, without tls=yes"
        )
    return f"unix://{parts.path}"
