"""What holds for ``stream`` and ``follow``."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio
import pytest

from papyra.persistence.models import PersistedEvent
from papyra.persistence.retention import RetentionPolicy
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import NOW, audit, event, mixed, stored, streamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from papyra.persistence.models import PersistedRecord
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["FollowingPromises"]


class FollowingPromises(ConformanceBase):
    """Every record newest first, without having them all at once; and each new one as it comes, once."""

    # -- stream

    async def test_a_stream_yields_every_kept_record_newest_first(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            assert await streamed(backend) == []
            await backend.record_batch(mixed(50))
            assert await streamed(backend) == mixed(50)[::-1]

    async def test_a_stream_keeps_the_order_of_recording_within_a_kind(
        self, open_backend: OpenBackend
    ) -> None:
        events = [event(n) for n in (3, 1, 2, 1)]
        async with self.using(open_backend()) as backend:
            await backend.record_batch(events)
            assert await streamed(backend) == events[::-1]

    async def test_a_stream_begins_and_ends_at_times_that_are_inclusive(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(20))
            assert await streamed(backend, since=NOW + 15) == mixed(20)[:14:-1]
            assert await streamed(backend, until=NOW + 4) == mixed(20)[4::-1]
            assert await streamed(backend, since=NOW + 4, until=NOW + 6) == mixed(20)[6:3:-1]
            assert await streamed(backend, since=NOW + 6, until=NOW + 4) == []

    async def test_a_stream_holds_to_retention(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend(RetentionPolicy(max_records=7))) as backend:
            await backend.record_batch(mixed(20))
            assert await streamed(backend) == mixed(20)[:12:-1]
            assert await streamed(backend, until=NOW + 14) == mixed(20)[14:12:-1]

    async def test_a_stream_that_is_left_early_leaves_the_store_usable(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(50))
            for _ in range(3):
                async with aclosing(backend.stream()) as records:
                    assert await anext(records) == mixed(50)[-1]
            await backend.record_event(event(50))
            await backend.compact()
            assert await stored(backend) == [*mixed(50), event(50)]

    async def test_a_stream_misses_nothing_that_was_there_while_others_write(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(300))
            found: list[PersistedRecord] = []
            async with aclosing(backend.stream()) as records:
                async for record in records:
                    found.append(record)
                    if len(found) % 50 == 1:
                        await backend.record_event(event(1000 + len(found)))
            assert [record for record in found if record.timestamp < NOW + 300] == mixed(300)[::-1]

    # -- follow

    async def test_following_yields_the_newest_and_then_each_new_record_once(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(9))
            async with aclosing(backend.follow(limit=4)) as records:
                assert await _take(records, 4) == mixed(9)[5:]
                await backend.record_batch(mixed(15)[9:])
                await backend.record_event(event(15))
                await backend.record_audit(audit(16))
                assert await _take(records, 8) == [*mixed(15)[9:], event(15), audit(16)]
                await backend.record_event(event(17))  # one that came twice would come before it
                assert await anext(records) == event(17)

    async def test_following_yields_equal_records_as_often_as_they_were_recorded(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(1))
            async with aclosing(backend.follow(limit=1)) as records:
                assert await anext(records) == event(1)
                await backend.record_batch([event(1), event(1)])
                await backend.record_event(event(2))
                assert await _take(records, 3) == [event(1), event(1), event(2)]

    async def test_following_without_a_limit_yields_new_records_only(self, open_backend: OpenBackend) -> None:
        found: list[PersistedRecord] = []
        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(9))

            async def follow(scope: anyio.CancelScope) -> None:
                async with aclosing(backend.follow()) as records:
                    found.extend(await _take(records, 5))
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(follow, group.cancel_scope)
                number = 100
                while (
                    True
                ):  # nobody can tell when following has begun: the first that it sees may be a later one
                    await backend.record_event(event(number))
                    number += 1
                    await anyio.sleep(0.005)
        assert isinstance(found[0], PersistedEvent)
        first = int(found[0].timestamp - NOW)
        assert first >= 100
        assert found == [event(n) for n in range(first, first + 5)]

    async def test_following_counts_and_yields_only_what_is_wanted(self, open_backend: OpenBackend) -> None:
        def wanted(record: PersistedRecord) -> bool:
            return isinstance(record, PersistedEvent)

        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(30))
            async with aclosing(backend.follow(limit=3, wanted=wanted)) as records:
                assert await _take(records, 3) == [event(21), event(24), event(27)]
                await backend.record_batch(mixed(36)[30:])
                assert await _take(records, 2) == [event(30), event(33)]

    async def test_following_holds_to_retention(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend(RetentionPolicy(max_records=3))) as backend:
            await backend.record_batch(mixed(9))
            async with aclosing(backend.follow(limit=5)) as records:
                assert await _take(records, 3) == mixed(9)[6:]
                await backend.record_event(event(9))
                assert await anext(records) == event(9)

    async def test_following_goes_on_through_a_compaction(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend(RetentionPolicy(max_records=10))) as backend:
            await backend.record_batch(mixed(20))
            async with aclosing(backend.follow(limit=1)) as records:
                assert await anext(records) == mixed(20)[-1]
                for number in (20, 21, 22):
                    await backend.record_event(event(number))
                    await backend.compact()
                assert await _take(records, 3) == [event(20), event(21), event(22)]

    async def test_following_misses_nothing_after_the_newest_were_compacted_away(
        self, open_backend: OpenBackend
    ) -> None:
        """A store that reuses the number of a removed record hides the next record from its followers."""
        now = NOW + 10
        async with self.using(open_backend(RetentionPolicy(max_age_seconds=10))) as backend:
            backend.time_fn = lambda: now
            await backend.record_event(event(0))
            async with aclosing(backend.follow(limit=1, wanted=lambda one: one.timestamp >= NOW)) as records:
                assert await anext(records) == event(0)
                for number in (1000, 3000):
                    await backend.record_batch([event(n, timestamp=1.0) for n in range(5)])
                    await backend.record_event(event(number))
                    assert await anext(records) == event(number)
                    now = NOW + number + 1000
                    await backend.compact()
                    assert list(await backend.list_events()) == []
                await backend.record_batch([event(5000), event(5001)])
                assert await _take(records, 2) == [event(5000), event(5001)]

    async def test_following_ends_when_the_backend_is_closed(self, open_backend: OpenBackend) -> None:
        found: list[PersistedRecord] = []
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(1))
            begun = anyio.Event()

            async def follow() -> None:
                async with aclosing(backend.follow(limit=1)) as records:
                    async for record in records:
                        found.append(record)
                        begun.set()

            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                await begun.wait()
                await backend.aclose()
        assert found == [event(1)]

    async def test_following_may_be_cancelled_and_begun_again(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(0))
            for number in range(1, 4):
                async with aclosing(backend.follow(limit=1)) as records:
                    assert await anext(records) == event(number - 1)
                    with anyio.move_on_after(0.01):
                        await anext(records)
                        pytest.fail("a record came that nobody recorded")
                await backend.record_event(event(number))
            assert list(await backend.list_events()) == [event(n) for n in range(4)]

    async def test_following_a_negative_number_of_records_is_refused(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            with pytest.raises(ValueError, match="limit"):
                async with aclosing(backend.follow(limit=-1)) as records:
                    await anext(records)

    async def test_following_shows_what_another_backend_records(self, open_backend: OpenBackend) -> None:
        if not self.shared:
            pytest.skip("not a store that several backends may open at once")
        async with self.using(open_backend()) as one, self.using(open_backend()) as other:
            await one.record_event(event(0))
            async with aclosing(one.follow(limit=1)) as records:
                assert await anext(records) == event(0)
                for number in range(1, 6):
                    await (other if number % 2 else one).record_event(event(number))
                assert await _take(records, 5) == [event(n) for n in range(1, 6)]


async def _take(records: AsyncGenerator[PersistedRecord], count: int) -> list[PersistedRecord]:
    return [await anext(records) for _ in range(count)]
