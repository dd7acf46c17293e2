"""Promises 4, 6, 9 and 13: what a node had before it lost its lease is there again after it has joined anew.

The model knows what each node registered, claimed and watched. Lost leases come from partitions, pauses and
restarts of the registry, with 10 % loss.
"""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
from _world import COUNTER, Counter, Watcher, loop_of, systems, until

from papyra.exceptions import ActorNameTaken
from papyra.testing import run_seeded
from papyra_contrib.cluster import ClusterUnavailable, NameLost
from papyra_contrib.cluster.testing import MemoryNetwork

SEEDS = 200
LOSSES = (0.4, 0.1)  # by `seed % 2`; many answers of the registry are lost, or some
FORMER_FAULTS = (184, 199)  # names: two actors that both believed to have one
NAMES = ("one", "two", "three")


class Named(Counter):
    """An actor with a name, until it loses it."""

    def __init__(self, lost: list[str]) -> None:
        super().__init__()
        self.lost = lost

    async def receive(self, message: Any) -> Any:
        if isinstance(message, NameLost):
            self.lost.append(message.name)
            return None
        return await super().receive(message)


class Rejoins:
    """Three nodes, what happens to them, and what must be true afterwards."""

    def __init__(self, seed: int, network: MemoryNetwork, nodes: list[Any]) -> None:
        self.network = network
        self.nodes = nodes
        self.choose = random.Random(seed)
        self.registered: dict[str, list[Any]] = {system.system_id: [] for system in nodes}
        self.claimed: list[tuple[Any, str, Any, list[str]]] = []
        self.watches: list[tuple[Watcher, Any, str]] = []

    async def step(self) -> None:
        acts = [self.register, self.stop, self.claim, self.watch, self.cut, self.pause, self.restart]
        await self.choose.choice(acts)(self.choose.choice(self.nodes))

    async def register(self, system: Any) -> None:
        ref = system.spawn(Counter)
        try:
            await system.cluster.register(COUNTER, ref)
        except ClusterUnavailable:
            return  # it said so: not registered
        self.registered[system.system_id].append(ref)

    async def stop(self, system: Any) -> None:
        refs = self.registered[system.system_id]
        if refs:
            await system.stop(refs.pop(0))

    async def claim(self, system: Any) -> None:
        lost: list[str] = []
        ref, name = system.spawn(lambda: Named(lost)), self.choose.choice(NAMES)
        try:
            await system.cluster.claim(name, ref)
        except (ActorNameTaken, ClusterUnavailable):
            return
        self.claimed.append((system, name, ref, lost))

    async def watch(self, system: Any) -> None:
        found = [ref for ref in system.cluster.find(COUNTER) if "@" in ref.address.system]
        if found:
            watcher, ref = Watcher(), self.choose.choice(found)
            await system.spawn(watcher.actor).ask(ref)
            self.watches.append((watcher, system, ref.address.system))

    async def cut(self, system: Any) -> None:
        name = system.system_id
        self.network.partition({name}, {"a", "b", "c"} - {name})
        await anyio.sleep(self.choose.random() * 7)
        self.network.heal()

    async def pause(self, system: Any) -> None:
        self.network.pause(system.system_id)
        await anyio.sleep(self.choose.random() * 7)
        self.network.resume(system.system_id)

    async def restart(self, _: Any) -> None:
        self.network.restart(self.choose.choice([0.5, 3.0, 12.0]))
        await anyio.sleep(self.choose.random() * 14)

    # -- what must be true

    async def check(self) -> None:
        self.network.faults.loss = 0.0
        await until(lambda: all(system.cluster._session.joined for system in self.nodes))
        await until(lambda: all(len(system.cluster.members()) == 3 for system in self.nodes))
        await until(lambda: all(self.listing(system) == self.expected() for system in self.nodes))
        await until(lambda: all(self.holders(system) == self.expected_holders() for system in self.nodes))
        await anyio.sleep(25)  # two lists of watches: a notice that comes twice would have come
        members = {f"{one.node}@{one.incarnation}" for one in self.nodes[0].cluster.members()}
        for watcher, system, node in self.watches:
            reasons = watcher.reasons
            assert len(reasons) <= 1, reasons
            assert set(reasons) <= {"node_down", "stopped"}
            if node not in members:
                assert reasons, (system.system_id, node)
        for system in self.nodes:
            self.check_facts(system)
            for ref in self.registered[system.system_id]:
                assert await ref.ask("get") == 0  # local actors went on

    def expected(self) -> set[str]:
        return {
            str(system.cluster.address(ref))
            for system in self.nodes
            for ref in self.registered[system.system_id]
        }

    def listing(self, system: Any) -> set[str]:
        return {str(system.cluster.address(ref)) for ref in system.cluster.find(COUNTER)}

    def expected_holders(self) -> dict[str, str]:
        kept = [one for one in self.claimed if one[1] not in one[3]]
        if len({name for _, name, _, _ in kept}) < len(kept):
            return {"": "two actors believe that they have a name"}  # for a while, until one gets `NameLost`
        return {name: str(system.cluster.address(ref)) for system, name, ref, _ in kept}

    def holders(self, system: Any) -> dict[str, str]:
        found = {name: system.cluster.lookup(name) for name in NAMES}
        return {name: str(system.cluster.address(ref)) for name, ref in found.items() if ref is not None}

    def check_facts(self, system: Any) -> None:
        known: set[str] = set()
        ended: set[str] = set()
        for event in system.events():
            if type(event).__name__ == "NodeUp":
                known.add(event.payload["incarnation"])
                assert event.payload["incarnation"] not in ended, "an ended incarnation came back"
            elif type(event).__name__ == "NodeDown":
                assert event.payload["incarnation"] in known - ended, "down without having been up, or twice"
                ended.add(event.payload["incarnation"])


async def _rejoins(seed: int, loss: float) -> None:
    network = MemoryNetwork(seed, loss=loss, delay=(0.0, 0.02))
    async with systems(network, "a", "b", "c", ask_timeout=3.0) as nodes:
        await until(lambda: all(len(system.cluster.members()) == 3 for system in nodes))
        model = Rejoins(seed, network, nodes)
        for _ in range(12):
            await model.step()
        await model.check()


def test_c09_a_rejoin_in_a_few_seeds(backend):
    for seed in (*range(4), *FORMER_FAULTS):
        run_seeded(seed, _rejoins, seed, LOSSES[seed % 2], backend=backend)


@pytest.mark.sweep
def test_c09_a_rejoin_in_200_seeds():
    for seed in range(SEEDS):
        run_seeded(seed, _rejoins, seed, LOSSES[seed % 2], backend=loop_of(seed))
