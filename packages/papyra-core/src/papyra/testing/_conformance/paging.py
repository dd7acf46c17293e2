"""What holds for ``page``, ``count`` and ``follow`` by query."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from papyra.persistence.models import PersistedAudit, PersistedEvent
from papyra.persistence.query import Query
from papyra.persistence.retention import RetentionPolicy
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import NOW, event, mixed, streamed

if TYPE_CHECKING:
    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import PersistedRecord
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["PagingPromises"]

_ALL: Query[PersistedRecord] = Query()


class PagingPromises(ConformanceBase):
    """Pages go through the store in the order of writing; a cursor finds its place again; counts agree."""

    async def test_pages_yield_every_record_once_in_the_order_of_writing(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend()) as backend:
            assert await _paged(backend, _ALL, limit=7) == []
            await backend.record_batch(mixed(50))
            written = (await streamed(backend))[::-1]
            assert await _paged(backend, _ALL, limit=7) == written
            assert await _paged(backend, _ALL, limit=1000) == written
            events: Query[PersistedEvent] = Query(PersistedEvent, since=NOW + 9, until=NOW + 30)
            assert await _paged(backend, events, limit=2) == [event(n) for n in range(9, 31, 3)]

    async def test_a_cursor_may_be_kept_while_others_append(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch([event(n) for n in range(5)])
            first = await backend.page(_ALL, limit=3)
            await backend.record_batch([event(n) for n in range(5, 8)])
            second = await backend.page(_ALL, after=first.cursor, limit=100)
            assert [*first.records, *second.records] == [event(n) for n in range(8)]
            end = await backend.page(_ALL, after=second.cursor)
            assert end.records == []
            await backend.record_event(event(8))
            assert (await backend.page(_ALL, after=end.cursor)).records == [event(8)]
        if self.durable:
            async with self.using(open_backend()) as backend:
                assert (await backend.page(_ALL, after=second.cursor)).records == [event(8)]

    async def test_pages_go_on_through_a_compaction(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend(RetentionPolicy(max_records=10))) as backend:
            await backend.record_batch([event(n) for n in range(20)])
            page = await backend.page(_ALL, limit=4)
            assert page.records == [event(n) for n in range(10, 14)]
            await backend.compact()
            page = await backend.page(_ALL, after=page.cursor, limit=4)
            assert page.records == [event(n) for n in range(14, 18)]
            await backend.record_batch([event(n) for n in range(20, 35)])
            await backend.compact()  # the records before the cursor are gone, and the next ones as well
            page = await backend.page(_ALL, after=page.cursor, limit=100)
            assert page.records == [event(n) for n in range(25, 35)]

    async def test_a_page_refuses_a_bad_limit_and_a_bad_cursor(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(1))
            with pytest.raises(ValueError, match="limit"):
                await backend.page(_ALL, limit=0)
            with pytest.raises(ValueError, match="cursor"):
                await backend.page(_ALL, after="no cursor of any store")

    async def test_pages_beside_writers_lose_nothing(self, open_backend: OpenBackend) -> None:
        """Records get their place when they are committed.

        A later commit never comes before a place that was read.
        """
        async with self.using(open_backend()) as backend:
            found: list[PersistedRecord] = []
            done = anyio.Event()

            async def write(first: int) -> None:
                for number in range(first, first + 10):
                    await backend.record_batch([event(number)])

            async def write_all() -> None:
                async with anyio.create_task_group() as writers:
                    for first in (0, 100, 200):
                        writers.start_soon(write, first)
                done.set()

            async def read() -> None:
                cursor: str | None = None
                while True:
                    ending = done.is_set()
                    page = await backend.page(_ALL, after=cursor, limit=5)
                    found.extend(page.records)
                    cursor = page.cursor
                    if ending and not page.records:
                        return
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as group:
                group.start_soon(write_all)
                group.start_soon(read)
            written = {event(first + n).timestamp for first in (0, 100, 200) for n in range(10)}
            times = [one.timestamp for one in found]
            assert len(times) == len(set(times)), "a record came twice"
            assert set(times) == written, "a record was passed over"

    async def test_count_agrees_with_what_is_listed(self, open_backend: OpenBackend) -> None:
        queries: list[Query[Any]] = [
            Query(),
            Query(PersistedEvent),
            Query(PersistedAudit, since=NOW + 5),
            Query(PersistedEvent, actor="conformance:6"),
            Query(PersistedEvent, type="Numbered", until=NOW + 12),
            Query(limit=3),
            Query(limit=0),
            Query(limit=10_000),
        ]
        async with self.using(open_backend(RetentionPolicy(max_records=30))) as backend:
            await backend.record_batch(mixed(40))
            kept = mixed(40)[10:]
            for query in queries:
                matching = sum(map(query.matches, kept))
                expected = matching if query.limit is None else min(query.limit, matching)
                assert await backend.count(query) == expected, query

    async def test_following_by_query_counts_and_yields_what_matches(self, open_backend: OpenBackend) -> None:
        query: Query[PersistedEvent] = Query(PersistedEvent, limit=3)
        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(30))
            async with aclosing(backend.follow(query)) as records:
                assert [await anext(records) for _ in range(3)] == [event(21), event(24), event(27)]
                await backend.record_batch(mixed(36)[30:])
                assert [await anext(records) for _ in range(2)] == [event(30), event(33)]

    async def test_following_shows_a_new_record_within_a_second(self, open_backend: OpenBackend) -> None:
        """The best of three attempts counts, because the machine may be busy."""
        delays: list[float] = []
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(0))
            async with aclosing(backend.follow(Query(limit=1))) as records:
                assert await anext(records) == event(0)
                for number in range(1, 4):
                    await backend.record_event(event(number))
                    began = time.monotonic()
                    assert await anext(records) == event(number)
                    delays.append(time.monotonic() - began)
                    if delays[-1] < 1:
                        return
        pytest.fail(f"new records came after {', '.join(f'{delay:.2f}' for delay in delays)} s")


async def _paged(backend: PersistenceBackend, query: Query[Any], limit: int) -> list[PersistedRecord]:
    found: list[PersistedRecord] = []
    cursor: str | None = None
    while (page := await backend.page(query, after=cursor, limit=limit)).records:
        assert len(page.records) <= limit
        found += page.records
        cursor = page.cursor
    return found
