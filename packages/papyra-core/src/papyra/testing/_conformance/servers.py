"""What holds for stores that several processes use, or that are on a server."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

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
from papyra.persistence.retention import RetentionPolicy
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.blocking_calls import blocking_calls
from papyra.testing._conformance.facts import LONG_BATCH_RECORDS, event, mixed, offer, stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractContextManager

    from anyio.abc import TaskStatus

    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import PersistedEvent, PersistedRecord
    from papyra.testing._conformance.base import OpenBackend
    from papyra.testing.wire import Wire

__all__ = ["ServerPromises"]

_T = TypeVar("_T")

WRITERS = 3
BATCHES_PER_WRITER = 12
MAX_LOOP_GAP_SECONDS = 0.25
MAX_MESSAGES = 60  # of one write, which is cut at each of them in turn

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

    async def test_no_call_reads_or_writes_in_the_thread_of_the_loop(self, open_backend: OpenBackend) -> None:
        """However short it is: a slow disk, a lock or a server makes it long."""
        async with self.using(open_backend()) as backend:
            for call in _calls(backend).values():  # imports what it needs
                await call()
        blocked: dict[str, set[str]] = {}
        async with self.using(open_backend()) as backend:
            for name, call in _calls(backend).items():
                with blocking_calls() as found:
                    await call()
                if found:
                    blocked[name] = found
        assert not blocked, "the store blocks the event loop: use worker threads, or an async driver"

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
        offered: list[tuple[str, PersistedRecord]] = [
            ("run:1", event(0)),
            ("another:1", event(1)),  # the same number of another run
            ("run:11", event(2)),
            *((f"run{n}:1", event(3 + n)) for n in range(20)),
            ("another:2", event(23)),
            ("run:12", event(24)),
        ]
        expected: list[PersistedRecord] = []
        async with self.using(open_backend()) as backend:
            last: dict[str, tuple[str, PersistedRecord]] = {}
            for batch_id, record in offered:
                await offer(backend, [record], batch_id)
                expected.append(record)
                last[batch_id.partition(":")[0]] = (batch_id, record)
                if batch_id in ("run:1", "another:1"):
                    for again, known in last.values():
                        await offer(backend, [known], again)
            assert await stored(backend) == expected
            for again, known in last.values():  # the last one of each run, after those of the others
                await offer(backend, [known], again)
            await backend.record_batch([event(25)])
            await backend.record_batch([event(25)])
            expected += [event(25), event(25)]
            assert await stored(backend) == expected
        if self.durable:
            async with self.using(open_backend()) as backend:
                for again in ("run:12", "another:2", "run7:1"):
                    await offer(backend, [event(99)], again)
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

    async def test_a_wire_that_is_cut_at_any_message_leaves_all_of_a_batch_or_nothing(
        self, open_backend: OpenBackend, wire: Wire | None
    ) -> None:
        """Cut at the first message of a write, then at the second, until a write needs no more of them."""
        if wire is None:
            pytest.skip("the fixture wire does not lead to the server of the store")
        expected: list[PersistedRecord] = [event(0)]
        async with self.using(open_backend()) as backend:
            await offer(backend, expected, "run:0")  # connects
            for number in range(1, MAX_MESSAGES):
                batch = [event(10 * number + n) for n in range(4)]
                if not await self._cut_at(wire, number, backend, batch, expected, f"run:{number}"):
                    return
                expected += batch

    async def test_a_wire_that_is_cut_leaves_all_of_a_long_batch_or_nothing(
        self, open_backend: OpenBackend, wire: Wire | None
    ) -> None:
        if wire is None:
            pytest.skip("the fixture wire does not lead to the server of the store")
        first, second = ([event(n + m) for n in range(LONG_BATCH_RECORDS)] for m in (0, LONG_BATCH_RECORDS))
        async with self.using(open_backend(RetentionPolicy())) as backend:
            before = wire.messages
            await offer(backend, first, "run:1")
            late = max(1, (wire.messages - before) * 9 // 10)
            await self._cut_at(wire, late, backend, second, first, "run:2")

    async def _cut_at(
        self,
        wire: Wire,
        message: int,
        backend: PersistenceBackend,
        batch: Sequence[PersistedRecord],
        before: Sequence[PersistedRecord],
        batch_id: str,
    ) -> bool:
        """Offer a batch until it is stored; return whether the wire was cut meanwhile."""
        cuts = wire.cuts
        with wire.cut_at(message):
            try:
                await offer(backend, batch, batch_id)
            except PersistenceError as error:
                _check_that_it_may_pass(backend, error)
        found = await self._until_answered(lambda: stored(backend))
        left = len(found) - len(before)
        assert left in (0, len(batch)), f"cut at message {message}: {left} of {len(batch)} records are stored"
        await self._offer_until_stored(backend, batch, batch_id)
        assert await self._until_answered(lambda: stored(backend)) == [*before, *batch]
        return wire.cuts != cuts

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
                with pytest.raises(PersistenceError) as caught:  # and no error of its driver
                    await offer(backend, [event(1)], "run:1")
                _check_that_it_may_pass(backend, caught.value)
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
        """Offer a batch as the system does: again after each error. `using` bounds that by `patience`."""
        while True:
            try:
                return await offer(backend, records, batch_id)
            except PersistenceError as error:
                _check_that_it_may_pass(backend, error)
                found = await self._until_answered(lambda: stored(backend))
                left = sum(one in found for one in records)
                assert left in (0, len(records)), f"{left} of {len(records)} records of a batch were stored"
            await anyio.sleep(0.01)

    async def _until_answered(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Call until there is no error. `using` bounds that by `patience`."""
        while True:
            with suppress(PersistenceError):
                return await call()
            await anyio.sleep(0.01)


def _check_that_it_may_pass(backend: PersistenceBackend, error: PersistenceError) -> None:
    assert backend.retries if error.retry is None else error.retry, (
        f"after {error!r} the system drops the batch, so an outage loses facts: "
        "declare retries = True, or raise PersistenceError(..., retry=True)"
    )


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


def _calls(backend: PersistenceBackend) -> dict[str, Callable[[], Awaitable[object]]]:
    everything: Query[PersistedRecord] = Query()
    return {
        "open": backend.open,
        "ping": backend.ping,
        "record_event": lambda: backend.record_event(event(1)),
        "record_batch": lambda: backend.record_batch(mixed(9)),
        "list_events": backend.list_events,
        "page": lambda: backend.page(everything),
        "count": lambda: backend.count(everything),
        "flush": backend.flush,
        "scan": backend.scan,
        "recover": backend.recover,
        "compact": backend.compact,
        "aclose": backend.aclose,
    }


async def _longest_gap(backend: PersistenceBackend) -> float:
    """Return for how long the loop did not come round while the store wrote and read."""
    longest, at_work = 0.0, True

    async def tick(*, task_status: TaskStatus[None]) -> None:
        nonlocal longest
        last = time.monotonic()
        task_status.started()
        while at_work:
            await anyio.sleep(0.005)
            now = time.monotonic()
            longest, last = max(longest, now - last), now

    async with anyio.create_task_group() as group:
        await group.start(tick)
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
