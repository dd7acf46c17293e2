"""A seeded run of a cluster, written down: every frame and every write to the registry, in order.

``python _traced.py LOOP SEED`` prints them. With NOISE in the environment, the process differs in what must
not matter: where objects lie in memory, and when garbage is collected.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
from contextlib import suppress
from typing import Any

import anyio
from _world import COUNTER, Add, Counter, Watcher, systems, until

from papyra import Actor, ActorStopped, ActorSystem, AskTimeout
from papyra.exceptions import ActorNameTaken
from papyra.testing import run_seeded
from papyra_contrib.cluster import ClusterUnavailable, NodeGone, NodeUnreachable, ServiceKey
from papyra_contrib.cluster._memory_hub import Hub
from papyra_contrib.cluster.testing import MemoryNetwork

NAMES = "abcde"
KEYS = [ServiceKey[Any, Any](f"service {number}") for number in range(4)]
TROUBLE = (NodeGone, NodeUnreachable, ActorStopped, ActorNameTaken, AskTimeout, ClusterUnavailable)

lines: list[str] = []


class Listener(Actor):
    """Subscribes to every key, and answers each listing with an ask to all in it."""

    async def receive(self, message: Any) -> None:
        for ref in message.refs:
            self.context.spawn(lambda ref=ref: Caller(ref))


class Caller(Actor):
    """Asks once."""

    def __init__(self, ref: Any) -> None:
        self.ref = ref

    async def on_start(self) -> None:
        with suppress(*TROUBLE):
            await self.ref.ask("get", timeout=2)
        self.context.stop_self()


async def one_node(system: ActorSystem, choose: random.Random) -> None:
    """Offer, claim, apply and subscribe."""
    cluster = system.cluster
    for key in KEYS:
        await cluster.subscribe(key, system.spawn(Listener, mailbox_capacity=None))
        with suppress(*TROUBLE):
            await cluster.register(key, system.spawn(Counter))
    for name in ("x", "y"):
        with suppress(*TROUBLE):
            await cluster.claim(name, system.spawn(Counter))
    for number in range(3):
        await cluster.singleton(f"sole {number}", lambda fence: Fenced(str(fence)))
    watcher = Watcher()
    watching = system.spawn(watcher.actor)
    for ref in cluster.find(COUNTER):
        await watching.ask(ref)
    async with anyio.create_task_group() as group:  # tasks that are cancelled together, at different places
        for number in range(8):
            group.start_soon(tell_on, system, number)
        await anyio.sleep(choose.random() * 3)
        group.cancel_scope.cancel()


async def tell_on(system: ActorSystem, number: int) -> None:
    """Send until the task is cancelled, and once more then."""
    ref = system.cluster.find(COUNTER)[number % 2]
    try:
        while True:
            with anyio.move_on_after(0.5), suppress(*TROUBLE):
                await ref.tell(Add(number))
                await ref.ask("get")
            await anyio.sleep(0.1)
    finally:
        with anyio.CancelScope(shield=True), suppress(*TROUBLE):
            await ref.tell(Add(-number))


class Fenced(Actor):
    """Says its fence."""

    def __init__(self, fence: str) -> None:
        self.fence = fence

    async def receive(self, message: Any) -> str:
        return self.fence


async def main(seed: int) -> None:
    """Run five nodes that use all there is, with a partition, a restart of the registry and ended actors."""
    network = MemoryNetwork(seed, loss=0.1, duplicate=0.1, delay=(0.0, 0.02), lag=0.05)
    choose = random.Random(seed)
    async with systems(network, *NAMES, ask_timeout=3.0) as nodes:
        watched = [nodes[0].spawn(Counter) for _ in range(4)]
        for ref in watched:
            await nodes[0].cluster.register(COUNTER, ref)
        await until(lambda: all(len(system.cluster.find(COUNTER)) == 4 for system in nodes))
        async with anyio.create_task_group() as group:
            for system in nodes:
                group.start_soon(one_node, system, choose)
        for system in nodes:
            with suppress(*TROUBLE):
                await system.cluster.role(ServiceKey("sole 1")).ask("fence", timeout=2)
            with suppress(*TROUBLE):
                await system.cluster.broadcast(KEYS[0], Add(1))
        await nodes[0].stop(watched[0])  # four nodes watch it
        network.partition({"b", "c"}, set(NAMES) - {"b", "c"})
        await anyio.sleep(5)
        network.heal()
        await anyio.sleep(8)
        network.restart(5)
        await anyio.sleep(12)
        await nodes[0].stop(watched[1])
        await anyio.sleep(1)


def record() -> None:
    """Note each frame and each write with its time."""
    carry, announce = Hub.carry, Hub._announce

    def carried(self: Hub, sender: Any, to: Any, frame: bytes, ask: int) -> None:
        lines.append(f"{self.background.time():.9f} {sender} {to} {ask} {frame!r}")
        carry(self, sender, to, frame, ask)

    def announced(self: Hub, change: Any) -> None:
        lines.append(f"{self.background.time():.9f} {type(change).__name__} {change.key} {change.revision}")
        announce(self, change)

    Hub.carry, Hub._announce = carried, announced  # type: ignore[method-assign]


if __name__ == "__main__":
    noise = [bytearray(size) for size in range(3_000)][::3] if "NOISE" in os.environ else []
    gc.set_threshold(200 if noise else 100_000)
    logging.getLogger("papyra").setLevel(logging.CRITICAL)
    record()
    run_seeded(int(sys.argv[2]), main, int(sys.argv[2]), backend=sys.argv[1])  # type: ignore[arg-type]
    print("\n".join(lines))
