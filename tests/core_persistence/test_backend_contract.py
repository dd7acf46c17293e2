"""What the contract's base class does for a backend that defines only the least."""

from __future__ import annotations

import pytest

from papyra.exceptions import PartialWriteError, PersistenceError
from papyra.persistence import (
    InMemoryPersistence,
    PersistenceBackend,
    RetentionPolicy,
    backend_capabilities,
    safe_metrics_snapshot,
)
from papyra.persistence.metrics import PersistenceMetrics
from papyra.persistence.models import CompactionReport, PersistedAudit, PersistedDeadLetter, PersistedEvent

EVENT = PersistedEvent("s", "s:1", "E", {}, 1.0)
AUDIT = PersistedAudit("s", 2.0, 0, 0, 0, 0, 0, (), (), 0)
LETTER = PersistedDeadLetter("s", "s:1", "M", None, 3.0)


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


class Least(PersistenceBackend):
    """Refuses audits and whatever is called 'bad'."""

    name = "least"

    def __init__(self) -> None:
        self.got: list[object] = []
        self._closed = False

    async def record_event(self, event):
        if event.event_type == "bad":
            raise Falsy("a bad event")
        self.got.append(event)

    async def record_audit(self, audit):
        raise OSError("no audits")

    async def record_dead_letter(self, dead_letter):
        self.got.append(dead_letter)

    async def list_events(self, **filters):
        return []

    async def list_audits(self, **filters):
        return []

    async def list_dead_letters(self, **filters):
        return []

    async def compact(self, *, dry_run=False):
        return CompactionReport(self.name, 3, 1, None, None)

    async def aclose(self):
        self._closed = True

    @property
    def closed(self):
        return self._closed


async def test_the_default_batch_records_one_by_one_in_order():
    backend = Least()
    await backend.record_batch([LETTER, EVENT, LETTER])
    assert backend.got == [LETTER, EVENT, LETTER]
    await backend.record_batch([])


async def test_the_default_batch_tries_all_and_counts_what_failed():
    backend = Least()
    bad = PersistedEvent("s", "s:1", "bad", {}, 1.0)
    with pytest.raises(PartialWriteError, match="2 of 4 records were not stored") as caught:
        await backend.record_batch([bad, EVENT, AUDIT, LETTER])
    assert backend.got == [EVENT, LETTER]
    assert caught.value.failed == 2
    assert isinstance(caught.value.__cause__, Falsy)  # the first
    assert isinstance(caught.value, PersistenceError)


async def test_the_default_batch_stops_where_the_store_is_away_and_keeps_the_order():
    class Away(Least):
        async def record_dead_letter(self, dead_letter):
            raise PersistenceError("away", retry=True)

    backend = Away()
    with pytest.raises(PartialWriteError, match="2 of 3 records were not stored") as caught:
        await backend.record_batch([EVENT, LETTER, EVENT])
    assert (caught.value.failed, caught.value.retry, backend.got) == (2, True, [EVENT])


async def test_the_default_batch_lets_a_keyboard_interrupt_through():
    class Ending(Least):
        async def record_event(self, event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Ending().record_batch([EVENT])


async def test_the_least_backend_scans_clean_and_has_nothing_to_repair():
    backend = Least()
    await backend.flush()
    assert (await backend.scan()).anomalies == ()
    report = await backend.recover()
    assert (report.backend, report.repaired_files, report.quarantined_files) == ("least", (), ())
    assert backend.metrics.scans == 2
    assert backend.healthy
    assert backend.retention == RetentionPolicy()


async def test_a_closed_backend_refuses_what_the_base_class_does():
    backend = Least()
    await backend.aclose()
    for call in (backend.flush, backend.scan, backend.recover):
        with pytest.raises(PersistenceError, match=r"the least backend is closed\. Open a new one"):
            await call()


async def test_each_backend_has_counters_and_a_policy_of_its_own():
    one, other = Least(), Least()
    await one.scan()
    assert (one.metrics.scans, other.metrics.scans) == (1, 0)
    assert one.metrics is one.metrics


async def test_counters_can_be_set_back():
    backend = Least()
    await backend.scan()
    backend.metrics.reset()
    assert set(backend.metrics.snapshot().values()) == {0}


def test_capabilities_are_what_is_overridden():
    assert backend_capabilities(Least) == backend_capabilities(Least()) == {"compact", "metrics"}
    assert backend_capabilities(InMemoryPersistence) == {"batch", "compact", "metrics"}

    class More(Least):
        async def flush(self): ...

        async def recover(self, config=None):
            return await super().recover(config)

    assert backend_capabilities(More) == {"compact", "metrics", "flush", "recover"}


def test_the_arithmetic_of_a_compaction_report():
    report = CompactionReport("x", 10, 4, 1000, 1200)
    assert (report.removed_records, report.reclaimed_bytes) == (6, -200)
    assert CompactionReport("x", 10, 4, 1000, None).reclaimed_bytes is None


class Counters:
    def __init__(self, snapshot):
        self.metrics = self
        self.result = snapshot

    def snapshot(self):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    "backend",
    [None, object(), 5, Counters(ValueError()), Counters(None), Counters({"a": "many"}), Counters([1])],
)
def test_counters_that_cannot_be_read_are_empty(backend):
    assert safe_metrics_snapshot(backend) == {}


def test_counters_that_can_be_read_are_plain_numbers():
    assert safe_metrics_snapshot(Counters({"a": True, 5: 2.0})) == {"a": 1, "5": 2}
    assert safe_metrics_snapshot(InMemoryPersistence()) == PersistenceMetrics().snapshot()
    assert set(PersistenceMetrics().snapshot()) == {
        "records_written",
        "bytes_written",
        "scans",
        "anomalies_detected",
        "recoveries",
        "compactions",
        "write_errors",
        "scan_errors",
        "recovery_errors",
        "compaction_errors",
        "records_dropped",
    }


@pytest.mark.parametrize("work", ["scan", "recovery", "compaction"])
def test_care_counts_as_done_or_as_an_error_and_a_dry_run_not_at_all(work):
    done = {"scan": "scans", "recovery": "recoveries", "compaction": "compactions"}[work]
    metrics = PersistenceMetrics()
    with metrics.counting(work):
        pass
    with metrics.counting(work, dry_run=True):
        pass
    for dry_run in (False, True):
        with pytest.raises(OSError, match="disk"), metrics.counting(work, dry_run=dry_run):
            raise OSError("disk")
    with pytest.raises(KeyboardInterrupt), metrics.counting(work):
        raise KeyboardInterrupt
    assert {name: count for name, count in metrics.snapshot().items() if count} == {
        done: 1,
        f"{work}_errors": 1,
    }


# -- the memory backend, beyond conformance


async def test_memory_keeps_ten_thousand_without_a_policy():
    backend = InMemoryPersistence()
    assert backend.retention == RetentionPolicy(max_records=10_000)
    await backend.record_batch([EVENT] * 10_005)
    assert len(await backend.list_events()) == 10_000
    assert (await backend.compact()).before_records == 10_000


@pytest.mark.parametrize(
    "policy",
    [RetentionPolicy(max_age_seconds=10), RetentionPolicy(max_total_bytes=5_000), RetentionPolicy(100, 1e9)],
    ids=["age", "bytes", "count-and-age"],
)
async def test_memory_does_not_grow_with_what_it_no_longer_keeps(policy):
    backend = InMemoryPersistence(policy)
    for now in range(20_000):
        backend.time_fn = lambda now=now: float(now)
        await backend.record_event(PersistedEvent("s", "s:1", "E", {}, float(now)))
    held = (await backend.compact(dry_run=True)).before_records
    assert held < 2_100
    assert len(await backend.list_events()) <= 200
    await backend.compact()
    assert (await backend.compact(dry_run=True)).before_records == len(await backend.list_events())


@pytest.mark.parametrize(
    "policy", [RetentionPolicy(max_age_seconds=1e9), RetentionPolicy(max_total_bytes=10**9)]
)
async def test_a_write_to_memory_costs_the_same_however_many_records_there_are(policy, monkeypatch):
    looked_at = 0
    newest_kept = RetentionPolicy.newest_kept

    def counting(self, newest_first, now, size):
        nonlocal looked_at
        kept = newest_kept(self, newest_first, now, size)
        looked_at += len(kept)
        return kept

    monkeypatch.setattr(RetentionPolicy, "newest_kept", counting)
    backend = InMemoryPersistence(policy)
    for _ in range(20_000):
        await backend.record_event(EVENT)
    assert looked_at < 2 * 20_000 + 2_000


async def test_memory_sizes_values_that_are_not_json():
    backend = InMemoryPersistence(RetentionPolicy(max_total_bytes=10_000))
    await backend.record_event(PersistedEvent("s", "s:1", "E", {"odd": {1, 2}, "\ud800": "\ud800"}, 1.0))
    assert len(await backend.list_events()) == 1
