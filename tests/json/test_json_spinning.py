"""A caller that appends one record after the other spins for an answer, and never for long (promise 1)."""

from __future__ import annotations

import os
import random
import threading

import anyio
import anyio.lowlevel
import pytest

from papyra_json import JsonFilePersistence, _committer, _spinning
from papyra_json._spinning import LIMIT, Spinner

pytestmark = pytest.mark.anyio


class _Clock:
    """Time that passes where somebody spins, and nowhere else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.burns: list[float] = []
        monkeypatch.setattr(_spinning, "monotonic", lambda: self.now)
        monkeypatch.setattr(_spinning, "_burn", self._burn)
        monkeypatch.setattr(_spinning, "_cores", lambda: 2)

    def _burn(self, seconds: float) -> None:
        self.burns.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return _Clock(monkeypatch)


@pytest.fixture
def spins(monkeypatch):
    """Have every lone record spun for, with the result that the test says."""
    monkeypatch.setattr(Spinner, "suits", lambda self, task: True)

    def set_to(spin):
        monkeypatch.setattr(Spinner, "spin", lambda self, answered, passed: spin(answered))

    return set_to


def _until_done(answered):
    while not answered():
        _spinning._burn(0.00001)
    return True


# -- who spins


async def test_promise_01_only_a_task_that_comes_back_at_once_spins(clock):
    spinner, task, other = Spinner(), object(), object()
    assert not spinner.suits(task)
    spinner.learn(task, 0.00001)
    assert spinner.suits(task)
    assert not spinner.suits(other)
    clock.now += 0.001
    assert not spinner.suits(task)


async def test_promise_01_nobody_spins_where_there_is_one_core(clock, monkeypatch):
    monkeypatch.setattr(_spinning, "_cores", lambda: 1)
    spinner, task = Spinner(), object()
    spinner.learn(task, 0.00001)
    assert not spinner.suits(task)


async def test_promise_01_nobody_spins_for_a_slow_disk(clock):
    spinner, task = Spinner(), object()
    for _ in range(100):
        spinner.learn(task, 0.01)
    assert not spinner.suits(task)
    for _ in range(100):  # and once it is quick again, they do
        spinner.learn(task, 0.00002)
    assert spinner.suits(task)


# -- how long


@pytest.mark.parametrize("seconds", [0.0, 0.00002, 0.00009, 0.001, 5.0])
async def test_promise_01_a_loop_is_never_held_for_longer_than_the_limit(clock, seconds):
    spinner, task = Spinner(), object()
    for _ in range(1000):
        spinner.learn(task, seconds)
        clock.burns.clear()
        spinner.spin(lambda: False, 0.0)
        assert sum(clock.burns) <= LIMIT


async def test_promise_01_one_spins_for_as_long_as_answers_take(clock):
    spinner, task, took = Spinner(), object(), random.Random(1)
    for _ in range(5000):
        spinner.learn(task, took.uniform(0.00003, 0.00005))
    clock.burns.clear()
    assert spinner.spin(lambda: True, 0.00001)
    assert clock.burns == [pytest.approx(0.000048 - 0.00001, abs=0.000004)]


async def test_promise_01_a_loop_with_other_work_is_not_held(clock):
    assert not Spinner().spin(lambda: False, 0.0001)
    assert Spinner().spin(lambda: True, 0.0001)
    assert clock.burns == []


async def test_promise_01_spinning_leaves_the_interpreter_to_other_threads():
    """As long as a core is kept busy, another thread runs Python, or nothing would ever be answered."""
    ran = threading.Event()
    thread = threading.Thread(target=ran.set)
    thread.start()
    for _ in range(60_000):
        if ran.is_set():
            break
        _spinning._burn(0.001)
    assert ran.is_set()
    thread.join()


async def test_promise_01_the_cores_are_those_that_this_process_may_use():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system binds no process to a core")
    allowed = os.sched_getaffinity(0)
    assert _spinning._cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert _spinning._cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


# -- what comes of it


async def test_promise_01_appends_that_are_spun_for_are_stored_in_order(path, event, spins):
    spins(_until_done)
    store = JsonFilePersistence(path)
    for number in range(500):
        await store.record_event(event(number))
    assert await store.list_events() == [event(number) for number in range(500)]
    await store.aclose()


async def test_promise_01_an_answer_at_any_instant_of_the_wait_is_heard(path, event, spins):
    """It may come before the wait, between two looks, or after the loop went on: 3,000 at random."""
    chance = random.Random(7)

    def for_some_time(answered):
        _spinning._burn(chance.uniform(0, 0.00008))
        return answered()

    spins(for_some_time)
    store = JsonFilePersistence(path)
    with anyio.fail_after(120):
        for number in range(3000):
            await store.record_event(event(number))
    assert await store.list_events() == [event(number) for number in range(3000)]
    await store.aclose()


async def test_promise_01_an_answer_between_the_look_and_the_wait_is_heard(path, event, spins, monkeypatch):
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    requests = []
    spins(lambda answered: requests.append(answered.__self__) or False)
    real = _committer.new_waiter

    def late():
        waiter = real()
        _until_done(requests[-1].is_done)  # by then the thread has looked for a waiter, and seen none
        return waiter

    with anyio.fail_after(120):
        monkeypatch.setattr(_committer, "new_waiter", late)
        await store.record_event(event(1))
        monkeypatch.undo()
    assert await store.list_events() == [event(0), event(1)]
    await store.aclose()


async def test_promise_01_a_failure_is_raised_where_it_was_spun_for(path, event, spins):
    spins(_until_done)
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    with pytest.raises(TypeError, match="a record is"):
        await store.record_event("no record")
    await store.record_event(event(1))
    assert await store.list_events() == [event(0), event(1)]
    await store.aclose()


async def test_promise_01_other_tasks_go_on_while_one_appends_and_appends(path, event, spins):
    """Each append lets the loop do its work: as many passes as appends."""
    spins(lambda answered: answered())
    store = JsonFilePersistence(path)
    passes, ended = 0, False

    async def other():
        nonlocal passes
        while not ended:
            passes += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        for number in range(100):
            await store.record_event(event(number))
        ended = True
    assert passes >= 100
    await store.aclose()


async def test_promise_01_a_caller_cancelled_before_it_spins_leaves_a_whole_record(path, event, spins):
    spins(lambda answered: answered())
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.record_event(event(1))
    assert scope.cancelled_caught
    await store.record_event(event(2))
    assert await store.list_events() == [event(number) for number in range(3)]
    await store.aclose()


async def test_promise_01_who_spins_shares_a_write_with_who_comes_meanwhile(path, event, spins):
    """Ten tasks that all would spin still have what waits written in one go."""
    spins(lambda answered: answered())
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    writes = []
    real = store._appender.append
    opened = threading.Event()

    def append(lines, times):
        writes.append(len(lines))
        opened.wait(60)
        return real(lines, times)

    store._appender.append = append
    async with anyio.create_task_group() as group:
        for number in range(1, 11):
            group.start_soon(store.record_event, event(number))
        with anyio.fail_after(60):
            while not writes or store._committer._queue.qsize() < 10 - writes[0]:
                await anyio.lowlevel.checkpoint()
        opened.set()
    assert len(writes) <= 2
    assert sum(writes) == 10
    await store.aclose()
