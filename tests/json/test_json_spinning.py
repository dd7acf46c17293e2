"""A caller that appends one record after the other spins for an answer, and never for long (promise 1)."""

from __future__ import annotations

import os
import random
import sys
import threading
from time import monotonic

import anyio
import anyio.lowlevel
import pytest

from papyra_json import JsonFilePersistence
from papyra_json._write import committer as _committer
from papyra_json._write import spinning as _spinning
from papyra_json._write.spinning import LIMIT, Spinner

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


_TASK = object()


def _suited() -> Spinner:
    """Return a spinner that has `_TASK` spin, as far as it depends on that task."""
    spinner = Spinner()
    for _ in range(2):
        spinner.waited(_TASK, 0.00001, 0.3)
    return spinner


def _until_done(answered):
    for _ in range(100_000):
        if answered():
            return True
        _spinning._burn(0.00001)
    return False


async def _append_beside(store, event, many, work):
    """Append events, with a task beside that does its work once in each pass of the loop."""
    ended = False

    async def other():
        while not ended:
            work()
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        for number in range(many):
            await store.record_event(event(number))
        ended = True


def _gated(store):
    """Have each write wait until the event is set; return it, and how many lines each write had."""
    real, opened, writes = store._appender.append, threading.Event(), []

    def append(lines, times):
        writes.append(len(lines))
        opened.wait(60)
        return real(lines, times)

    store._appender.append = append
    return opened, writes


async def _seen(condition) -> None:
    with anyio.fail_after(60):
        while not condition():
            await anyio.lowlevel.checkpoint()


# -- who spins


async def test_promise_01_only_a_task_that_comes_back_at_once_spins(clock):
    spinner, task, other = Spinner(), object(), object()
    assert not spinner.suits(task)
    spinner.waited(task, 0.00001, 0.3)
    assert not spinner.suits(task)  # it may be one of several
    spinner.waited(task, 0.00001, 0.3)
    assert spinner.suits(task)
    assert not spinner.suits(other)
    clock.now += 0.001
    assert not spinner.suits(task)


async def test_promise_01_nobody_spins_where_several_append(clock):
    spinner, task, other = Spinner(), object(), object()
    for _ in range(10):
        spinner.waited(task, 0.00001, 0.3)
        spinner.waited(other, 0.00001, 0.3)
        assert not spinner.suits(other)
        assert not spinner.suits(task)


async def test_promise_01_nobody_spins_where_there_is_one_core(clock, monkeypatch):
    monkeypatch.setattr(_spinning, "_cores", lambda: 1)
    assert not _suited().suits(_TASK)


async def test_promise_01_nobody_spins_where_the_loop_has_other_work(clock):
    spinner = _suited()
    assert spinner.suits(_TASK)
    spinner.waited(_TASK, 0.00001, 0.9)
    assert not spinner.suits(_TASK)


async def test_promise_01_after_some_spins_one_awaits_and_looks_at_the_loop_again(clock):
    spinner = _suited()
    spins = 0
    while spinner.suits(_TASK):
        spinner.spin(lambda: True, 0.00001)
        spins += 1
    assert 10 <= spins <= 100


async def test_promise_01_nobody_spins_for_a_slow_disk(clock):
    spinner = _suited()
    for _ in range(100):
        spinner.waited(_TASK, 0.01, 0.1)
    assert not spinner.suits(_TASK)
    for _ in range(100):  # and once it is quick again, they do
        spinner.waited(_TASK, 0.00002, 0.1)
    assert spinner.suits(_TASK)


async def test_promise_01_nobody_spins_on_where_other_threads_compute(clock):
    """Then each look waits for the interpreter's lock."""
    spinner = _suited()

    def after_a_while():
        clock.now += 0.005
        return False

    spinner.spin(after_a_while, 0.0)
    assert not spinner.suits(_TASK)


# -- how long


@pytest.mark.parametrize("seconds", [0.0, 0.00002, 0.00009, 0.001, 5.0])
async def test_promise_01_a_loop_is_never_held_for_longer_than_the_limit(clock, seconds):
    spin = _spinning.Spin()
    for _ in range(1000):
        spin.learn(seconds)
        clock.burns.clear()
        spin.until(lambda: False)
        assert sum(clock.burns) <= LIMIT


async def test_promise_01_one_spins_for_as_long_as_answers_take(clock):
    spin, took = _spinning.Spin(), random.Random(1)
    for _ in range(5000):
        spin.learn(took.uniform(0.00003, 0.00005))
    clock.burns.clear()
    assert spin.until(lambda: True, 0.00001)
    assert clock.burns == [pytest.approx(0.000048 - 0.00001, abs=0.000004)]


async def test_promise_01_a_loop_that_had_other_work_is_not_held(clock):
    for answered in (False, True):
        spinner = _suited()
        assert spinner.spin(lambda answered=answered: answered, 0.0001) is answered
        assert clock.burns == []
        assert not spinner.suits(_TASK)


async def test_promise_01_what_is_burnt_is_time(monkeypatch):
    """So many bytes as a checksum takes that long for, as far as there are so many."""
    sizes = []
    monkeypatch.setattr(_spinning, "_speed", lambda: 4e9)
    monkeypatch.setattr(_spinning, "crc32", lambda data: sizes.append(len(data)))
    for seconds in (0.00001, 0.00005, LIMIT, -1.0, 1.0):
        _spinning._burn(seconds)
    assert sizes == [40_000, 200_000, 400_000, 6 * 2**10, 2**19]


async def test_promise_01_a_clock_that_stands_still_does_no_harm(monkeypatch):
    monkeypatch.setattr(_spinning, "monotonic", lambda: 1000.0)
    speed = _spinning._speed.__wrapped__()
    assert 0 < speed < float("inf")


async def test_promise_01_spinning_leaves_the_interpreter_to_other_threads():
    """As long as a core is kept busy, another thread runs Python, or nothing would ever be answered."""
    ran, begun = threading.Event(), threading.Event()
    gate = threading.Lock()
    gate.acquire()

    def run():
        begun.set()
        with gate:
            ran.set()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # nobody has to give the lock up
    try:
        gate.release()
        for _ in range(60_000):
            if ran.is_set():
                break
            _spinning._burn(LIMIT)
        assert ran.is_set()
    finally:
        sys.setswitchinterval(interval)
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


async def test_promise_01_an_answer_is_heard_also_where_the_clock_stands_at_zero(
    path, event, spins, monkeypatch
):
    spins(_until_done)
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    monkeypatch.setattr(_committer, "monotonic", lambda: 0.0)
    with anyio.fail_after(60):
        spins(lambda answered: False)
        await store.record_event(event(1))
        spun = []
        spins(lambda answered: spun.append(_until_done(answered)) or spun[0])
        await store.record_event(event(2))
    assert spun == [True]
    assert len(await store.list_events()) == 3
    await store.aclose()


async def test_promise_01_the_thread_does_not_spin_for_questions_that_come_late(clock):
    spinner, looks = Spinner(), []
    question = spinner.question
    while question.pays():
        question.until(lambda: False)
    clock.burns.clear()
    committer = _committer.Committer(None, None, "store", None)
    committer._spinner = spinner
    committer._sleep = lambda: looks.append(1)
    committer._spun = True
    committer._wait()
    assert (clock.burns, looks) == ([], [1])
    assert question.pays()  # that one came at once
    for _ in range(100):
        question.learn(0.0)
    committer._spun = True
    committer._wait()
    assert clock.burns
    clock.burns.clear()
    committer._wait()  # but once for one caller that has spun
    assert clock.burns == []


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
    """Each append lets the loop do its work, also if it never has to wait; trio has an order of its own."""
    spins(_until_done)
    store = JsonFilePersistence(path)
    passes = []
    await _append_beside(store, event, 100, lambda: passes.append(1))
    assert len(passes) >= 50
    await store.aclose()


async def test_promise_01_a_caller_cancelled_before_it_spins_leaves_a_whole_record(path, event, spins):
    spins(_until_done)
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.record_event(event(1))
    assert scope.cancelled_caught
    await store.record_event(event(2))
    assert await store.list_events() == [event(number) for number in range(3)]
    await store.aclose()


async def test_promise_01_the_thread_says_that_it_is_done_before_it_looks_who_waits():
    """Else a caller that begins to wait in between would wait for ever."""

    class Request:
        done_at = 0.0

        @property
        def waiter(self):
            assert self.done_at > 0
            seen.append(self)

    seen = []
    _committer._wake([Request(), Request()])
    assert len(seen) == 2


async def test_promise_01_who_finds_others_in_the_queue_awaits_with_them(path, event, monkeypatch):
    monkeypatch.setattr(Spinner, "suits", lambda self, task: True)
    spun = []
    monkeypatch.setattr(Spinner, "spin", lambda self, answered, passed: spun.append(1) or answered())
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    opened, writes = _gated(store)
    spun.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(store.record_event, event(1))
        await _seen(lambda: spun and writes)  # the thread has it
        for number in (2, 3, 4):
            group.start_soon(store.record_event, event(number))
        await _seen(lambda: store._committer._queue.qsize() == 3)
        opened.set()
    assert len(spun) == 2  # the one that the thread was at, and the first behind it
    await store.aclose()


async def test_promise_01_the_passes_of_a_loop_with_other_work_are_seen(path, event, monkeypatch):
    monkeypatch.setattr(Spinner, "suits", lambda self, task: True)
    passes = []
    monkeypatch.setattr(
        Spinner, "spin", lambda self, answered, passed: passes.append(passed) or _until_done(answered)
    )
    store = JsonFilePersistence(path)

    def work():
        began = monotonic()
        while monotonic() - began < 0.005:
            pass

    await _append_beside(store, event, 20, work)
    assert max(passes) >= 0.005
    await store.aclose()


async def test_promise_01_a_task_that_appends_alone_comes_to_spin(path, event, monkeypatch):
    """As it is, but for what depends on the machine's speed."""
    monkeypatch.setattr(_spinning, "_cores", lambda: 2)
    monkeypatch.setattr(_spinning, "_RECENT", 60.0)
    monkeypatch.setattr(_spinning, "_IDLE", 60.0)
    monkeypatch.setattr(_spinning, "_BUSY", 60.0)
    monkeypatch.setattr(_spinning.Spin, "learn", lambda self, seconds: None)
    spun = []
    real = Spinner.spin
    monkeypatch.setattr(
        Spinner, "spin", lambda self, answered, passed: spun.append(1) or real(self, answered, passed)
    )
    store = JsonFilePersistence(path)
    for number in range(200):
        await store.record_event(event(number))
    assert len(spun) > 150
    assert await store.list_events() == [event(number) for number in range(200)]
    await store.aclose()


async def test_promise_01_a_close_that_fails_before_it_is_asked_still_ends_the_thread(
    path, event, monkeypatch
):
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    monkeypatch.setattr(_committer, "current_task", lambda: 1 / 0)
    with anyio.fail_after(60), pytest.raises(ZeroDivisionError):
        await store.aclose()
    monkeypatch.undo()
    assert not store._committer._thread.is_alive()


async def test_promise_01_who_spins_shares_a_write_with_who_comes_meanwhile(path, event, spins):
    """Ten tasks that all would spin still have what waits written in one go."""
    spins(lambda answered: answered())
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    opened, writes = _gated(store)
    async with anyio.create_task_group() as group:
        for number in range(1, 11):
            group.start_soon(store.record_event, event(number))
        await _seen(lambda: writes and store._committer._queue.qsize() == 10 - writes[0])
        opened.set()
    assert len(writes) <= 2
    assert sum(writes) == 10
    await store.aclose()
