"""A power cut, a kill, a full disk or a failing sync at any step of any work: what each durability level
promises holds.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random

import anyio
import pytest
from hypothesis import HealthCheck, Phase, settings

from papyra.persistence import RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistenceRecoveryMode
from papyra_json import JsonFilePersistence
from papyra_json._maintenance.operations import compact, recover, scan
from papyra_json._record.encode import encode
from papyra_json._write import committer as _committer

from ._disk import Died
from ._powered import PoweredStore
from ._records import bare_event

PoweredStore.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=set(Phase) - {Phase.explain},  # which takes minutes here
)
TestPoweredStore = PoweredStore.TestCase


@pytest.mark.sweep
class TestPoweredStoreForLong(PoweredStore.TestCase):
    settings = settings(PoweredStore.TestCase.settings, max_examples=250)


# -- what the machine has found, each by itself


class _Worst(random.Random):
    """Nothing that was not synced survives."""

    def choice(self, seq):
        return seq[0]

    def randint(self, a, b):
        return a


@pytest.fixture
def store():
    """Return the set as the machine has it; a test begins it with the levels it is about."""
    machine = PoweredStore()
    yield machine
    machine.teardown()


def _cut_power(store, chance=None) -> list[int]:
    store.disk.chance = chance or _Worst()
    store.disk.cut_power()
    return store._plainly()


def test_faults_a_name_that_another_made_is_synced_too(store):
    store.begin(("os", "always"), (None, 1))
    store.record(0, 1, None)
    store.record(1, 1, None)
    assert _cut_power(store) == [0, 1]


def test_faults_what_a_compaction_keeps_is_synced_whatever_the_level(store):
    store.begin(("os", "os"), (None, 1))
    store.record(0, 3, None)
    store.compact(2, None)
    assert _cut_power(store) == [1, 2]


def test_faults_no_number_is_given_out_twice_over_a_power_cut(store):
    store.begin(("always", "always"), (None, 1))
    store.record(0, 3, None)
    store.compact(0, None)
    assert _cut_power(store) == []
    store._writer(0).append(encode([bare_event(3)], 1))
    assert b'"seq":4,' in store.disk.names["facts"].data


@pytest.mark.parametrize("calls", range(12))
def test_faults_what_the_dead_have_written_is_synced_before_it_is_rotated(store, calls):
    store.begin(("always", "always"), (400, 500))
    store.record(0, 2, ("kill", calls))
    store.record(1, 2, None)
    before = store._plainly()
    assert _cut_power(store) == before
    assert scan(store.files, "json", Work()).anomalies == ()


def test_faults_a_sync_that_makes_up_for_a_failed_one_may_find_more_records(store):
    store.begin(("interval", "os"), (None, 1))
    store.record(0, 1, None)
    store.sync(0, ("failing", 2))
    store.record(1, 1, None)
    store.sync(0, None)
    assert store.synced == {0}
    assert _cut_power(store) == [0, 1]


def test_faults_a_file_that_failed_to_sync_is_made_up_for_where_another_process_rotated_it(store):
    store.begin(("os", "interval"), (400, 500))
    for _ in range(4):
        store.lose_power(0)
    store.record(1, 2, ("failing", 3))  # the first is stored, in a file that can't be synced nor replaced
    store.record(0, 1, None)
    store.sync(1, None)
    assert store.synced >= {4}
    assert 4 in _cut_power(store)


@pytest.mark.parametrize("level", ["interval", "always"])
def test_faults_what_was_rolled_back_does_not_come_back(store, level):
    for seed in range(100):
        store.begin((level, level), (None, 1))
        store.record(0, 1, None)
        store.record(0, 5, ("full", 600))  # four of them are written
        lines = encode([bare_event(9)], store.writers[0].next_seq)
        store.disk.calls_left = 1  # it is written in the place of the first, but not synced
        with contextlib.suppress(Died):
            store.writers[0].append(lines)
        assert set(_cut_power(store, random.Random(seed))) <= {0, 9}
        store.teardown()


@pytest.mark.parametrize("tail", ["hidden", "unterminated"])
def test_faults_a_repair_is_on_the_disk_before_the_next_record(store, tail):
    """Else what was cut, or a NUL for the newline that was added, might be beside it after a power cut."""
    for calls, seed in itertools.product(range(12), range(20)):
        store.begin(("always", "always"), (None, 1))
        store.record(0, 2, None)
        file = store.disk.names["facts"]
        if tail == "hidden":  # behind garbage as long as the next record, in whose place that will be
            second = file.data.index(b"\n") + 1
            file.data[second:second] = b"x" * len(encode([bare_event(9)], 2)[0])
        else:
            del file.data[-1]
        file.durable = bytes(file.data)
        store.disk.chance, store.disk.calls_left = random.Random(seed), calls
        with contextlib.suppress(Died):
            store.writers[1].append(encode([bare_event(9)], 2))
        store.disk.cut_power()
        kept = [0] if tail == "hidden" else [0, 1]
        assert store._plainly() in (kept, [*kept, 9])
        store.teardown()


@pytest.mark.parametrize("work", ["append", "compact", "recover"])
def test_faults_what_is_dropped_is_safe_before_it_is_cut(store, work):
    for calls, seed in itertools.product(range(12), range(20)):
        store.begin(("always", "os"), (None, 1))
        store.record(0, 2, None)
        file = store.disk.names["facts"]
        file.data += b"torn"
        file.durable, file.pending = bytes(file.data), []
        store.disk.chance, store.disk.calls_left = random.Random(seed), calls
        with contextlib.suppress(Died):
            if work == "append":
                store.writers[1].append(encode([bare_event(9)], 1))
            elif work == "compact":
                compact(store.files, "json", RetentionPolicy(), 0.0, Work(), dry_run=False)
            else:
                recover(store.files, "json", PersistenceRecoveryMode.QUARANTINE, None, Work())
        store.disk.cut_power()
        assert any(b"torn" in one.data for one in store.disk.names.values()), (calls, seed)
        store.teardown()


async def test_faults_an_interval_is_kept_under_load(quick_disk, monkeypatch):
    """A writer that is never idle syncs all the same."""
    waiting, real = [], os.fsync

    def sync(fd: int) -> None:
        waiting.append(store._committer._queue.qsize())
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(_committer, "GROUP_RECORDS", 1)
    store = JsonFilePersistence(quick_disk / "facts", durability="interval", fsync_interval=0.001)
    async with anyio.create_task_group() as group:
        for number in range(500):
            group.start_soon(store.record_event, bare_event(number))
    await store.aclose()
    assert any(waiting)
