"""The backend ``redis``: the contract of a store of facts, over a stream."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, TypeVar
from urllib.parse import urlsplit

import anyio

from papyra.exceptions import BackendURLError, PersistenceError
from papyra.persistence.batch import BatchBackend
from papyra.persistence.models import PersistedRecord, PersistenceRecoveryConfig, PersistenceScanReport
from papyra.persistence.query import Query
from papyra.persistence.retention import RetentionPolicy
from papyra.persistence.url import BackendURL, duration, one_of
from papyra_contrib._jobs import Jobs
from papyra_contrib._progress import Meter
from papyra_contrib.redis import _maintenance as _care
from papyra_contrib.redis._connection import Server
from papyra_contrib.redis._entries import START, Walk, find, kept, key_of, last_id, read_entry, to_fields

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from typing import Any, Self

    from papyra.persistence.models import CompactionReport, PersistenceRecoveryReport
    from papyra.persistence.progress import Progress
    from papyra_contrib._jobs import Job
    from papyra_contrib.redis._entries import Entry

__all__ = ["RedisPersistence"]

_READS_AT_ONCE = 4
_PAGE = 500
_NEW_AT_ONCE = 100
_BLOCK = 200  # milliseconds that a follower waits in the server; a closed or cancelled one leaves after them

_R = TypeVar("_R", bound=PersistedRecord)
_T = TypeVar("_T")


def _some_text(text: str) -> str:
    if not text:
        raise ValueError("expected the name of a key, as in papyra:facts")
    return text


_OPTIONS: dict[str, Callable[[str], Any]] = {
    "stream": _some_text,
    "timeout": duration,
    "tls": one_of("no", "yes"),
}


class RedisPersistence(BatchBackend):
    """Keep facts in a stream of a Redis server: ``redis://localhost:6379/0?stream=papyra:facts&max_records=100000``.

    A batch is one transaction: all of it is stored, or nothing. What an acknowledged record survives is the server's
    affair: with ``appendonly yes`` and ``appendfsync always`` power loss, by default less. Any number of processes may
    use one stream. A call that got no reply within ``timeout`` seconds raises, and nobody knows whether its records
    were stored; nothing is sent twice. ``redis:/run/redis.sock`` names a Unix socket, and ``tls=yes`` encrypts.

    ``url`` is as the library redis has it: ``redis://``, ``rediss://`` or ``unix://``. Redis 6.2 or newer is needed.
    ``max_total_bytes`` counts the text of the records. Payloads of more than 1 MiB are replaced by a note of their size.
    """

    name: ClassVar[str] = "redis"
    papyra_api: ClassVar[str] = "1.0"

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
        self._retention = retention_policy or RetentionPolicy()
        self._stream = stream
        self._server = Server(url, timeout)
        self._writes, self._reads = Jobs(1), Jobs(_READS_AT_ONCE)
        self._closed = False

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open what ``url`` names; takes ``stream``, ``timeout``, ``tls`` and the limits of retention."""
        retention, options = BackendURL.parse(url).convert_with_retention(_OPTIONS)
        address = _address(url.partition("?")[0], tls=options.pop("tls", "no") == "yes")
        try:
            return cls(address, retention, **options)
        except ValueError as error:  # without the URL, which may have a password in it
            raise BackendURLError(f"can't open the redis backend: {error}") from error

    # -- writing

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        """Store records in one transaction: all of them, or none if the server refuses them."""
        self._refuse_if_closed()
        if not records:
            return
        try:
            written = await self._writes.run(lambda _: self._add(records))
        except Exception:
            self.metrics.write_errors += 1
            raise
        self.metrics.records_written += len(records)
        self.metrics.bytes_written += written

    async def aclose(self) -> None:
        """Wait for the calls that are going on and release every connection; closing twice is fine."""
        self._closed = True
        with anyio.CancelScope(shield=True):  # a cancelled caller would leave connections open
            await self._writes.run(lambda _: self._server.close())

    # -- reading

    async def select(self, query: Query[_R]) -> list[_R]:
        """Return the newest ``query.limit`` records that match, oldest first; damaged entries are left out."""
        self._refuse_if_closed()
        policy, now = self.retention, self.time_fn()

        def read(job: Job) -> list[_R]:
            walk = self._walk(job)
            return find(kept(walk, policy, now), query)

        return await self._reads.run(read)

    async def follow(
        self, *, limit: int = 0, wanted: Callable[[PersistedRecord], bool] | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield the newest ``limit`` records, oldest first, and then each new one, until the backend is closed.

        Only records for which ``wanted`` is true count and come; it is called in a worker thread. The server tells of
        new records at once. Nothing is left out or doubled, but for records that were compacted away before they were
        read. Where the key was deleted, all in the new stream is new.
        """
        self._refuse_if_closed()
        newest: Query[PersistedRecord] = Query(limit=limit)
        policy, now = self.retention, self.time_fn()
        waits = Jobs(1)  # so that followers don't keep others from reading

        def begin(job: Job) -> tuple[list[PersistedRecord], bytes]:
            last = last_id(self._server, self._stream)
            walk = self._walk(job, last)
            return find(kept(walk, policy, now), newest, wanted), last

        look = begin
        while True:
            try:
                records, last = await waits.run(look)
            except PersistenceError:
                if self._closed:
                    return
                raise
            for record in records:
                yield record
            if self._closed:
                return
            look = partial(self._next, last, wanted)

    async def stream(
        self, *, since: float | None = None, until: float | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield every record that is kept now, between two Unix times, newest first; a page of them is in memory."""
        self._refuse_if_closed()
        span: Query[PersistedRecord] = Query(since=since, until=until)
        last = await self._reads.run(lambda _: last_id(self._server, self._stream))
        walk = Walk(self._server, self._stream, newest_first=True, start=last)
        matching = filter(span.matches, (one.record for one in kept(walk, self.retention, self.time_fn())))

        def page(job: Job) -> list[PersistedRecord]:
            walk.job = job
            return list(islice(matching, _PAGE))

        while records := await self._reads.run(page):
            for record in records:
                yield record

    # -- care

    async def scan(self, *, progress: Progress | None = None) -> PersistenceScanReport:
        """Verify each entry's check sum; changes nothing."""
        self._refuse_if_closed()
        with self.metrics.counting("scan"):
            anomalies = await self._care(
                self._reads, progress, lambda job, meter: _care.scan(self._server, self._stream, job, meter)
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
        """Delete entries that are not what was written; ``QUARANTINE`` moves them to the stream ``<stream>:quarantine``.

        A key that holds something else is left alone and is a `PersistenceError`.
        """
        self._refuse_if_closed()
        allowed = config or PersistenceRecoveryConfig()

        def work(job: Job, meter: Meter) -> PersistenceRecoveryReport:
            return _care.recover(self._server, self._stream, allowed, self.name, job, meter, dry_run=dry_run)

        with self.metrics.counting("recovery", dry_run=dry_run):
            return await self._care(self._reads if dry_run else self._writes, progress, work)

    async def compact(self, *, dry_run: bool = False, progress: Progress | None = None) -> CompactionReport:
        """Delete what is beyond retention, while others write."""
        self._refuse_if_closed()
        policy, now = self.retention, self.time_fn()

        def work(job: Job, meter: Meter) -> CompactionReport:
            return _care.compact(
                self._server, self._stream, policy, now, self.name, job, meter, dry_run=dry_run
            )

        with self.metrics.counting("compaction", dry_run=dry_run):
            return await self._care(self._reads if dry_run else self._writes, progress, work)

    # -- facts about the backend itself

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    @property
    def healthy(self) -> bool:
        """Whether the server answered the last call."""
        return self._server.reachable

    # -- inside

    def _add(self, records: Sequence[PersistedRecord]) -> int:
        try:
            added = [to_fields(record) for record in records]
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PersistenceError(f"a record has a field of the wrong type: {error}") from error
        self._server.transaction([["XADD", self._stream, "*", *fields] for fields, _ in added])
        return sum(size for _, size in added)

    def _walk(self, job: Job, start: bytes | None = None) -> Walk:
        walk = Walk(self._server, self._stream, newest_first=True, start=start)
        walk.job = job
        return walk

    def _next(
        self, last: bytes, wanted: Callable[[PersistedRecord], bool] | None, _: Job
    ) -> tuple[list[PersistedRecord], bytes]:
        """Return the wanted records after ``last``, waiting for them a little, and the id to go on from."""
        found: list[tuple[bytes, list[Entry]]] | None = self._server.call(
            "XREAD", "COUNT", _NEW_AT_ONCE, "BLOCK", _BLOCK, "STREAMS", self._stream, last
        )
        if found:
            entries = found[0][1]
            records = [one[0] for one in map(read_entry, entries) if one is not None]
            return (records if wanted is None else list(filter(wanted, records))), entries[-1][0]
        newest = last_id(self._server, self._stream)
        return [], START if key_of(newest) < key_of(last) else last  # below it only in another stream

    async def _care(self, jobs: Jobs, progress: Progress | None, work: Callable[[Job, Meter], _T]) -> _T:
        def measured(job: Job) -> _T:
            meter = Meter(progress, 0)
            done = work(job, meter)
            meter.reach(meter.total)
            return done

        return await jobs.run(measured)


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
        raise BackendURLError("a Unix socket is not encrypted; leave tls=yes out")
    return f"unix://{parts.path}"
