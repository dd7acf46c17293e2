"""What holds where calls are cancelled, and where they meet."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra.persistence.retention import RetentionPolicy
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import event, letter, mixed, stored, streamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import PersistedEvent
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["CancellingPromises"]

_DELAYS = (0, 0.0002, 0.001, 0.003)  # seconds: before a call has done anything, in its midst, and after it

_CALLS: dict[str, Callable[[PersistenceBackend], Awaitable[object]]] = {
    "list_events": lambda backend: backend.list_events(),
    "stream": streamed,
    "flush": lambda backend: backend.flush(),
    "scan": lambda backend: backend.scan(),
    "recover": lambda backend: backend.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)),
    "compact": lambda backend: backend.compact(),
}


class CancellingPromises(ConformanceBase):
    """A cancelled call ends, stores each record whole or not at all, and leaves the store usable."""

    @pytest.mark.parametrize("delay", _DELAYS)
    async def test_a_cancelled_write_stores_each_record_whole_or_not_at_all(
        self, open_backend: OpenBackend, delay: float
    ) -> None:
        batches = [[event(20 * batch + n) for n in range(20)] for batch in range(10)]
        acknowledged: list[PersistedEvent] = []
        async with self.using(open_backend()) as backend:
            for batch in batches:
                with anyio.move_on_after(delay):
                    await backend.record_batch(batch)
                    acknowledged += batch
            await backend.record_event(event(1000))
            found = list(await backend.list_events())
            assert not (await backend.scan()).has_anomalies
        assert found[-1] == event(1000)
        tried = {one.timestamp: one for batch in batches for one in batch}
        assert len(found) == len({one.timestamp for one in found})
        assert all(tried.get(one.timestamp) == one for one in found[:-1])
        assert {one.timestamp for one in acknowledged} <= {one.timestamp for one in found}
        assert found == sorted(found, key=lambda one: one.timestamp)

    @pytest.mark.parametrize("name", _CALLS)
    async def test_a_cancelled_call_leaves_the_store_as_usable_as_it_was(
        self, open_backend: OpenBackend, name: str
    ) -> None:
        async with self.using(open_backend(RetentionPolicy(max_records=100))) as backend:
            await backend.record_batch(mixed(200))
            for delay in _DELAYS:
                with anyio.move_on_after(delay):
                    await _CALLS[name](backend)
                assert await stored(backend) == mixed(200)[100:]
            await backend.record_event(event(1000))
            assert await stored(backend) == [*mixed(200)[101:], event(1000)]
            assert not (await backend.scan()).has_anomalies
            assert (await backend.compact()).after_records == 100

    async def test_a_cancelled_close_can_be_made_up_for(self, open_backend: OpenBackend) -> None:
        backend = open_backend()
        async with self.using(backend):
            await backend.record_batch(mixed(20))
            with anyio.move_on_after(0):
                await backend.aclose()
            await backend.aclose()
            assert backend.closed
        if self.durable:
            async with self.using(open_backend()) as backend:
                assert await stored(backend) == mixed(20)

    # -- at the same time

    async def test_records_from_many_tasks_are_each_stored_once(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:

            async def write(first: int) -> None:
                for number in range(first, first + 5):
                    await backend.record_event(event(number))
                    # what was acknowledged is seen at once
                    assert event(number) in await backend.list_events()

            async with anyio.create_task_group() as group:
                for first in range(0, 40, 5):
                    group.start_soon(write, first)
                group.start_soon(backend.record_batch, [letter(n) for n in range(50)])
            found = list(await backend.list_events())
            assert sorted(found, key=lambda one: one.timestamp) == [event(n) for n in range(40)]
            for first in range(0, 40, 5):  # each task's records in its order
                own = [
                    one
                    for one in found
                    if event(first).timestamp <= one.timestamp < event(first + 5).timestamp
                ]
                assert own == [event(n) for n in range(first, first + 5)]
            assert list(await backend.list_dead_letters()) == [letter(n) for n in range(50)]

    async def test_reads_and_care_beside_writes_lose_and_find_nothing(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend()) as backend:
            done = anyio.Event()

            async def write() -> None:
                for number in range(0, 90, 3):
                    await backend.record_batch([event(number), event(number + 1), event(number + 2)])
                    await anyio.lowlevel.checkpoint()
                done.set()

            async def read() -> None:
                seen = 0
                while not done.is_set():
                    found = await backend.list_events()
                    assert list(found) == [event(n) for n in range(len(found))]
                    assert len(found) >= seen
                    seen = len(found)
                    await anyio.lowlevel.checkpoint()

            async def scan() -> None:
                while not done.is_set():
                    assert not (await backend.scan()).has_anomalies
                    await anyio.lowlevel.checkpoint()

            async def compact() -> None:
                while not done.is_set():
                    await backend.compact()
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as group:
                for task in (write, read, scan, compact):
                    group.start_soon(task)
            assert list(await backend.list_events()) == [event(n) for n in range(90)]
