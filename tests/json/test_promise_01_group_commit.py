"""Promise 1: group commits off the event loop - one append for all that waits, then one sync if asked for."""

from __future__ import annotations

import gc
import os
import threading

import anyio
import anyio.lowlevel
import pytest

from papyra.persistence.models import PersistedEvent
from papyra_json import JsonFilePersistence
from papyra_json._write import committer as _committer


class _Calls:
    """Count calls of functions of `os`, with the threads they ran in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.threads: dict[str, list[str]] = {name: [] for name in names}
        for name in names:
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))

    def _counting(self, name, function):
        def call(*arguments, **keywords):
            self.threads[name].append(threading.current_thread().name)
            return function(*arguments, **keywords)

        return call

    def __getitem__(self, name: str) -> int:
        return len(self.threads[name])


class _Gate:
    """Holds the writing thread, if shut, between taking a group and writing it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.taken = 0


@pytest.fixture
def gate(monkeypatch):
    gate = _Gate()
    real = _committer.Committer._next_group

    def held(self):
        group = real(self)
        gate.taken += 1
        gate.open.wait(60)
        return group

    monkeypatch.setattr(_committer.Committer, "_next_group", held)
    return gate


@pytest.mark.parametrize(("durability", "syncs"), [("os", 0), ("always", 1)])
async def test_promise_01_one_append_and_one_sync_for_all_that_waits(
    path, event, monkeypatch, gate, durability, syncs
):
    store = JsonFilePersistence(path, durability=durability)
    await store.record_event(event(0))
    gate.open.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(store.record_event, event(1))  # the thread takes it, and waits at the gate
        await _until(lambda: gate.taken == 2)
        for number in range(2, 100):
            group.start_soon(store.record_event, event(number))
        await _until(lambda: store._committer._queue.qsize() >= 98)
        calls = _Calls(monkeypatch, "write", "fsync")
        gate.open.set()
    await store.aclose()
    own = [name for name in calls.threads["write"] if name == str(path)]
    assert len(own) == 2  # the first one, and all that waited meanwhile
    assert calls["fsync"] == 2 * syncs
    assert len(await JsonFilePersistence(path).list_events()) == 100


async def test_promise_01_the_event_loop_does_not_touch_the_disk(path, event, monkeypatch):
    calls = _Calls(monkeypatch, "open", "write", "fsync", "pread", "fstat")
    store = JsonFilePersistence(path, durability="always")
    await store.record_batch([event(1), event(2)])
    await store.list_events()
    await store.scan()
    await store.compact()
    await store.aclose()
    assert calls["write"] >= 1
    own = threading.current_thread().name
    # asyncio and trio wake their loop with a write of their own; it must be the only thing seen here
    touched = {name for name, threads in calls.threads.items() if own in threads}
    assert touched <= {"write"}


async def test_promise_01_the_default_does_not_sync(path, event, monkeypatch):
    calls = _Calls(monkeypatch, "fsync")
    store = JsonFilePersistence(path)
    await store.record_event(event(1))
    await store.record_event(event(2))
    await store.flush()
    await store.aclose()
    assert str(path) not in calls.threads["fsync"]


async def test_promise_01_interval_syncs_by_itself(path, event, monkeypatch):
    calls = _Calls(monkeypatch, "fsync")
    store = JsonFilePersistence(path, durability="interval", fsync_interval=0.01)
    await store.record_event(event(1))
    await _until(lambda: not store._appender.dirty)
    assert calls["fsync"] >= 1
    await store.aclose()


@pytest.mark.parametrize("last", ["flush", "aclose"])
async def test_promise_01_flush_and_aclose_sync_what_the_interval_has_not(path, event, monkeypatch, last):
    store = JsonFilePersistence(path, durability="interval", fsync_interval=1000)
    await store.record_event(event(1))
    await store.flush()  # with the folder, because the file is new
    await store.record_event(event(2))
    calls = _Calls(monkeypatch, "fsync")
    await getattr(store, last)()
    assert calls["fsync"] == 1
    await store.flush() if last == "flush" else None
    assert calls["fsync"] == 1
    await store.aclose()


async def test_promise_01_cancelled_callers_leave_whole_records_and_hinder_nobody(path, event, gate):
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    gate.open.clear()
    async with anyio.create_task_group() as others:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(store.record_event, event(1))
                await _until(lambda: gate.taken == 2)
                for number in range(2, 50):
                    group.start_soon(store.record_event, event(number))
                await _until(lambda: store._committer._queue.qsize() >= 48)
                others.start_soon(store.record_event, event(50))
                scope.cancel()
        gate.open.set()
    await store.record_event(event(51))
    found = await store.list_events()
    assert [event(number) for number in (0, 50, 51)] == [
        one for one in found if one.payload["number"] in (0, 50, 51)
    ]
    assert len({one.timestamp for one in found}) == len(found)
    assert not (await store.scan()).has_anomalies
    await store.aclose()


async def test_promise_01_aclose_in_a_cancelled_scope_loses_nothing(path, event, gate):
    store = JsonFilePersistence(path)
    gate.open.clear()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(store.record_batch, [event(number) for number in range(1000)])
            await _until(lambda: store._committer._thread is not None)
            scope.cancel()
            gate.open.set()
            await store.aclose()
    assert store._committer._thread is not None
    assert not store._committer._thread.is_alive()
    assert len(await JsonFilePersistence(path).list_events()) == 1000


async def test_promise_01_two_that_close_at_once_both_return(path, event):
    store = JsonFilePersistence(path)
    await store.record_event(event(1))
    async with anyio.create_task_group() as group:
        group.start_soon(store.aclose)
        group.start_soon(store.aclose)
    assert len(await JsonFilePersistence(path).list_events()) == 1


async def test_promise_01_a_forgotten_store_ends_its_thread(path, event):
    store = JsonFilePersistence(path, durability="interval", fsync_interval=1000)
    await store.record_event(event(1))
    thread = store._committer._thread
    assert thread is not None
    del store
    gc.collect()
    with anyio.fail_after(120):
        await anyio.to_thread.run_sync(thread.join)


async def test_promise_01_large_batches_and_small_ones_are_counted(path, event):
    store = JsonFilePersistence(path)
    await store.record_batch([event(number) for number in range(30_000)])
    await store.record_batch([])
    await store.record_event(event(30_000))
    metrics = store.metrics.snapshot()
    assert metrics["records_written"] == 30_001
    assert metrics["bytes_written"] == path.stat().st_size
    assert metrics["write_errors"] == 0
    assert await store.list_events(limit=2) == [event(29_999), event(30_000)]
    await store.aclose()


async def test_promise_01_what_was_acknowledged_is_seen_at_once(path, event):
    store = JsonFilePersistence(path)
    for number in range(50):
        await store.record_event(event(number))
        assert await store.list_events(limit=1) == [event(number)]
    await store.aclose()


def test_promise_01_one_store_may_serve_one_loop_after_another(path, event):
    store = JsonFilePersistence(path)
    for number, loop in enumerate(("asyncio", "trio", "asyncio")):
        anyio.run(store.record_event, event(number), backend=loop)
    anyio.run(store.aclose)
    found = anyio.run(JsonFilePersistence(path).list_events)
    assert [type(one) for one in found] == [PersistedEvent] * 3


async def _until(condition) -> None:
    with anyio.fail_after(120):
        while not condition():
            await anyio.lowlevel.checkpoint()
