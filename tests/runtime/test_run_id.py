"""Every fact of one system's life carries the id of its run (promise R1)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from papyra import Actor, ActorStopped, ActorSystem
from papyra._runtime.facts import run_id
from papyra.persistence import InMemoryPersistence


class Quiet(Actor):
    async def receive(self, message):
        pass


class Kept(InMemoryPersistence):
    """Keep the records beyond the close of the system."""

    async def aclose(self):
        self.last = [*await self.list_events(), *await self.list_dead_letters(), *await self.list_audits()]
        await super().aclose()


async def one_run(**options):
    store = Kept()
    system = ActorSystem(persistence=store, **options)
    assert system.run_id == ""
    async with system:
        ref = system.spawn(Quiet)
        await ref.tell(1)
        system.audit()
        await system.stop(ref)
        with pytest.raises(ActorStopped):
            await ref.tell(2)
    return system.run_id, store.last


async def test_r01_all_facts_of_one_life_have_one_run():
    run, records = await one_run()
    assert len(run) == 12
    assert run.isalnum()
    assert len({type(record) for record in records}) == 3
    assert {record.run for record in records} == {run}


async def test_r01_two_systems_have_two_runs_even_with_a_clock_that_does_not_move():
    assert len({(await one_run(time_fn=lambda: 0.0))[0] for _ in range(20)}) == 20


def test_r01_ids_sort_by_start_to_10_ms(monkeypatch):
    moments = [0.0, 0.01, 0.62, 9.99, 1e9, 1_795_503_432.35, 1_795_503_432.36, 4e9, 3.5e10]
    found = []
    for moment in moments:
        monkeypatch.setattr(run_id.time, "time", lambda moment=moment: moment)
        found.append(run_id.new_run_id())
    assert {len(one) for one in found} == {12}
    assert found == sorted(found)


def test_r01_other_processes_have_other_runs():
    program = (
        "from papyra._runtime.facts.run_id import new_run_id; print(*(new_run_id() for _ in range(1000)))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    found = [process.communicate(timeout=60)[0].split() for process in started]
    assert len({*found[0], *found[1]}) == 2000
