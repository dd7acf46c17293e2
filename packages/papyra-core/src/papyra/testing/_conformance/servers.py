"""What holds for stores that several processes use, or that are on a server."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence.query import Query
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import event, mixed, stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractContextManager

    from anyio.abc import TaskStatus

    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import PersistedEvent, PersistedRecord
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["ServerPromises"]

_T = TypeVar("_T")

WRITERS = 3
BATCHES_PER_WRITER = 12
MAX_LOOP_GAP_SECONDS = 0.25

_WRITER = """
import importlib, json, sys
import anyio
from papyra.persistence.models import PersistedEvent

module, name, url, writer, batches, path = json.loads(sys.argv[1])
sys.path[:0] = path
kind = getattr(importlib.import_module(module), name)

async def main():
    backend = kind.from_url(url)
    for number in range(batches):
        await backend.record_batch([
            PersistedEvent("conformance", f"conformance:{writer}", "Numbered", {"number": 2 * number + n}, 1.5)
            for n in range(2)
        ])
    await backend.aclose()

anyio.run(main)
"""


class ServerPromises(ConformanceBase):
    """Each batch once, in order, though the server goes and comes; no call holds the event loop."""

    # -- any store

    async def test_the_loop_runs_on_while_the_store_works(self, open_backend: OpenBackend) -> None:
        """The best of three attempts counts, because the machine may be busy."""
        gaps: list[float] = []
        async with self.using(open_backend()) as backend:
            for _ in range(3):
                gaps.append(await _longest_gap(backend))
                if gaps[-1] < MAX_LOOP_GAP_SECONDS:
                    return
        pytest.fail(f"the event loop was held for {', '.join(f'{gap:.2f}' for gap in gaps)} s")

    async def test_open_and_ping_answer_and_leave_nothing(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            for _ in range(2):
                await backend.open()
                await backend.ping()
            assert await stored(backend) == []
            await backend.record_event(event(1))
            await backend.ping()
            assert backend.healthy
            assert await stored(backend) == [event(1)]
        with pytest.raises(PersistenceError):
            await backend.open()
        with pytest.raises(PersistenceError):
            await backend.ping()

    async def test_a_batch_that_is_offered_again_is_stored_once(
        self,
        open_backend: OpenBackend,
        restart_store: Callable[[], object] | None,
        cut_wire: Callable[[], object] | None,
    ) -> None:
        if not (self.keeps_batch_ids or restart_store or cut_wire):
            pytest.skip("keeps_batch_ids is False, and there is no server whose answers may be lost")
        async with self.using(open_backend()) as backend:
            await _offer(backend, mixed(3), "run:1")
            await _offer(backend, mixed(3), "run:1")
            await _offer(backend, [event(3)], "another:1")
            await _offer(backend, [event(4)], "run:2")
            await _offer(backend, [event(4)], "run:2")
            await backend.record_batch([event(5)])
            await backend.record_batch([event(5)])
            expected = [*mixed(3), event(3), event(4), event(5), event(5)]
            assert await stored(backend) == expected
        if self.durable:
            async with self.using(open_backend()) as backend:
                await _offer(backend, [event(4)], "run:2")
                assert await stored(backend) == expected

    # -- several processes

    async def test_processes_share_the_store(self, open_backend: OpenBackend, backend_url: str) -> None:
        """Every record of every process is there once, each process's in its order, also for a follower."""
        if not self.shared:
            pytest.skip("not a store that several backends may open at once")
        async with self.using(open_backend()) as opened:
            kind = type(opened)
        if kind.__qualname__ != kind.__name__ or not backend_url:
            pytest.skip("a class of a module and the fixture backend_url are needed to open it in processes")
        seen: list[PersistedRecord] = []
        found: list[PersistedEvent] = []
        async with self.using(kind.from_url(backend_url)) as backend:
            await backend.record_event(replace(event(0), actor_address="conformance:first"))
            async with anyio.create_task_group() as group:
                with anyio.fail_after(self.patience):
                    await group.start(_follow_from_newest, backend, seen)
                await anyio.to_thread.run_sync(_write_in_processes, kind, backend_url, self.patience)
                found += await backend.list_events()
                with anyio.move_on_after(self.patience):
                    while len(seen) < len(found):  # noqa: ASYNC110 - the list has no event
                        await anyio.sleep(0.01)
                group.cancel_scope.cancel()
        assert seen == found, "the follower missed, doubled or reordered records"
        for writer in range(WRITERS):
            numbers = [one.payload["number"] for one in found if one.actor_address == f"conformance:{writer}"]
            assert numbers == list(range(2 * BATCHES_PER_WRITER)), f"of the process {writer}"

    # -- servers

    async def test_a_store_that_was_restarted_is_used_again(
        self, open_backend: OpenBackend, restart_store: Callable[[], object] | None
    ) -> None:
        if restart_store is None:
            pytest.skip("the fixture restart_store does not say how to restart the store")
        async with self.using(open_backend()) as backend:
            for number in range(3):
                await self._offer_until_stored(backend, [event(number)], f"run:{number}")
                await anyio.to_thread.run_sync(restart_store)
            await self._offer_until_stored(backend, [event(3)], "run:3")
            assert await self._until_answered(lambda: stored(backend)) == [event(n) for n in range(4)]
            await self._until_answered(backend.ping)
            assert backend.healthy

    async def test_an_answer_that_is_lost_makes_no_double(
        self, open_backend: OpenBackend, cut_wire: Callable[[], object] | None
    ) -> None:
        if cut_wire is None:
            pytest.skip("the fixture cut_wire does not say how to cut the connections to the store")
        async with self.using(open_backend()) as backend:
            for number in range(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(
                        self._offer_until_stored,
                        backend,
                        [event(2 * number), event(2 * number + 1)],
                        f"run:{number}",
                    )
                    await anyio.sleep(0.002 * (number % 4))
                    await anyio.to_thread.run_sync(cut_wire)
            assert await self._until_answered(lambda: stored(backend)) == [event(n) for n in range(20)]

    async def test_a_stalled_store_is_an_error_in_time_and_is_counted(
        self,
        open_backend: OpenBackend,
        stall_store: Callable[[], AbstractContextManager[object]] | None,
    ) -> None:
        if stall_store is None:
            pytest.skip("the fixture stall_store does not say how to stall the store")
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(0))
            errors = backend.metrics.write_errors
            with stall_store():
                began = time.monotonic()
                with pytest.raises(PersistenceError):  # and no error of its driver
                    await _offer(backend, [event(1)], "run:1")
                with pytest.raises(PersistenceError):
                    await backend.ping()
                assert time.monotonic() - began < self.patience
            assert backend.metrics.write_errors == errors + 1
            await self._offer_until_stored(backend, [event(1)], "run:1")
            assert await self._until_answered(lambda: stored(backend)) == [event(0), event(1)]

    async def test_a_call_to_a_stalled_store_can_be_cancelled(
        self,
        open_backend: OpenBackend,
        stall_store: Callable[[], AbstractContextManager[object]] | None,
    ) -> None:
        if stall_store is None:
            pytest.skip("the fixture stall_store does not say how to stall the store")
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(0))
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: backend.record_event(event(1)),
                backend.list_events,
            ]
            for call in calls:
                began = time.monotonic()
                with (
                    stall_store(),
                    anyio.move_on_after(0.05),
                    suppress(PersistenceError),
                ):  # or it gave up by itself
                    await call()
                assert time.monotonic() - began < self.patience, "a cancelled call waited on"
            assert (await self._until_answered(lambda: stored(backend)))[0] == event(0)

    async def _offer_until_stored(
        self, backend: PersistenceBackend, records: Sequence[PersistedRecord], batch_id: str
    ) -> None:
        """Offer a batch as the system does."""
        await self._until_answered(lambda: _offer(backend, records, batch_id))

    async def _until_answered(self, call: Callable[[], Awaitable[_T]]) -> _T:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return await call()
            except PersistenceError:
                if time.monotonic() >= deadline:
                    raise
            await anyio.sleep(0.05)


async def _follow_from_newest(
    backend: PersistenceBackend, seen: list[PersistedRecord], *, task_status: TaskStatus[None]
) -> None:
    """Follow a store from its newest record on; started once that was seen."""
    newest: Query[PersistedRecord] = Query(limit=1)
    async with aclosing(backend.follow(newest)) as records:
        async for record in records:
            seen.append(record)
            if len(seen) == 1:
                task_status.started()


async def _offer(backend: PersistenceBackend, records: Sequence[PersistedRecord], batch_id: str) -> None:
    if "batch_id" in inspect.signature(backend.record_batch).parameters:
        await backend.record_batch(records, batch_id=batch_id)
    else:
        await backend.record_batch(records)


async def _longest_gap(backend: PersistenceBackend) -> float:
    """Return for how long the loop did not come round while the store wrote and read."""
    longest, at_work = 0.0, True

    async def tick() -> None:
        nonlocal longest
        last = time.monotonic()
        while at_work:
            await anyio.sleep(0.005)
            now = time.monotonic()
            longest, last = max(longest, now - last), now

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await anyio.sleep(0.01)
        for number in range(20):
            await backend.record_batch([event(number)])
        await backend.list_events(limit=50)
        await backend.scan()
        await anyio.sleep(0.01)
        at_work = False
    return longest


def _write_in_processes(kind: type[PersistenceBackend], url: str, patience: float) -> None:
    processes: list[subprocess.Popen[str]] = []
    for writer in range(WRITERS):
        told = json.dumps([kind.__module__, kind.__name__, url, writer, BATCHES_PER_WRITER, sys.path])
        command = [sys.executable, "-c", _WRITER, told]
        processes.append(
            subprocess.Popen(  # noqa: S603 - our own program
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        for process in processes:
            output, _ = process.communicate(timeout=patience + 30)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
            process.wait()
