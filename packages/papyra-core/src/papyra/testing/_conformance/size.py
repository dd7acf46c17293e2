"""What holds for a store with very many records."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from papyra.persistence.retention import RetentionPolicy
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import NOW, audit, event, letter

if TYPE_CHECKING:
    from papyra.persistence.models import PersistedRecord
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["SizePromises"]

_BATCH = 5_000  # records that a system hands over at most
_RARE = 100_000


class SizePromises(ConformanceBase):
    """A store does with a million records what it does with ten.

    It takes a while, so it must be asked for.
    """

    async def test_a_large_store_keeps_its_promises(self, open_backend: OpenBackend) -> None:
        total = self.smoke_records
        if not total:
            pytest.skip("not asked for; smoke_records = 1_000_000 does")
        async with aclosing(open_backend(RetentionPolicy())) as backend:
            for first in range(0, total, _BATCH):
                await backend.record_batch([_record(n) for n in range(first, min(first + _BATCH, total))])
            await backend.flush()
            newest = [_record(n) for n in range(max(0, total - 30), total) if n % 3 == 0][-10:]
            assert list(await backend.list_events(limit=10)) == newest
            rare = [_record(n) for n in range(0, total, _RARE) if n % 3 == 0]
            assert list(await backend.list_events(event_type="Rare")) == rare
            left = total
            async with aclosing(backend.stream()) as records:
                async for record in records:
                    left -= 1
                    assert record == _record(left)
            assert left == 0
            async with aclosing(backend.follow(limit=10)) as records:
                assert [await anext(records) for _ in range(10)] == [
                    _record(n) for n in range(total - 10, total)
                ]
            assert not (await backend.scan()).has_anomalies
            report = await backend.compact()
            assert (report.before_records, report.after_records) == (total, total)
        if not self.durable:
            return
        async with aclosing(open_backend(RetentionPolicy(max_records=total // 2))) as backend:
            assert (await backend.compact()).after_records == total // 2
            oldest = NOW + (total - total // 2)
            assert not await backend.list_events(until=oldest - 1)
            assert not await backend.list_audits(until=oldest - 1)
            assert list(await backend.list_events(limit=10)) == newest


def _record(number: int) -> PersistedRecord:
    made: PersistedRecord = (event, audit, letter)[number % 3](number)
    return event(number, event_type="Rare") if number % 3 == 0 and number % _RARE == 0 else made
