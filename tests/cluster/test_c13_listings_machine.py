"""Promise 13: listings converge after any fault and equal what is registered; a state machine of Hypothesis.

The rules write a program of registrations and faults. It runs in virtual time at the end of an example, so
that Hypothesis can shorten a program that fails.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import hypothesis.strategies as st
from _world import COUNTER, Counter, systems, until
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from papyra.testing import run_seeded
from papyra_contrib.cluster import ClusterUnavailable
from papyra_contrib.cluster.testing import MemoryNetwork

NODES = ("a", "b", "c")
node = st.sampled_from(NODES)
seconds = st.sampled_from([0.2, 1.0, 2.45, 2.6, 3.1, 7.0])  # about the beat, the margin and the lease of 3 s


class Listings(RuleBasedStateMachine):
    """Programs of at most a few dozen steps on three nodes."""

    @initialize(
        seed=st.integers(0, 2**16),
        loss=st.sampled_from([0.0, 0.1]),
        lag=st.sampled_from([0.0, 1.0]),
        backend=st.sampled_from(["asyncio", "trio"]),
    )
    def begin(self, seed, loss, lag, backend):
        self.options = (seed, loss, lag, backend)
        self.steps: list[tuple[Any, ...]] = []

    @rule(on=node)
    def register(self, on):
        self.steps.append(("register", on))

    @rule(on=node, number=st.integers(0, 3))
    def withdraw(self, on, number):
        self.steps.append(("withdraw", on, number))

    @rule(on=node, number=st.integers(0, 3))
    def stop(self, on, number):
        self.steps.append(("stop", on, number))

    @rule(on=node, wait=seconds)
    def cut(self, on, wait):
        self.steps.append(("cut", on, wait))

    @rule(on=node, wait=seconds)
    def pause(self, on, wait):
        self.steps.append(("pause", on, wait))

    @rule(away=seconds, wait=seconds)
    def restart(self, away, wait):
        self.steps.append(("restart", away, wait))

    @rule(wait=seconds)
    def sleep(self, wait):
        self.steps.append(("sleep", wait))

    def teardown(self):
        if self.steps:
            seed, *_, backend = self.options
            run_seeded(seed, self.run, backend=backend)

    async def run(self) -> None:
        seed, loss, lag, _ = self.options
        self.network = MemoryNetwork(seed, loss=loss, lag=lag)
        async with systems(self.network, *NODES) as nodes:
            self.nodes = dict(zip(NODES, nodes, strict=True))
            self.registered: dict[str, list[Any]] = {name: [] for name in NODES}
            for step, *arguments in self.steps:
                await getattr(self, f"do_{step}")(*arguments)
            self.network.faults.lag = 0.0
            await until(lambda: all(system.cluster._session.joined for system in nodes))
            await until(lambda: all(self.listing(system) == self.expected() for system in nodes))

    def expected(self) -> set[str]:
        return {
            str(self.nodes[name].cluster.address(ref))
            for name, refs in self.registered.items()
            for ref in refs
        }

    def listing(self, system: Any) -> set[str]:
        return {str(system.cluster.address(ref)) for ref in system.cluster.find(COUNTER)}

    async def do_register(self, on: str) -> None:
        ref = self.nodes[on].spawn(Counter)
        with suppress(ClusterUnavailable):  # it says that it is not registered
            await self.nodes[on].cluster.register(COUNTER, ref)
            self.registered[on].append(ref)

    async def do_withdraw(self, on: str, number: int) -> None:
        if number < len(self.registered[on]):
            ref = self.registered[on].pop(number)
            with suppress(ClusterUnavailable):  # it is withdrawn once the registry answers
                await self.nodes[on].cluster.withdraw(COUNTER, ref)

    async def do_stop(self, on: str, number: int) -> None:
        if number < len(self.registered[on]):
            await self.nodes[on].stop(self.registered[on].pop(number))

    async def do_cut(self, on: str, wait: float) -> None:
        self.network.partition({on}, set(NODES) - {on})
        await anyio.sleep(wait)
        self.network.heal()

    async def do_pause(self, on: str, wait: float) -> None:
        self.network.pause(on)
        await anyio.sleep(wait)
        self.network.resume(on)

    async def do_restart(self, away: float, wait: float) -> None:
        self.network.restart(away)
        await anyio.sleep(wait)

    async def do_sleep(self, wait: float) -> None:
        await anyio.sleep(wait)


TestListings = Listings.TestCase
TestListings.settings = settings(max_examples=15, stateful_step_count=15)
