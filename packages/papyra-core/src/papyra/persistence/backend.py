"""The contract of a store of facts.

A third of this file is docstrings, because authors of backends read it: each method has its contract there.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import aclosing
from heapq import merge
from inspect import signature
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from papyra.exceptions import BackendURLError, PartialWriteError, PersistenceError
from papyra.persistence.following import following_of, look_again
from papyra.persistence.metrics import PersistenceMetrics
from papyra.persistence.models import (
    PersistedAudit,
    PersistedEvent,
    PersistedRecord,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra.persistence.paging import check_page_limit, page_of_stream
from papyra.persistence.retention import RetentionPolicy
from papyra.persistence.url import RETENTION_OPTIONS, BackendURL, masked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from typing import Any, Self

    from papyra.persistence.models import (
        CompactionReport,
        PersistedDeadLetter,
        PersistenceRecoveryConfig,
    )
    from papyra.persistence.paging import Page
    from papyra.persistence.progress import Progress
    from papyra.persistence.query import Query

__all__ = ["PersistenceBackend", "backend_capabilities", "safe_metrics_snapshot"]

_R = TypeVar("_R", bound=PersistedRecord)


class PersistenceBackend(ABC):
    """A store of facts: events, audits and dead letters, in the order they were recorded.

    Subclass it, register the class under the entry-point group ``papyra.backends``, and prove it with
    `papyra.testing.BackendConformance`. The abstract methods are the least a backend needs.

    Every method is called from one event loop (asyncio or trio) and must not block it. The system calls
    ``record_batch`` from one task, one batch at a time; everything else may be called beside it. A method
    must be cancellable, and a cancelled write has stored each record whole or not at all. Once a ``record_*``
    call has returned, a ``list_*`` call on this backend sees the record. After `aclose`, every call but
    `aclose` raises `PersistenceError`.
    """

    name: ClassVar[str] = ""
    """The entry-point name and URL scheme, as in ``"json"``."""

    schemes: ClassVar[tuple[str, ...]] = ()
    """Every URL scheme of this backend, ``name`` first; declare the aliases, as in ``("postgresql",)``."""

    in_files: ClassVar[bool] = False
    """Whether the path of a URL names a file or folder: a relative one is then relative to the project.

    Progress of such a backend is in bytes.
    """

    store_warnings: tuple[str, ...] = ()
    """Settings of the opened store that may lose records, a sentence or two each.

    ``papyra doctor`` shows them.
    """

    url_options: ClassVar[Mapping[str, Callable[[str], Any]]] = {}
    """The options of this backend's URL besides those of retention, each with the function that reads it.

    A reader takes the text and raises `ValueError` with what it expected, as those of `papyra.units` do. Each
    option is passed to the constructor as an argument of its name.
    """

    options: ClassVar[Mapping[str, Callable[[str], Any]]] = RETENTION_OPTIONS
    """Every option that this backend's URL takes: those of retention and ``url_options``."""

    retries: ClassVar[bool] = False
    """Whether any error of ``record_batch`` is retried, not only ``PersistenceError(retry=True)``.

    Set it where most errors pass, as on a server. ``PersistenceError(retry=False)`` still gives the batch up.
    """

    time_fn: Callable[[], float] = staticmethod(time.time)
    """The clock that retention by age uses, in Unix time; the system replaces it if it was given one."""

    # The base class keeps its own attributes under names that an author does not choose by accident.
    _papyra_metrics: PersistenceMetrics | None = None
    _papyra_retention: RetentionPolicy | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "name" in own or "schemes" in own:
            cls.schemes = tuple(dict.fromkeys((cls.name, *own.get("schemes", ()))))
        cls.options = {**RETENTION_OPTIONS, **cls.url_options}

    # -- the beginning

    async def open(self) -> None:
        """Connect, and make or migrate what the store needs. By default there is nothing to do.

        A system calls it in ``start()``, and the command before it works. Every other method must work
        without it. It may be called again.
        """
        self.refuse_if_closed()

    async def ping(self) -> None:
        """Return if the store is there and takes records now; a `PersistenceError` says what is in the way.

        It must not leave a record behind, nor create a store. A result of this probe should show in
        `healthy`. By default nothing is asked, and a closed backend raises.
        """
        self.refuse_if_closed()

    # -- writing

    @abstractmethod
    async def record_event(self, event: PersistedEvent) -> None:
        """Store one event; raise if it is not stored."""

    @abstractmethod
    async def record_audit(self, audit: PersistedAudit) -> None:
        """Store one audit; raise if it is not stored."""

    @abstractmethod
    async def record_dead_letter(self, dead_letter: PersistedDeadLetter) -> None:
        """Store one dead letter; raise if it is not stored."""

    async def record_batch(self, records: Sequence[PersistedRecord], *, batch_id: str | None = None) -> None:
        """Store records in their order; a backend that can write many at once overrides this.

        After an error that may pass (see `PersistenceError` and `retries`) the system offers the same records
        again, with the same ``batch_id``: the run and a counter, as in ``"0f3k2m9x:17"``. A backend whose
        answers can be lost after a commit keeps the last ids with the records, in one transaction, and skips
        a batch that it has. A backend that does not need the id may leave the parameter out.

        By default all records are tried, and if some could not be stored, a `PartialWriteError` counts them.
        An override that raises anything else is taken to have stored none.
        """
        failed = 0
        first: Exception | None = None
        for number, record in enumerate(records):
            try:
                if isinstance(record, PersistedEvent):
                    await self.record_event(record)
                elif isinstance(record, PersistedAudit):
                    await self.record_audit(record)
                else:
                    await self.record_dead_letter(record)
            except Exception as error:
                if not failed and isinstance(error, PersistenceError) and error.retry:
                    # The store is away. The rest comes again, in order.
                    raise PartialWriteError(len(records) - number, len(records), retry=True) from error
                failed += 1
                first = error if first is None else first
        if failed:
            raise PartialWriteError(failed, len(records)) from first

    async def flush(self) -> None:
        """Return once every acknowledged record is as durable as this backend makes it.

        By default there is nothing to do: a record is as durable as it gets when its ``record_*`` call
        returns.
        """
        self._refuse_if_closed()

    @abstractmethod
    async def aclose(self) -> None:
        """Flush and release everything; closing twice is fine."""

    # -- reading

    @abstractmethod
    async def list_events(
        self,
        *,
        limit: int | None = None,
        since: float | None = None,
        until: float | None = None,
        event_type: str | None = None,
        actor: str | None = None,
    ) -> Sequence[PersistedEvent]:
        """Return the newest ``limit`` events that match, oldest first.

        ``since`` and ``until`` are Unix times, both inclusive; ``actor`` is an address as stored. Records
        beyond the retention policy are not returned. A negative ``limit`` is a `ValueError`.
        """

    @abstractmethod
    async def list_audits(
        self, *, limit: int | None = None, since: float | None = None, until: float | None = None
    ) -> Sequence[PersistedAudit]:
        """Return the newest ``limit`` audits that match, oldest first."""

    @abstractmethod
    async def list_dead_letters(
        self,
        *,
        limit: int | None = None,
        since: float | None = None,
        until: float | None = None,
        message_type: str | None = None,
        actor: str | None = None,
    ) -> Sequence[PersistedDeadLetter]:
        """Return the newest ``limit`` dead letters that match, oldest first; ``actor`` is their target."""

    async def follow(
        self,
        query: Query[Any] | None = None,
        *,
        limit: int = 0,
        wanted: Callable[[PersistedRecord], bool] | None = None,
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield the newest ``query.limit`` records that match, oldest first, then each new one that matches.

        Without a query, yield each new record of any kind. It ends when the backend is closed. No record is
        left out or doubled, whatever other processes do to the store meanwhile, except those that retention
        drops before they are read. Leave it with ``aclosing``, or by cancelling the task. By default the
        store is read several times a second.

        ``limit`` and ``wanted`` are an older way to ask: the newest ``limit`` records for which the function
        is true. It may be called in a worker thread.
        """
        self.refuse_if_closed()
        count, matches = following_of(query, limit, wanted)
        async with aclosing(look_again(self._papyra_newest, lambda: self.closed, count, matches)) as records:
            async for record in records:
                yield record

    async def page(self, query: Query[_R], *, after: str | None = None, limit: int = 1000) -> Page[_R]:
        """Return the first ``limit`` records after a cursor that match and are kept, in the order of writing.

        ``after`` is the cursor of an earlier page; without one the oldest come first. ``query.limit`` has no
        effect. Pages never repeat or lose a record while others append, rotate or compact, except those that
        a compaction removed. A text that is not a cursor is a `ValueError`. By default each page reads all of
        `stream`.
        """
        self.refuse_if_closed()
        check_page_limit(limit)
        return await page_of_stream(self.stream(), query, after, limit)

    async def count(self, query: Query[Any]) -> int:
        """Return how many records match and are kept, at most ``query.limit``.

        By default `stream` is read.
        """
        self.refuse_if_closed()
        number = 0
        async with aclosing(self.stream(since=query.since, until=query.until)) as records:
            async for record in records:
                if number == query.limit:
                    break
                number += query.matches(record)
        return number

    async def stream(
        self, *, since: float | None = None, until: float | None = None
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield every kept record between two Unix times, newest first. Not all of them need to be in memory.

        By default they are all in memory.
        """
        self.refuse_if_closed()
        for record in reversed(await self._papyra_newest(None)):
            if (since is None or record.timestamp >= since) and (until is None or record.timestamp <= until):
                yield record

    async def _papyra_newest(self, limit: int | None) -> Sequence[PersistedRecord]:
        """Return the newest ``limit`` records of all kinds, oldest first."""
        kinds: tuple[Sequence[PersistedRecord], ...] = (
            await self.list_events(limit=limit),
            await self.list_audits(limit=limit),
            await self.list_dead_letters(limit=limit),
        )
        # Each kind keeps the order of the store; between kinds, only their times are known.
        merged = list(merge(*kinds, key=lambda record: record.timestamp))
        return merged if limit is None else merged[max(0, len(merged) - limit) :]

    # -- care

    async def scan(self, *, progress: Progress | None = None) -> PersistenceScanReport:
        """Look for damage and change nothing. By default there is none to find."""
        self.refuse_if_closed()
        self.metrics.scans += 1
        return PersistenceScanReport(self._papyra_label)

    async def recover(
        self,
        config: PersistenceRecoveryConfig | None = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PersistenceRecoveryReport:
        """Repair what `scan` finds, as ``config`` allows. By default there is nothing to repair.

        With ``dry_run`` change nothing, and report what would be repaired; the names of quarantine files may
        differ in the end.
        """
        return PersistenceRecoveryReport(self._papyra_label, await self.scan())

    @abstractmethod
    async def compact(self, *, dry_run: bool = False, progress: Progress | None = None) -> CompactionReport:
        """Make retention physical and report before and after; with ``dry_run`` change nothing."""

    async def backup(self, path: str) -> bool:
        """Write a consistent copy of this store to a new file at ``path``, while others may write.

        Return False, and do nothing, if this backend has no way of its own: the command then copies the
        records, which is the default.
        """
        return False

    # -- facts about the backend itself

    @property
    def _papyra_label(self) -> str:
        """The name in reports and errors: ``name``, or the name of the class."""
        return self.name or type(self).__name__

    @property
    def retention(self) -> RetentionPolicy:
        """Which records are kept; by default all. The constructor sets it."""
        if self._papyra_retention is None:
            # Backends for papyra-core 0.3 set an attribute of this name instead.
            older = getattr(self, "_retention", None)
            self._papyra_retention = older if isinstance(older, RetentionPolicy) else RetentionPolicy()
        return self._papyra_retention

    @retention.setter
    def retention(self, policy: RetentionPolicy) -> None:
        self._papyra_retention = policy

    @property
    def metrics(self) -> PersistenceMetrics:
        """Counters since this backend was opened."""
        if self._papyra_metrics is None:
            self._papyra_metrics = PersistenceMetrics()
        return self._papyra_metrics

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether `aclose` was called."""

    def refuse_if_closed(self) -> None:
        """Raise `PersistenceError` if `aclose` was called."""
        if self.closed:
            raise PersistenceError(
                f"the {self._papyra_label} backend is closed. Open a new one.", retry=False
            )

    def _refuse_if_closed(self) -> None:  # its name for backends of papyra-core 0.3
        self.refuse_if_closed()

    @property
    def healthy(self) -> bool:
        """Whether everything acknowledged is known to be safe.

        A failed sync to disk makes it False for good.
        """
        return True

    @classmethod
    def recognizes(cls, path: str) -> str | None:
        """Return the URL that opens the store at ``path``, or None if the file is not this backend's.

        The command asks every installed backend when a user names a file with ``--path``. Look at the
        content, at most at a bounded part of it, and change nothing; the file may be missing.
        `papyra.persistence.url.file_url` builds the URL.
        """
        return None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open the backend a URL names; unknown options and bad values are a `BackendURLError`.

        The options are those of `url_options` and of retention.
        """
        parsed = BackendURL.parse(url)
        retention, options = parsed.convert_with_retention(cls.url_options)
        try:
            return cls.from_parsed_url(parsed, retention, options)
        except BackendURLError:
            raise
        except (TypeError, ValueError) as error:
            problem = str(error)
            if parsed.password:
                problem = problem.replace(parsed.password, "***")
            # Where the constructor's error showed the password, so would the chain.
            raise BackendURLError(f"can't open {masked(url)!r}: {problem}") from (
                error if problem == str(error) else None
            )

    @classmethod
    def from_parsed_url(
        cls, url: BackendURL, retention: RetentionPolicy | None, options: Mapping[str, Any]
    ) -> Self:
        """Call the constructor with the path, ``retention_policy`` and the options.

        An empty path is left out, except where the store is in files: the constructor then says what is
        missing.

        Override it if the constructor takes something else, as that of a store on a server does. A
        `ValueError` or `TypeError` becomes a `BackendURLError`.
        """
        make = cast("Callable[..., Self]", cls)
        return make(*([url.path] if url.path or cls.in_files else []), retention_policy=retention, **options)


_CAPABILITIES = {
    "batch": "record_batch",
    "flush": "flush",
    "follow": "follow",
    "stream": "stream",
    "scan": "scan",
    "recover": "recover",
    "compact": "compact",
}


def backend_capabilities(backend: PersistenceBackend | type[PersistenceBackend]) -> frozenset[str]:
    """Return which optional parts of the contract a backend has.

    They are some of ``batch compact flush follow metrics progress recover scan stream``. ``progress`` means
    that `scan` and ``compact`` report how far they have come.
    """
    kind = backend if isinstance(backend, type) else type(backend)
    capabilities = {word for word, method in _CAPABILITIES.items() if _overrides(kind, method)}
    if hasattr(kind, "metrics"):
        capabilities.add("metrics")
    # A `ThreadedBackend` has the parameter, and says by itself whether it is used.
    reports = getattr(kind, "reports_progress", True)
    if reports and all(_reports_progress(kind, method) for method in ("scan", "compact")):
        capabilities.add("progress")
    return frozenset(capabilities)


def _overrides(kind: type, method: str) -> bool:
    own = getattr(kind, method, None)
    return own is not None and own is not getattr(PersistenceBackend, method, None)


def _reports_progress(kind: type, method: str) -> bool:
    own = getattr(kind, method, None)
    return _overrides(kind, method) and own is not None and "progress" in signature(own).parameters


def safe_metrics_snapshot(backend: object) -> dict[str, int]:
    """Return a backend's counters, or ``{}`` if it has none or they can't be read. Never raises."""
    try:
        snapshot = cast("PersistenceBackend", backend).metrics.snapshot()
        return {str(name): int(value) for name, value in dict(snapshot).items()}
    except Exception:  # noqa: BLE001 - a third party's counters may fail in any way, and they are only a display
        return {}
