"""`follow` and `stream` as the contract implements them when a backend only lists: by asking again."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import InMemoryPersistence, PersistenceBackend, RetentionPolicy
from papyra.persistence.models import CompactionReport, PersistedAudit, PersistedDeadLetter, PersistedEvent


def event(number: int, moment: float | None = None) -> PersistedEvent:
    return PersistedEvent("s", "s:1", "ActorStarted", {"n": number}, number if moment is None else moment)


def audit(number: int) -> PersistedAudit:
    return PersistedAudit("s", number, 1, 1, 0, 0, 0, (), (), 0)


class Lists(PersistenceBackend):
    """The least a backend has: it follows by what the contract brings."""

    name = "lists"

    def __init__(self) -> None:
        self.inner = InMemoryPersistence(RetentionPolicy())

    async def record_event(self, event: PersistedEvent) -> None:
        await self.inner.record_event(event)

    async def record_audit(self, audit: PersistedAudit) -> None:
        await self.inner.record_audit(audit)

    async def record_dead_letter(self, dead_letter: PersistedDeadLetter) -> None:
        await self.inner.record_dead_letter(dead_letter)

    async def list_events(self, **what):
        return await self.inner.list_events(**what)

    async def list_audits(self, **what):
        return await self.inner.list_audits(**what)

    async def list_dead_letters(self, **what):
        return await self.inner.list_dead_letters(**what)

    async def compact(self, *, dry_run=False, progress=None) -> CompactionReport:
        return await self.inner.compact(dry_run=dry_run)

    async def aclose(self) -> None:
        await self.inner.aclose()

    @property
    def closed(self) -> bool:
        return self.inner.closed


@pytest.fixture(params=[Lists, InMemoryPersistence])
def backend(request: pytest.FixtureRequest) -> PersistenceBackend:
    return request.param()


async def take(records, count: int) -> list:
    with anyio.fail_after(10):
        return [await anext(records) for _ in range(count)]


async def test_the_newest_come_first_and_then_the_new_ones(backend: PersistenceBackend) -> None:
    await backend.record_batch([event(n) for n in range(5)])
    async with aclosing(backend.follow(limit=2)) as records:
        assert await take(records, 2) == [event(3), event(4)]
        await backend.record_batch([event(5), audit(6), event(7)])
        assert await take(records, 3) == [event(5), audit(6), event(7)]


async def test_without_a_limit_only_new_ones_come(backend: PersistenceBackend) -> None:
    await backend.record_batch([event(n) for n in range(5)])
    async with anyio.create_task_group() as group:
        found: list[object] = []

        async def follow() -> None:
            async with aclosing(backend.follow()) as records:
                async for record in records:
                    found.append(record)
                    arrived.set()

        arrived = anyio.Event()
        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        await backend.record_event(event(5))
        with anyio.fail_after(10):
            await arrived.wait()
        group.cancel_scope.cancel()
    assert found == [event(5)]


async def test_limit_counts_what_is_wanted_however_far_back(backend: PersistenceBackend) -> None:
    await backend.record_batch([event(n) for n in range(2)])
    await backend.record_batch([audit(n) for n in range(2, 1200)])

    def is_event(record: object) -> bool:
        return isinstance(record, PersistedEvent)

    async with aclosing(backend.follow(limit=5, wanted=is_event)) as records:
        assert await take(records, 2) == [event(0), event(1)]
        await backend.record_batch([audit(1200), event(1201)])
        assert await take(records, 1) == [event(1201)]


async def test_equal_records_and_a_burst_all_come(backend: PersistenceBackend) -> None:
    await backend.record_batch([event(0, 5.0)] * 3)
    async with aclosing(backend.follow(limit=1)) as records:
        assert await take(records, 1) == [event(0, 5.0)]
        await backend.record_batch([event(0, 5.0)] * 2 + [event(n) for n in range(6, 2000)])
        assert await take(records, 1996) == [event(0, 5.0)] * 2 + [event(n) for n in range(6, 2000)]


async def test_it_ends_when_the_backend_is_closed_and_is_refused_after(backend: PersistenceBackend) -> None:
    found: list[object] = []

    async def follow() -> None:
        async with aclosing(backend.follow()) as records:
            found.extend([record async for record in records])

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            await backend.aclose()
    assert found == []
    with pytest.raises(PersistenceError, match="closed"):
        await anext(backend.follow())
    with pytest.raises(PersistenceError, match="closed"):
        await anext(backend.stream())


async def test_a_negative_limit_is_refused(backend: PersistenceBackend) -> None:
    with pytest.raises(ValueError, match="-1"):
        await anext(backend.follow(limit=-1))


async def test_a_stream_is_newest_first_between_two_times(backend: PersistenceBackend) -> None:
    await backend.record_batch([event(1), audit(2), event(3), event(4)])
    assert [record async for record in backend.stream()] == [event(4), event(3), audit(2), event(1)]
    assert [record async for record in backend.stream(since=2, until=3)] == [event(3), audit(2)]
