"""The least that a backend may be keeps the contract.

On either base class, and with the keywords of before.
"""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import (
    BatchBackend,
    InMemoryPersistence,
    PersistenceBackend,
    RetentionPolicy,
    backend_capabilities,
)
from papyra.persistence.models import (
    CompactionReport,
    PersistedAudit,
    PersistedDeadLetter,
    PersistedEvent,
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
)
from papyra.persistence.query import Query
from papyra.persistence.threaded import ThreadedBackend
from papyra.testing import BackendConformance


class OneList(BatchBackend):
    """Only what `BatchBackend` asks for."""

    name = "onelist"

    def __init__(self, retention_policy=None):
        self._retention = retention_policy or RetentionPolicy()
        self._records = []
        self._closed = False

    async def record_batch(self, records):
        self._refuse_if_closed()
        self._records += records
        self.metrics.records_written += len(records)

    async def select(self, query):
        self._refuse_if_closed()
        found = [record for record in self._kept() if query.matches(record)]
        return found if query.limit is None else found[max(0, len(found) - query.limit) :]

    async def compact(self, *, dry_run=False, progress=None):
        self._refuse_if_closed()
        report = CompactionReport(self.name, len(self._records), len(self._kept()), None, None)
        if not dry_run:
            self._records = self._kept()
            self.metrics.compactions += 1
        return report

    async def aclose(self):
        self._closed = True

    @property
    def closed(self):
        return self._closed

    def _kept(self):
        return self.retention.newest_kept(
            reversed(self._records), self.time_fn(), lambda one: len(repr(one))
        )[::-1]


class ThreeLists(PersistenceBackend):
    """Only what `PersistenceBackend` asks for, and a scan and a compaction that know no ``progress``."""

    name = "threelists"

    def __init__(self, retention_policy=None):
        self._one = OneList(retention_policy)

    async def record_event(self, event):
        await self._add(event)

    async def record_audit(self, audit):
        await self._add(audit)

    async def record_dead_letter(self, dead_letter):
        await self._add(dead_letter)

    async def list_events(self, *, event_type=None, actor=None, **span):
        return self._find(PersistedEvent, span, event_type=event_type, actor_address=actor)

    async def list_audits(self, **span):
        return self._find(PersistedAudit, span)

    async def list_dead_letters(self, *, message_type=None, actor=None, **span):
        return self._find(PersistedDeadLetter, span, message_type=message_type, target=actor)

    async def scan(self):
        return await super().scan()

    async def compact(self, *, dry_run=False):
        self._refuse_if_closed()
        self._one.time_fn = self.time_fn
        report = await self._one.compact(dry_run=dry_run)
        self.metrics.compactions += not dry_run
        return CompactionReport(self.name, report.before_records, report.after_records, None, None)

    async def aclose(self):
        await self._one.aclose()

    @property
    def closed(self):
        return self._one.closed

    @property
    def retention(self):
        return self._one.retention

    async def _add(self, record):
        self._refuse_if_closed()
        await self._one.record_batch([record])
        self.metrics.records_written += 1

    def _find(self, kind, span, **wanted):
        self._refuse_if_closed()
        self._one.time_fn = self.time_fn
        limit, since, until = (span.get(name) for name in ("limit", "since", "until"))
        if limit is not None and limit < 0:
            raise ValueError(f"limit must not be negative, but is {limit}")
        found = [
            record
            for record in self._one._kept()
            if isinstance(record, kind)
            and (since is None or record.timestamp >= since)
            and (until is None or record.timestamp <= until)
            and all(value is None or getattr(record, name) == value for name, value in wanted.items())
        ]
        return found if limit is None else found[max(0, len(found) - limit) :]


@pytest.fixture(autouse=True)
def _look_more_often(monkeypatch):
    monkeypatch.setattr("papyra.persistence.following.INTERVAL", 0.01)


class TestOneList(BackendConformance):
    @pytest.fixture
    def open_backend(self):
        return OneList


class TestThreeLists(BackendConformance):
    @pytest.fixture
    def open_backend(self):
        return ThreeLists


class InThreads(ThreadedBackend):
    """Only what `ThreadedBackend` asks for."""

    name = "inthreads"

    def __init__(self):
        super().__init__()
        self.closes = 0

    def blocking_record_batch(self, work, records, batch_id):
        return 0

    def blocking_select(self, work, query, now):
        return []

    def blocking_compact(self, work, now, *, dry_run):
        return CompactionReport(self.name, 0, 0, None, None)

    def blocking_close(self, work):
        self.closes += 1


async def test_a_threaded_backend_has_no_damage_unless_it_says_so():
    async with aclosing(InThreads()) as backend:
        assert not (await backend.scan()).has_anomalies
        report = await backend.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR))
        assert (report.scan.anomalies, report.repaired_files) == ((), ())


async def test_a_threaded_backend_of_a_forked_process_releases_nothing():
    backend = InThreads()
    backend.close_without_waiting()
    assert backend.closed
    with pytest.raises(PersistenceError, match="closed"):
        await backend.list_events()
    assert backend.closes == 0


# -- following looks at 256 records at first, and at more where that is not enough


@pytest.fixture(params=[ThreeLists, InMemoryPersistence])
def backend(request):
    return request.param()


def event(number):
    return PersistedEvent("s", "s:1", "ActorStarted", {"n": number}, number)


async def take(records, count):
    with anyio.fail_after(10):
        return [await anext(records) for _ in range(count)]


async def test_what_is_wanted_is_counted_however_far_back(backend):
    audits = [PersistedAudit("s", n, 1, 1, 0, 0, 0, (), (), 0) for n in range(1200)]
    await backend.record_batch([event(0), event(1), *audits])
    async with aclosing(
        backend.follow(limit=5, wanted=lambda one: isinstance(one, PersistedEvent))
    ) as records:
        assert await take(records, 2) == [event(0), event(1)]
        await backend.record_batch([audits[0], event(1201)])
        assert await take(records, 1) == [event(1201)]


async def test_a_query_and_a_condition_both_decide_what_follows(backend):
    await backend.record_batch([event(n) for n in range(6)])
    query = Query(PersistedEvent, limit=2, since=2.0)
    async with aclosing(backend.follow(query, wanted=lambda one: one.payload["n"] != 4)) as records:
        assert await take(records, 2) == [event(3), event(5)]
        await backend.record_batch([event(1), event(4), event(7)])
        assert await take(records, 1) == [event(7)]


@pytest.mark.parametrize("closes", [True, False])
async def test_following_shows_an_error_of_the_store_unless_it_was_closed(closes):
    class Away(ThreeLists):
        away = False

        async def list_events(self, **filters):
            if self.away:
                if closes:
                    await self.aclose()
                raise PersistenceError("away")
            return await super().list_events(**filters)

    store = Away()
    await store.record_event(event(0))
    async with aclosing(store.follow(limit=1)) as records:
        assert await take(records, 1) == [event(0)]
        store.away = True
        with pytest.raises(StopAsyncIteration if closes else PersistenceError):
            await anext(records)


async def test_equal_records_and_a_burst_all_come(backend):
    await backend.record_batch([event(0)] * 3)
    async with aclosing(backend.follow(limit=1)) as records:
        assert await take(records, 1) == [event(0)]
        burst = [event(0)] * 2 + [event(n) for n in range(6, 2000)]
        await backend.record_batch(burst)
        assert await take(records, 1996) == burst


def test_they_promise_no_more_than_they_do():
    assert backend_capabilities(OneList) == {"batch", "compact", "metrics"}
    assert backend_capabilities(ThreeLists) == {"scan", "compact", "metrics"}
