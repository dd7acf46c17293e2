"""Promises 4 and 14: a peer reaches an actor once its reference was given out, and never before or after.

The model knows which actors were given out, and in which incarnation of their node. Another node guesses
every address, with 10 % loss, over leases that are lost.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import anyio
import pytest
from _world import COUNTER, Add, Counter, Watcher, loop_of, systems, until

from papyra import ActorRef, ActorStopped, ActorSystem, AskTimeout
from papyra.exceptions import ActorNameTaken
from papyra.testing import run_seeded
from papyra_contrib.cluster import MessageRejected, NodeGone, NodeUnreachable
from papyra_contrib.cluster.testing import MemoryNetwork

SEEDS = 200


class Exported:
    """Actors of one node, and what another node may reach of them."""

    def __init__(self, seed: int, network: MemoryNetwork, owner: ActorSystem, peer: ActorSystem) -> None:
        self.network = network
        self.owner = owner
        self.peer = peer
        self.choose = random.Random(seed)
        self.refs: list[ActorRef[Any, Any]] = []
        self.given: set[ActorRef[Any, Any]] = set()
        self.kept: set[ActorRef[Any, Any]] = set()  # registered or named: given out again after a join
        self.ended: set[ActorRef[Any, Any]] = set()

    async def step(self) -> None:
        acts = [
            self.spawn,
            self.spawn,
            self.address,
            self.send,
            self.register,
            self.claim,
            self.stop,
            self.cut,
        ]
        await self.choose.choice(acts)()

    def any(self) -> ActorRef[Any, Any] | None:
        living = [ref for ref in self.refs if ref not in self.ended]
        return self.choose.choice(living) if living else None

    async def spawn(self) -> None:
        self.refs.append(self.owner.spawn(Counter))

    async def address(self) -> None:
        if (ref := self.any()) is not None:
            self.owner.cluster.address(ref)
            self.given.add(ref)

    async def send(self) -> None:
        """Send a reference in a message; that it was written is enough, whether it arrives or not."""
        if (ref := self.any()) is not None:
            sink = self.owner.ref_for(self.peer.cluster.address(self.peer.spawn(Counter)))
            assert sink is not None
            self.given.add(ref)
            with suppress(AskTimeout, NodeGone, NodeUnreachable):  # lost
                await sink.ask(Add(1, reply_to=ref), timeout=1)

    async def register(self) -> None:
        if (ref := self.any()) is not None:
            await self.owner.cluster.register(COUNTER, ref)
            self.given.add(ref)
            self.kept.add(ref)

    async def claim(self) -> None:
        if (ref := self.any()) is not None:
            name = f"name {ref.address.actor_id}"
            with suppress(ActorNameTaken):  # by this very actor
                await self.owner.cluster.claim(name, ref)
            self.given.add(ref)
            self.kept.add(ref)

    async def stop(self) -> None:
        if (ref := self.any()) is not None:
            await self.owner.stop(ref)
            self.ended.add(ref)

    async def cut(self) -> None:
        before = self.owner.cluster.me
        self.network.partition({"a"}, {"b", "c"})
        await anyio.sleep(self.choose.random() * 6)
        self.network.heal()
        await anyio.sleep(4)  # more than a lease: whether it was lost is known now
        await until(lambda: self.owner.cluster._session.joined and self.peer.cluster._session.joined)
        await until(lambda: self.owner.cluster.me in self.peer.cluster.members())
        if self.owner.cluster.me != before:
            await until(
                lambda: all(self.owner.cluster._session.exports.get(n) for n in self.numbers(self.kept))
            )
            self.given = set(self.kept)

    def numbers(self, refs: set[ActorRef[Any, Any]]) -> list[int]:
        return [ref.address.actor_id for ref in refs - self.ended]

    # -- what must be true

    async def check(self) -> None:
        me = self.owner.cluster.me
        for ref in self.refs:
            number = ref.address.actor_id
            expected = self.expected(ref)
            guessed = self.peer.ref_for(f"{me.node}@{me.incarnation}:{number}")
            assert guessed is not None
            assert await self.outcome(guessed) == expected, (number, expected)
        exports = self.owner.cluster._session.exports
        assert len(exports) == len(self.given - self.ended)

    def expected(self, ref: ActorRef[Any, Any]) -> str:
        if ref in self.ended:
            return "stopped"
        return "reply" if ref in self.given else "not_exported"

    async def outcome(self, ref: ActorRef[Any, Any]) -> str:
        for _ in range(50):
            try:
                await ref.ask("get", timeout=0.5)
            except AskTimeout:
                continue  # lost: asked again
            except ActorStopped:
                return "stopped"
            except MessageRejected as error:
                return error.code
            return "reply"
        raise AssertionError("50 asks in a row were lost")

    async def check_watches(self) -> None:
        """Watch every actor from the peer: the reason is true for an actor given out, else unknown."""
        me = self.owner.cluster.me
        expected: list[str] = []
        watchers: list[Watcher] = []
        for ref in self.refs:
            watcher = Watcher()
            guessed = self.peer.ref_for(f"{me.node}@{me.incarnation}:{ref.address.actor_id}")
            await self.peer.spawn(watcher.actor).ask(guessed)
            watchers.append(watcher)
            expected.append("stopped" if ref in self.given - self.ended else "")
        await anyio.sleep(25)  # two lists of watches: also one that was lost has come
        for ref in self.refs:
            if ref not in self.ended:
                await self.owner.stop(ref)
        await until(lambda: all(len(watcher.told) == 1 for watcher in watchers))
        for watcher, reason in zip(watchers, expected, strict=True):
            assert watcher.reasons[0] in ((reason,) if reason else ("unknown", "stopped"))
        await until(lambda: len(self.owner.cluster._session.exports) == 0)


async def _exports(seed: int) -> None:
    network = MemoryNetwork(seed, loss=0.1, delay=(0.0, 0.02))
    async with systems(network, "a", "b", "c", ask_timeout=3.0) as (a, b, _):
        await until(lambda: len(b.cluster.members()) == len(a.cluster.members()) == 3)
        model = Exported(seed, network, a, b)
        for number in range(20):
            await model.step()
            if number % 5 == 4:
                await model.check()
        await model.check_watches()


def test_c14_exports_in_a_few_seeds(backend):
    for seed in range(3):
        run_seeded(seed, _exports, seed, backend=backend)


@pytest.mark.sweep
def test_c14_exports_in_200_seeds():
    for seed in range(SEEDS):
        run_seeded(seed, _exports, seed, backend=loop_of(seed))
