"""Numbers that are read when somebody looks (watch.md 2.3, promises 7 to 9)."""

from __future__ import annotations

import json
import threading
import time

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import papyra
from papyra import Actor, ActorStopped, ActorSystem, Strategy, SupervisionPolicy
from papyra._runtime.observation.tallies import MAX_KINDS
from papyra.exceptions import SystemNotRunning
from papyra.testing import run_seeded

from .._loops import one_loop


class Counter(Actor):
    async def receive(self, message):
        if message == "fail":
            raise ValueError("as asked")
        return message


class Waiting(Actor):
    async def receive(self, message):
        await anyio.sleep_forever()


async def test_the_numbers_of_a_system():
    system = ActorSystem(system_id="shop", shutdown_timeout=0.1)
    with pytest.raises(SystemNotRunning):
        system.statistics()
    async with system:
        counter = system.spawn(Counter, name="counter", policy=SupervisionPolicy(Strategy.RESTART))
        for _ in range(3):
            await counter.ask("hello")
        with pytest.raises(ValueError, match="as asked"):
            await counter.ask("fail")
        await counter.ask("hello")
        gone = system.spawn(Counter)
        await gone.ask(1)
        await system.stop(gone)
        with pytest.raises(ActorStopped):
            await gone.tell("too late")
        full = system.spawn(Waiting, mailbox_capacity=4)
        async with anyio.create_task_group() as tasks:
            for _ in range(7):
                tasks.start_soon(full.tell, None)
            await anyio.wait_all_tasks_blocked()
            found = system.statistics()
            assert found.kinds == (await system.sample()).kinds
            tasks.cancel_scope.cancel()
    counters, waiting = found.kinds["Counter"], found.kinds["Waiting"]
    assert (counters.alive, counters.spawned, counters.processed) == (1, 2, 6)
    assert (counters.failures, counters.restarts, counters.waiting) == (1, 1, 0)
    assert (waiting.alive, waiting.waiting, waiting.fullest, waiting.senders) == (1, 4, 1.0, 2)
    assert (found.system_id, found.state, found.spawned) == ("shop", "running", 3)
    assert found.workers["running"] == 1
    assert found.dead_letters == {"refused": 1, "unhandled": 0}
    assert found.facts["store"] == "memory"
    assert json.loads(json.dumps(found.to_dict()))["kinds"]["Counter"]["processed"] == 6
    after = system.statistics()
    assert (after.state, after.kinds["Waiting"].alive, after.dead_letters["unhandled"]) == ("closed", 0, 4)


async def test_states_are_counted_apart():
    gate = anyio.Event()

    class Slow(Actor):
        async def receive(self, message):
            if message:
                raise ValueError("as asked")

        async def on_stop(self):
            await gate.wait()

    async with ActorSystem() as system:
        policy = SupervisionPolicy(Strategy.RESTART)
        alive, restarting, stopping = (system.spawn(Slow, policy=policy) for _ in range(3))
        await alive.ask(0)
        await restarting.tell(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(system.stop, stopping)
            await anyio.wait_all_tasks_blocked()
            slow = system.statistics().kinds["Slow"]
            assert (slow.alive, slow.restarting, slow.stopping, slow.spawned) == (1, 1, 1, 3)
            gate.set()


async def test_more_types_than_are_counted_each_by_itself():
    async with ActorSystem() as system:
        for n in range(MAX_KINDS + 20):
            ref = system.spawn(type(f"Kind{n}", (Counter,), {}))
            await ref.ask(0)
            if n % 2:
                await system.stop(ref)
        kinds = system.statistics().kinds
        assert len(kinds) == MAX_KINDS + 1
        assert kinds["(other)"].processed == sum(1 for _ in range(20))
        assert sum(kind.spawned for kind in kinds.values()) == MAX_KINDS + 20


async def test_a_restart_that_makes_another_type_leaves_each_its_numbers():
    class Other(Counter):
        pass

    kinds = iter([Counter, Other, Other])
    async with ActorSystem() as system:
        ref = system.spawn(lambda: next(kinds)(), policy=SupervisionPolicy(Strategy.RESTART))
        await ref.ask(1)
        with pytest.raises(ValueError, match="as asked"):
            await ref.ask("fail")
        assert await ref.ask(2) == 2
        found = system.statistics().kinds
        assert [(found[name].processed, found[name].spawned) for name in ("Counter", "Other")] == [
            (2, 1),
            (1, 0),
        ]
        await system.stop(ref)
        found = system.statistics().kinds
        assert [(found[name].processed, found[name].spawned) for name in ("Counter", "Other")] == [
            (2, 1),
            (1, 0),
        ]


async def test_scrape_thread():
    """Promise 7: 10,000 looks from a thread while actors come and go: no error, and no counter falls."""
    stop, errors, scrapes = threading.Event(), [], 0

    def scrape(system):
        nonlocal scrapes
        last = (0, 0)
        try:
            while not stop.is_set():
                kinds = system.statistics().kinds
                now = (kinds["Counter"].processed, kinds["Counter"].spawned) if kinds else (0, 0)
                assert now >= last, (last, now)
                assert now[1] >= last[1], (last, now)
                last = now
                scrapes += 1
        except BaseException as error:
            errors.append(error)

    async with ActorSystem() as system:
        thread = threading.Thread(target=scrape, args=(system,))
        thread.start()
        lives = 0
        deadline = time.monotonic() + 120
        while (scrapes < 10_000 or lives < 2_000) and not errors and time.monotonic() < deadline:
            refs = [system.spawn(Counter) for _ in range(20)]
            for ref in refs:
                await ref.tell(1)
            for ref in refs:
                await system.stop(ref)
            lives += len(refs)
        stop.set()
        await anyio.to_thread.run_sync(thread.join)
        assert errors == []
        assert scrapes >= 10_000
        assert system.statistics().kinds["Counter"].processed == lives


async def check_lives(steps):
    """Counters never fall, and in the end they are exact."""
    told, last = 0, {}

    def rises(found):
        for name, kind in found.kinds.items():
            grown = (kind.spawned, kind.processed, kind.failures, kind.restarts)
            assert all(now >= before for now, before in zip(grown, last.get(name, (0,) * 4), strict=True))
            last[name] = grown

    system = ActorSystem()
    await system.start()
    refs = []
    for number, step in enumerate(steps):
        if step == "spawn":
            kind = (Counter, type("Second", (Counter,), {}))[number % 2]
            refs.append(system.spawn(kind, policy=SupervisionPolicy(Strategy.RESTART, max_restarts=1)))
        elif step in ("tell", "fail") and refs:
            try:
                await refs[number % len(refs)].tell(step)
                told += 1
            except ActorStopped:
                pass
        elif step == "stop" and refs:
            await system.stop(refs.pop(number % len(refs)))
        elif step == "stop_all":
            await system.stop_all()
            refs.clear()
        elif step in ("look", "sample"):
            rises(system.statistics() if step == "look" else await system.sample())
    await system.aclose()
    found = system.statistics()
    rises(found)
    assert sum(kind.processed for kind in found.kinds.values()) + found.dead_letters["unhandled"] == told
    assert sum(kind.spawned for kind in found.kinds.values()) == found.spawned
    assert all(kind.alive == kind.restarting == kind.stopping == 0 for kind in found.kinds.values())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    steps=st.lists(
        st.sampled_from(["spawn", "tell", "fail", "stop", "stop_all", "look", "sample"]), max_size=40
    ),
)
def test_counters_never_fall_whatever_the_lives(backend, seed, steps):
    run_seeded(seed, check_lives, steps, backend=backend)


class Importer(Actor):
    """Handles a hundred messages in a row, each for three sleeps."""

    async def receive(self, message):
        for _ in range(3):
            await self._fetch()
        return message

    async def _fetch(self):
        await anyio.sleep(0.002)


async def test_busy():
    """Promise 8: one message keeps its name and another has another, a hundred in a row."""
    handled = 0

    class Spy(Importer):
        async def receive(self, message):
            nonlocal handled
            handled = message
            return await super().receive(message)

    async with ActorSystem() as system:
        importer = system.spawn(Spy, name="importer")
        for n in range(100):
            await importer.tell(n)
        seen: dict[int, list[float]] = {}
        while importer.is_alive() and handled < 99:
            for each in system.busy():
                assert (each.address, each.name, each.actor_type) == (importer.address, "importer", "Spy")
                assert each.where.startswith("Spy.receive test_statistics.py:")
                assert each.awaits == "Importer.receive"
                seen.setdefault(handled, []).append(each.seconds)
            await anyio.sleep(0.001)
        assert len(seen) > 30
        for times in seen.values():
            assert times[0] == 0.0  # another message
            assert times == sorted(times)
            assert all(later > 0 for later in times[1:])  # the same message
        await importer.ask(0)
        assert system.busy() == []


async def test_an_actor_that_waits_for_something_of_its_own_making_is_busy_too():
    event = anyio.Event()

    class Wait:
        def __await__(self):
            return event.wait().__await__()

    class Returns(Actor):
        def receive(self, message):
            return Wait()

    async with ActorSystem() as system:
        ref = system.spawn(Returns)
        await ref.tell(1)
        await anyio.wait_all_tasks_blocked()
        (busy,) = system.busy()
        assert (busy.address, busy.actor_type, busy.where) == (ref.address, "Returns", "")
        assert busy.awaits
        event.set()


class SelfLooking(Actor):
    async def receive(self, message):
        await anyio.lowlevel.checkpoint()
        return await self._look(message)

    async def _look(self, event):
        if event:
            await event.wait()
        return self.context.system.busy()


async def test_an_actor_that_looks_at_itself_is_busy_where_it_is():
    async with ActorSystem() as system:
        ref = system.spawn(SelfLooking)
        (busy,) = await ref.ask(0)
        assert busy.where.startswith("SelfLooking.receive test_statistics.py:")
        assert (busy.awaits, busy.seconds) == ("", 0.0)
        assert busy.to_dict()["address"] == str(ref.address)
        answers, event = [], anyio.Event()

        async def ask():
            answers.append(await ref.ask(event))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            with anyio.fail_after(10):
                while [each.awaits for each in system.busy()] != ["SelfLooking._look"]:  # noqa: ASYNC110 - nothing tells when it is
                    await anyio.sleep(0.001)
            await anyio.sleep(0.04)  # the time that it has to report
            event.set()
        assert answers[0][0].seconds > 0.03  # seen before, while it was suspended


async def test_busy_from_another_thread_finds_code_that_computes():
    class Computing(Actor):
        async def receive(self, message):
            until = time.monotonic() + 5
            while not found and time.monotonic() < until:
                pass

    found = []

    def look(system):
        until = time.monotonic() + 5
        while not found and time.monotonic() < until:
            found.extend(each for each in system.busy() if each.where)

    async with ActorSystem() as system:
        ref = system.spawn(Computing)
        thread = threading.Thread(target=look, args=(system,))
        thread.start()
        await ref.ask(0)
        thread.join()
    assert found[0].where.startswith("Computing.receive test_statistics.py:")


@one_loop
async def test_list_is_linear():
    """Promise 9: four times the actors, a tenth of them busy, take about four times as long to list.

    The row ``list_actors`` of the benchmarks has the milliseconds.
    """
    taken: list[float] = []
    async with ActorSystem(shutdown_timeout=0.1) as system:
        for quiet, busy in ((2_250, 250), (6_750, 750)):
            for _ in range(quiet):
                system.spawn(Counter)
            for _ in range(busy):
                await system.spawn(Waiting).tell(0)
            await anyio.wait_all_tasks_blocked()
            taken.append(min(_cpu_seconds(system.list_actors) for _ in range(5)))
        assert len(system.busy()) == 1_000
    assert taken[1] < 10 * taken[0]


def _cpu_seconds(call):
    began = time.process_time()
    call()
    return time.process_time() - began


async def test_sample_lets_the_event_loop_go_round():
    async with ActorSystem() as system:
        for _ in range(12_000):
            system.spawn(Counter)
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await anyio.lowlevel.checkpoint()
            before = turns
            assert (await system.sample()).kinds["Counter"].alive == 12_000
            assert turns - before >= 2
            tasks.cancel_scope.cancel()


async def test_current_actor():
    class Asked(Actor):
        async def receive(self, message):
            async with anyio.create_task_group() as tasks:
                in_task: list = []
                tasks.start_soon(self._note, in_task)
            in_thread = await anyio.to_thread.run_sync(papyra.current_actor)
            return papyra.current_actor(), in_task, in_thread

        async def _note(self, into):
            into.append(papyra.current_actor())

    assert papyra.current_actor() is None
    async with ActorSystem() as system:
        ref = system.spawn(Asked)
        assert await ref.ask(0) == (ref, [None], None)
    assert papyra.current_actor() is None


def test_current_actor_outside_of_an_event_loop():
    assert papyra.current_actor() is None
