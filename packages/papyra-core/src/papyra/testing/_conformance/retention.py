"""What holds for retention, on reads and after a compaction."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from papyra.persistence.retention import RetentionPolicy
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import NOW, event, mixed, noise, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import CompactionReport, PersistedRecord
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["RetentionPromises"]

_POLICIES = {
    "count": RetentionPolicy(max_records=7),
    "age": RetentionPolicy(max_age_seconds=7.0),
    "bytes": RetentionPolicy(max_total_bytes=1000),
    "all": RetentionPolicy(max_records=7, max_age_seconds=7.0, max_total_bytes=10**6),
}


class RetentionPromises(ConformanceBase):
    """Age first, then count, then bytes; reads apply it, compaction makes it physical."""

    async def test_the_policy_is_told(self, open_backend: OpenBackend) -> None:
        policy = RetentionPolicy(max_records=7, max_age_seconds=1e6)
        async with self.using(open_backend(policy)) as backend:
            assert backend.retention == policy

    async def test_count_holds_for_all_kinds_together(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend(RetentionPolicy(max_records=7))) as backend:
            await backend.record_batch(mixed(20))
            assert await stored(backend) == mixed(20)[-7:]
            assert len(await backend.list_events(limit=5)) == 2
            await backend.record_event(event(20))
            assert await stored(backend) == [*mixed(20)[-6:], event(20)]

    async def test_a_count_of_zero_keeps_nothing(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend(RetentionPolicy(max_records=0))) as backend:
            await backend.record_batch(mixed(20))
            assert await stored(backend) == []

    async def test_age_follows_the_clock_of_the_backend(self, open_backend: OpenBackend) -> None:
        now = NOW + 20
        async with self.using(open_backend(RetentionPolicy(max_age_seconds=5))) as backend:
            backend.time_fn = lambda: now
            await backend.record_batch(mixed(20))
            # one that is exactly as old as the limit is kept
            assert await stored(backend) == mixed(20)[15:]
            assert list(await backend.list_events(limit=10, since=NOW)) == [event(15), event(18)]
            now += 2
            assert await stored(backend) == mixed(20)[17:]
            now += 1000
            assert await stored(backend) == []

    async def test_age_is_applied_before_count(self, open_backend: OpenBackend) -> None:
        young, old, younger = event(10), event(1), event(11)
        async with self.using(open_backend(RetentionPolicy(max_records=2, max_age_seconds=5))) as backend:
            backend.time_fn = lambda: NOW + 12
            await backend.record_batch([young, old, younger])
            assert list(await backend.list_events()) == [young, younger]
            await backend.compact()
            assert list(await backend.list_events()) == [young, younger]

    async def test_bytes_keep_the_newest_that_fit(self, open_backend: OpenBackend) -> None:
        events = [event(n, payload={"noise": noise(10_000, n)}) for n in range(20)]
        async with self.using(open_backend(RetentionPolicy(max_total_bytes=50_000))) as backend:
            await backend.record_batch(events)
            kept: list[PersistedRecord] = list(await backend.list_events())
            assert 1 <= len(kept) <= 10
            assert kept == events[-len(kept) :]
            assert list(await backend.list_events(limit=20, since=0.0)) == kept

    async def test_no_bytes_keep_nothing_and_many_keep_all(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend(RetentionPolicy(max_total_bytes=10**9))) as backend:
            await backend.record_batch(mixed(9))
            assert await stored(backend) == mixed(9)
        async with self.using(open_backend(RetentionPolicy(max_total_bytes=0))) as backend:
            await backend.record_event(event(9))
            assert await stored(backend) == []

    @pytest.mark.parametrize("policy", _POLICIES.values(), ids=_POLICIES.keys())
    async def test_a_compaction_removes_what_reads_did_not_show(
        self, open_backend: OpenBackend, policy: RetentionPolicy
    ) -> None:
        async with self.using(open_backend(policy)) as backend:
            _stop_the_clock(backend)
            await backend.record_batch(mixed(100))
            kept = await stored(backend)
            report = await backend.compact()
            _check_arithmetic(report, backend, len(kept))
            assert await stored(backend) == kept
            again = await backend.compact()
            _check_arithmetic(again, backend, len(kept))
            assert again.removed_records == 0
            await backend.record_event(event(100))
            shown = await stored(backend)
            assert shown[-1] == event(100)
        if self.durable:
            async with self.using(open_backend(RetentionPolicy())) as backend:
                found = await stored(backend)
            # Compacted records are gone for good; later ones may already lack their oldest.
            assert len(shown) <= len(found) <= len(kept) + 1
            assert found == [*kept, event(100)][-len(found) :]

    async def test_a_compaction_of_many_records_keeps_the_newest_that_the_policy_keeps(
        self, open_backend: OpenBackend, record_size: Callable[[PersistedRecord], int] | None
    ) -> None:
        """Many are more than a store may move or delete at once."""
        total, smallest = 1_600, 30  # bytes of a record, however well it is compressed
        policies = [
            RetentionPolicy(max_records=500),
            RetentionPolicy(max_age_seconds=199.0),
            RetentionPolicy(max_total_bytes=5_000),
        ]
        now = NOW + total
        left: list[PersistedRecord] = [event(n, payload={"noise": noise(60, n)}) for n in range(total)]
        async with self.using(open_backend(RetentionPolicy())) as backend:
            await backend.record_batch(left)
        for policy in policies:
            async with self.using(open_backend(policy)) as backend:
                backend.time_fn = lambda: now
                if not self.durable:
                    await backend.record_batch(left)
                report = await backend.compact()
                kept: list[PersistedRecord] = list(await backend.list_events())
                if policy.max_total_bytes is None or record_size:
                    expected = policy.newest_kept(reversed(left), now, record_size or (lambda _: 0))[::-1]
                    assert kept == expected
                else:
                    assert 0 < len(kept) <= policy.max_total_bytes / smallest
                    assert kept == left[-len(kept) :]
                _check_arithmetic(report, backend, len(kept))
            if self.durable:
                async with self.using(open_backend(RetentionPolicy())) as backend:
                    assert list(await backend.list_events()) == kept, (
                        "records that were removed are still there"
                    )
            left = kept if self.durable else left

    async def test_a_dry_run_tells_what_a_compaction_does_and_changes_nothing(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend(RetentionPolicy(max_age_seconds=7.0))) as backend:
            _stop_the_clock(backend)
            await backend.record_batch(mixed(100))
            kept = await stored(backend)
            dry = await backend.compact(dry_run=True)
            assert await stored(backend) == kept
            assert await backend.compact(dry_run=True) == dry
            _check_arithmetic(dry, backend, len(kept))
            done = await backend.compact()
            assert (dry.before_records, dry.after_records) == (done.before_records, done.after_records)
            assert dry.before_bytes == done.before_bytes

    async def test_without_limits_a_compaction_keeps_everything(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend(RetentionPolicy())) as backend:
            _check_arithmetic(await backend.compact(), backend, 0)
            await backend.record_batch(mixed(30))
            _check_arithmetic(await backend.compact(), backend, 30)
            assert await stored(backend) == mixed(30)


def _stop_the_clock(backend: PersistenceBackend) -> None:
    backend.time_fn = lambda: NOW + 100


def _check_arithmetic(report: CompactionReport, backend: PersistenceBackend, kept: int) -> None:
    assert report.backend == backend.name
    assert report.after_records == kept
    assert report.before_records >= kept
    assert report.removed_records == report.before_records - kept
    if report.before_bytes is None or report.after_bytes is None:
        assert report.before_bytes is report.after_bytes is report.reclaimed_bytes is None
    else:
        assert min(report.before_bytes, report.after_bytes) >= 0
        assert report.reclaimed_bytes == report.before_bytes - report.after_bytes
