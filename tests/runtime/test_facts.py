"""Guarantees 20 to 23: what reaches the store, when, with which times, and what a bad store can't do."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    Settings,
    Strategy,
    SupervisionPolicy,
    SystemHooks,
)
from papyra import events as ev
from papyra._runtime import fact_writer
from papyra.exceptions import PartialWriteError, PersistenceError
from papyra.persistence import InMemoryPersistence, RetentionPolicy
from papyra.persistence.json import JsonFilePersistence
from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent, PersistedRecord

from .support import Echo, running

pytestmark = pytest.mark.usefixtures("actors_facts_only")


class Kept(InMemoryPersistence):
    """Remember every record and what was done, also after the close."""

    name = "kept"

    def __init__(self) -> None:
        super().__init__(RetentionPolicy())
        self.records: list[PersistedRecord] = []
        self.done: list[str] = []

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        await super().record_batch(records)
        self.records.extend(records)

    async def aclose(self) -> None:
        self.done.append(f"closed with {len(self.records)}")
        await super().aclose()


class Gated(Kept):
    """Takes no batch before the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = anyio.Event()
        self.waiting = anyio.Event()

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        self.waiting.set()
        await self.gate.wait()
        await super().record_batch(records)


class Failing(Kept):
    """Fails as often as told."""

    def __init__(self, failures: float, error: Exception | None = None) -> None:
        super().__init__()
        self.failures = failures
        self.error = error or OSError("disk on fire")
        self.tried: list[PersistedRecord] = []

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        self.tried.extend(records)
        if self.failures > 0:
            self.failures -= 1
            raise self.error
        await super().record_batch(records)


def story(records: Sequence[PersistedRecord], ref: ActorRef) -> list[str]:
    return [
        record.event_type
        for record in records
        if isinstance(record, PersistedEvent) and record.actor_address == str(ref.address)
    ]


async def refused(ref: ActorRef, message: object) -> None:
    with pytest.raises(ActorStopped):
        await ref.tell(message)


# -- 20: exactly once, in order, before aclose returns


async def test_g20_everything_is_recorded_once_in_order_before_aclose_returns() -> None:
    store = Kept()
    async with running(persistence=store) as system:
        refs = [
            system.spawn(Echo, policy=SupervisionPolicy(Strategy.RESTART, max_restarts=1)) for _ in range(50)
        ]
        for ref in refs:
            for message in ("one", "boom", "two", "boom", "late"):
                await ref.tell(message)
        for _ in refs:
            system.audit()
        await system.wait_for_event(lambda _: len(system.refs(alive_only=False)) == 0)
        events = system.events()
    for ref in refs:
        assert story(store.records, ref) == [
            "ActorStarted", "ActorCrashed", "ActorRestarted", "ActorCrashed", "ActorStopped"
        ]  # fmt: skip
    recorded = [record for record in store.records if isinstance(record, PersistedEvent)]
    assert [(record.event_type, record.timestamp, record.payload) for record in recorded] == [
        (type(event).__name__, event.timestamp, event.payload) for event in events
    ]
    assert sum(isinstance(record, PersistedAudit) for record in store.records) == 50
    letters = [record for record in store.records if isinstance(record, PersistedDeadLetter)]
    assert [letter.payload for letter in letters] == ["late"] * 50
    times = [record.timestamp for record in store.records]
    assert times == sorted(times)
    assert store.done == [f"closed with {len(store.records)}"]
    assert store.metrics.records_dropped == 0


async def test_g20_facts_of_the_shutdown_are_recorded_too() -> None:
    store = Kept()
    entered = anyio.Event()

    class Stuck(Echo):
        async def receive(self, message: object) -> None:
            entered.set()
            await anyio.sleep_forever()

    async with running(persistence=store, shutdown_timeout=0.05) as system:
        ref = system.spawn(Stuck)
        for number in range(3):
            await ref.tell(number)
        await entered.wait()
    assert story(store.records, ref) == ["ActorStarted", "ActorStopped"]
    stop = next(record for record in store.records if getattr(record, "event_type", "") == "ActorStopped")
    assert isinstance(stop, PersistedEvent)
    assert stop.payload["reason"] == "shutdown"
    assert [record.payload for record in store.records if isinstance(record, PersistedDeadLetter)] == [1, 2]


async def test_g20_facts_of_a_cancelled_host_are_recorded_too() -> None:
    store = Kept()
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with ActorSystem(persistence=store) as system:
            ref = system.spawn(Echo)
            await ref.ask(1)
            scope.cancel()
            await anyio.sleep_forever()
    assert story(store.records, ref) == ["ActorStarted", "ActorStopped"]
    assert store.closed


async def test_g20_flush_waits_for_all_facts_so_far() -> None:
    store = Gated()
    async with running(persistence=store) as system, anyio.create_task_group() as tasks:
        ref = system.spawn(Echo)
        await ref.ask(1)
        flushed: list[int] = []

        async def flush() -> None:
            await system.flush()
            flushed.append(len(store.records))

        tasks.start_soon(flush)
        await store.waiting.wait()
        await anyio.wait_all_tasks_blocked()
        assert flushed == []
        system.audit()
        store.gate.set()
        await system.flush()
        assert flushed[0] >= 1
        assert len(store.records) == 2
    assert story(store.records, ref) == ["ActorStarted", "ActorStopped"]


async def test_g20_a_flush_of_nothing_returns_at_once() -> None:
    async with running() as system:
        await system.flush()
        await system.spawn(Echo).ask(1)
        await system.flush()
        await system.flush()
        assert system.persistence.metrics.records_written == 1


async def test_g20_a_cancelled_flush_harms_nothing() -> None:
    store = Gated()
    async with running(persistence=store) as system:
        await system.spawn(Echo).ask(1)
        with anyio.move_on_after(0.01) as scope:
            await system.flush()
        assert scope.cancelled_caught
        store.gate.set()
        await system.flush()
        assert len(store.records) == 1


async def test_g20_a_json_file_has_each_of_2000_actors_twice(tmp_path: Path) -> None:
    path = tmp_path / "facts.ndjson"
    async with running(seconds=60, persistence=JsonFilePersistence(path)) as system:
        refs = [system.spawn(Echo) for _ in range(2_000)]
        for ref in refs[::2]:
            await system.stop(ref)
        for ref in refs[:100:2]:
            await refused(ref, {"to": ref.address.actor_id})
    again = JsonFilePersistence(path)
    with anyio.fail_after(10):
        events = await again.list_events()
        letters = await again.list_dead_letters()
        assert not (await again.scan()).has_anomalies
        await again.aclose()
    assert Counter(event.event_type for event in events) == {"ActorStarted": 2_000, "ActorStopped": 2_000}
    by_actor: dict[str, list[str]] = {}
    for event in events:
        by_actor.setdefault(event.actor_address, []).append(event.event_type)
    assert set(by_actor) == {str(ref.address) for ref in refs}
    assert all(told == ["ActorStarted", "ActorStopped"] for told in by_actor.values())
    assert [letter.payload for letter in letters] == [{"to": ref.address.actor_id} for ref in refs[:100:2]]


# -- 21: time


async def test_g21_timestamps_are_unix_time() -> None:
    store = Kept()
    before = time.time()
    async with running(persistence=store) as system:
        ref = system.spawn(Echo)
        await system.stop(ref)
        await refused(ref, 1)
        system.audit()
        assert before <= system.now() <= time.time()
    assert len(store.records) == 4
    assert all(before <= record.timestamp <= time.time() for record in store.records)


async def test_g21_time_fn_replaces_the_clock_everywhere() -> None:
    now = 1000.5
    store = Kept()
    async with running(persistence=store, time_fn=lambda: now) as system:
        ref = system.spawn(Echo, policy=SupervisionPolicy(Strategy.RESTART))
        await ref.tell("boom")
        await ref.ask(1)
        await system.stop(ref)
        await refused(ref, 1)
        assert system.audit().timestamp == now == system.now()
        assert system.dead_letters.messages[0].timestamp == now
        assert {event.timestamp for event in system.events()} == {now}
        await system.flush()
        assert {record.timestamp for record in store.records} == {now}
        assert len(store.records) == 6
        assert store.time_fn() == now


async def test_g21_retention_by_age_follows_the_replaced_clock() -> None:
    now = 1000.0
    store = InMemoryPersistence(RetentionPolicy(max_age_seconds=60))
    async with running(persistence=store, time_fn=lambda: now) as system:
        await system.spawn(Echo).ask(1)
        await system.flush()
        now += 50
        await system.spawn(Echo).ask(1)
        await system.flush()
        assert len(await store.list_events()) == 2
        now += 20
        assert [event.actor_address for event in await store.list_events()] == ["local:2"]
        report = await system.compact()
        assert (report.before_records, report.after_records) == (2, 1)


# -- 22: bad stores


async def test_g22_a_failing_store_harms_no_actor_and_is_counted_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Failing(math.inf)
    told: list[Exception] = []
    async with running(persistence=store, hooks=SystemHooks(on_persistence_error=told.append)) as system:
        ref = system.spawn(Echo, name="steady")
        for number in range(20):
            assert await ref.ask(number) == number
            system.audit()
            await system.flush()
    assert store.records == []
    assert len(store.tried) == 22  # started, 20 audits, stopped: none tried twice
    assert store.metrics.records_dropped == 22
    assert store.metrics.write_errors == len(told) >= 20
    assert set(told) == {store.error}
    logged = [record for record in caplog.records if "store did not take" in record.getMessage()]
    assert len(logged) == 1, "the log is throttled"
    assert logged[0].exc_info
    assert store.closed


async def test_g22_what_a_store_refuses_once_it_takes_later() -> None:
    store = Failing(1)
    told: list[Exception] = []

    async def tell(error: Exception) -> None:
        told.append(error)

    async with running(persistence=store, hooks=SystemHooks(on_persistence_error=tell)) as system:
        system.audit()
        await system.flush()
        system.audit()
        await system.flush()
        assert len(store.records) == 1
        assert store.metrics.snapshot()["records_dropped"] == 1
        assert store.metrics.write_errors == 1
    assert told == [store.error]


async def test_g22_a_batch_stored_in_part_counts_what_is_missing() -> None:
    store = Failing(1, PartialWriteError(2, 3))
    async with running(persistence=store) as system:
        for _ in range(3):
            system.audit()
        await system.flush()
        assert store.metrics.records_dropped == 2


async def test_g22_a_store_closed_by_somebody_else_ends_nothing() -> None:
    store = InMemoryPersistence()
    async with running(persistence=store) as system:
        ref = system.spawn(Echo)
        await store.aclose()
        assert await ref.ask(1) == 1
    assert store.metrics.records_dropped == 2
    assert system._core is not None
    assert not system._core.rt.workers


async def test_g22_a_store_whose_flush_fails_is_closed_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Kept):
        async def flush(self) -> None:
            raise PersistenceError("no fsync today")

    store = Bad()
    async with running(persistence=store) as system:
        await system.spawn(Echo).ask(1)
    assert store.done == ["closed with 2"]
    assert "no fsync today" in caplog.text
    assert system._core is not None
    assert not system._core.rt.workers


async def test_g22_a_store_whose_close_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Kept):
        async def aclose(self) -> None:
            raise OSError("can't close")

    async with running(persistence=Bad()) as system:
        await system.spawn(Echo).ask(1)
    assert "can't close" in caplog.text


async def test_g22_a_slow_store_slows_no_actor_and_gets_larger_batches() -> None:
    store = Gated()
    async with running(persistence=store) as system:
        ref = system.spawn(Echo)
        await ref.ask(0)
        await store.waiting.wait()
        for number in range(200):
            assert await ref.ask(number) == number
            system.audit()
        assert store.records == []
        store.gate.set()
        await system.flush()
        assert len(store.records) == 201
        assert store.metrics.records_dropped == 0


async def test_g22_the_buffer_is_bounded_and_what_is_dropped_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Gated()
    async with running(persistence=store, settings=Settings(fact_buffer=10)) as system:
        system.audit()
        await store.waiting.wait()
        for _ in range(50):
            system.audit()
        assert system.control_panel()["persistence"]["records_dropped"] == 40
        store.gate.set()
        await system.flush()
        assert len(store.records) == 11
        system.audit()
        await system.flush()
        assert len(store.records) == 12
    assert store.metrics.records_dropped == 40
    assert len([record for record in caplog.records if "full" in record.getMessage()]) == 1


async def test_g22_a_hanging_store_does_not_hang_aclose(caplog: pytest.LogCaptureFixture) -> None:
    class Hangs(Gated):
        async def aclose(self) -> None:
            self.done.append("closing")
            await anyio.sleep_forever()

    store = Hangs()
    began = anyio.current_time()
    async with running(persistence=store, shutdown_timeout=0.1) as system:
        ref = system.spawn(Echo)
        assert await ref.ask(1) == 1
    assert anyio.current_time() - began < 15  # it has twice one second
    assert store.done == ["closing"]
    assert store.metrics.records_dropped == 2
    assert "did not take 2 facts" in caplog.text


async def test_g22_a_batch_given_up_at_the_close_is_counted_once() -> None:
    """Also if the store refuses it in the end."""

    class Late(Gated):
        async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
            self.waiting.set()
            await self.gate.wait()
            failed.set()
            raise OSError("too late")

        async def aclose(self) -> None:
            self.gate.set()
            await failed.wait()
            await anyio.wait_all_tasks_blocked()

    failed = anyio.Event()
    store = Late()
    async with running(persistence=store, shutdown_timeout=0.1) as system:
        await system.spawn(Echo).ask(1)
    assert store.metrics.records_dropped == 2


async def test_g22_facts_after_the_close_are_counted_as_dropped() -> None:
    store = Kept()
    async with running(persistence=store) as system:
        ref = system.spawn(Echo)
    recorded = len(store.records)
    await refused(ref, "late")
    assert len(store.records) == recorded
    assert store.metrics.records_dropped == 1
    assert system.dead_letters.messages[-1].message == "late"


async def test_g22_the_log_speaks_again_after_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    # The writer's clock alone: the event loop must not believe that each of its timers is due.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead)
    monkeypatch.setattr(fact_writer, "time", clock)
    store = Failing(math.inf)
    async with running(persistence=store) as system:
        for _ in range(5):
            system.audit()
            await system.flush()
        ahead = 3600.0
        system.audit()
        await system.flush()
    logged = [record.getMessage() for record in caplog.records if "store did not take" in record.getMessage()]
    assert len(logged) == 2
    assert "1 facts" in logged[0]
    assert "5 facts" in logged[1]


# -- 23: payloads


class Raises:
    def __repr__(self) -> str:
        raise ValueError("no repr")


class Exits:
    def __repr__(self) -> str:
        raise SystemExit


class Long:
    def __repr__(self) -> str:
        return "x" * 100_000


class Odd:
    def __repr__(self) -> str:
        return "<odd \ud800>"


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AssertionError("nothing is ever pickled")

    __reduce_ex__ = __getstate__ = __reduce__  # type: ignore[assignment]  # any of them must not be called

    def __repr__(self) -> str:
        return "<unpicklable>"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (None, None),
        ({"a": [1, 2.5, "ü", None, True]}, {"a": [1, 2.5, "ü", None, True]}),
        ((1, (2,)), [1, [2]]),
        (Odd(), "<odd \\ud800>"),
        ("lone \ud800", "lone \\ud800"),
        ({"\udfff": "\ud800"}, {"\\udfff": "\\ud800"}),
        (math.nan, "nan"),
        ([1, math.inf], "[1, inf]"),
        ({1: 2}, "{1: 2}"),
        ({1}, "{1}"),
        (b"bytes", "b'bytes'"),
        (10**30, str(10**30)),
        (Raises(), "<Raises whose repr raised ValueError>"),
        ([Raises()], "<list whose repr raised ValueError>"),
        (Exits(), "<Exits whose repr raised SystemExit>"),
        (Unpicklable(), "<unpicklable>"),
        (nested(20), nested(20)),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_g23_payloads_are_json_or_their_repr(message: object, payload: object, tmp_path: Path) -> None:
    path = tmp_path / "facts.ndjson"
    async with running(persistence=JsonFilePersistence(path)) as system:
        ref = system.spawn(Echo)
        await system.stop(ref)
        await refused(ref, message)
        await system.flush()
        letters = await system.persistence.list_dead_letters()
        assert [letter.payload for letter in letters] == [payload]
        assert letters[0].message_type == type(message).__name__
        assert letters[0].target == str(ref.address)


@pytest.mark.parametrize(
    "message", [Long(), nested(100), list(range(20_000)), object], ids=lambda value: type(value).__name__
)
async def test_g23_a_repr_is_cut_at_the_limit(message: object) -> None:
    async with running(settings=Settings(payload_limit=50)) as system:
        ref = system.spawn(Echo)
        await system.stop(ref)
        await refused(ref, message)
        await system.flush()
        (letter,) = await system.persistence.list_dead_letters()
        assert isinstance(letter.payload, str)
        assert letter.payload.startswith(repr(message)[:50])
        assert len(letter.payload) < 100


async def test_g23_a_message_changed_after_its_death_is_stored_as_it_was() -> None:
    store = Gated()
    async with running(persistence=store) as system:
        ref = system.spawn(Echo)
        await system.stop(ref)
        message: dict[str, Any] = {"list": [1]}
        await refused(ref, message)
        message["list"].append(2)
        message["more"] = object()
        store.gate.set()
        await system.flush()
        (letter,) = [record for record in store.records if isinstance(record, PersistedDeadLetter)]
        assert letter.payload == {"list": [1]}
        assert system.dead_letters.messages[0].message is message  # in memory it is the message itself


async def test_g23_a_failures_text_is_cut_and_clean() -> None:
    class Fails(Actor):
        async def receive(self, message: str) -> None:
            raise RuntimeError(message)

    async with running(settings=Settings(payload_limit=100)) as system:
        ref = system.spawn(Fails)
        await ref.tell("\ud800" + "x" * 10_000)
        event = await system.wait_for_event(ev.ActorCrashed)
        text = event.payload["error"]
        assert isinstance(text, str)
        assert text.startswith("RuntimeError: \\ud800xxx")
        assert len(text) < 200
