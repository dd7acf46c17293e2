"""A running system records facts while its server dies, comes back, and loses answers: R8 and R9.

The sweep has 20,000 facts; ``PAPYRA_SWEEP_FACTS=100000 PAPYRA_SWEEP_TIMES=5`` make it five times 100,000.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import pytest

from papyra import Actor, ActorSystem
from papyra.exceptions import PersistenceError
from papyra.persistence import PersistenceBackend
from papyra.persistence.models import PersistedEvent

from ._swallowing_proxy import SwallowingProxy

SWEEP_FACTS = int(os.environ.get("PAPYRA_SWEEP_FACTS", "20000"))
SWEEP_TIMES = range(int(os.environ.get("PAPYRA_SWEEP_TIMES", "1")))

TICK_SECONDS = 0.005
MAX_HELD_SECONDS = 0.05  # of processor time, without the collector's


class Server(Protocol):
    def kill(self) -> None: ...
    def start(self) -> None: ...


class Quick(Actor):
    async def receive(self, message: object) -> None: ...


@dataclass
class Held:
    """Seconds that the loop was held at most.

    On the clock, without the wait for a processor; in its processor time, without the collector of garbage;
    and by the collector, which looks at each fact that waits in the buffer.
    """

    clock: float = 0.0
    processor: float = 0.0
    collector: float = 0.0


class Collections:
    """Processor time that collections of garbage took in this thread."""

    def __init__(self) -> None:
        self.seconds = self._began = 0.0
        self._thread = threading.get_ident()

    def note(self, phase: str, info: object) -> None:
        if threading.get_ident() == self._thread:
            if phase == "start":
                self._began = time.thread_time()
            else:
                self.seconds += time.thread_time() - self._began


def _waited() -> float:
    """Return how long this thread was ready to run and had no processor; 0 where the system does not tell."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


@asynccontextmanager
async def watching_the_loop() -> AsyncGenerator[Held]:
    held, collections = Held(), Collections()

    async def tick() -> None:
        while True:
            clock, waited = time.perf_counter(), _waited()
            processor, collected = time.thread_time(), collections.seconds
            await anyio.sleep(TICK_SECONDS)
            collected = collections.seconds - collected
            held.clock = max(held.clock, time.perf_counter() - clock - TICK_SECONDS - (_waited() - waited))
            held.processor = max(held.processor, time.thread_time() - processor - collected - TICK_SECONDS)
            held.collector = max(held.collector, collected)

    gc.collect()  # what other tests have left is not ours
    gc.callbacks.append(collections.note)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            yield held
            group.cancel_scope.cancel()
    finally:
        gc.callbacks.remove(collections.note)


async def record_over_outages(
    backend: PersistenceBackend, server: Server, proxy: SwallowingProxy, facts: int
) -> list[tuple[str, str]]:
    """Return the starts and stops in the order in which they happened; each life of an actor is two facts.

    Other processes hold a loop too, so what is asserted is the processor time that its thread took at once.
    """
    addresses: list[str] = []  # texts: a collection of garbage has less to look at than with pairs
    lives = facts // 2
    began = time.perf_counter()
    async with (
        watching_the_loop() as held,
        ActorSystem(persistence=backend, shutdown_timeout=120.0) as system,
    ):
        for number in range(lives):
            ref = system.spawn(Quick)
            await ref.ask("done")
            await system.stop(ref)
            addresses.append(str(ref.address))
            if number % (lives // 10) == 1:
                proxy.swallow_next()
            if number in (lives * 2 // 10, lives * 6 // 10):
                await anyio.to_thread.run_sync(server.kill)
            elif number in (lives * 4 // 10, lives * 8 // 10):
                await anyio.to_thread.run_sync(server.start)
    assert backend.metrics.records_dropped == 0
    assert proxy.swallowed
    print(
        f"{backend.name}: {facts} facts in {time.perf_counter() - began:.1f} s, {backend.metrics.write_errors} failed batches, "
        f"{proxy.swallowed} answers lost; loop held for at most {held.clock * 1e3:.0f} ms, "
        f"{held.processor * 1e3:.0f} ms of processor time, and {held.collector * 1e3:.0f} ms by the collector"
    )
    assert held.processor < MAX_HELD_SECONDS
    return [(one, kind) for one in addresses for kind in ("ActorStarted", "ActorStopped")]


def event(number: int, run: str = "run") -> PersistedEvent:
    return PersistedEvent("shop", "shop:1", "ActorStarted", {"n": number}, float(number), run)


async def store(backend: PersistenceBackend, records: list[PersistedEvent], batch_id: str) -> None:
    """Offer a batch again until it is stored, as a system does."""
    with anyio.fail_after(60):
        while True:
            try:
                return await backend.record_batch(records, batch_id=batch_id)
            except PersistenceError as error:
                if not error.retry:
                    raise
                await anyio.sleep(0.1)


async def check_a_lost_answer(backend: PersistenceBackend, proxy: SwallowingProxy) -> None:
    """Store a batch once, though the answer to it is lost and it is offered again."""
    proxy.swallow_next()
    with pytest.raises(PersistenceError) as raised:
        await backend.record_batch([event(1), event(2)], batch_id="run:1")
    assert raised.value.retry is True
    assert proxy.swallowed == 1
    await backend.record_batch([event(1), event(2)], batch_id="run:1")
    await backend.record_batch([event(3)], batch_id="run:2")


async def check_a_follower_over_a_restart(backend: PersistenceBackend, own_server: Server) -> None:
    """Follow a store whose server dies and comes back."""
    await backend.record_batch([event(1), event(2)])
    seen: list[int] = []
    async with aclosing(backend.follow(limit=1)) as records:
        async for record in records:
            seen.append(record.payload["n"])
            if seen == [2]:
                await backend.record_event(event(3))
            elif seen == [2, 3]:
                await anyio.to_thread.run_sync(own_server.kill)
                await anyio.to_thread.run_sync(own_server.start)
                await store(backend, [event(4), event(5)], "run:4")
            elif len(seen) == 4:
                break
    assert seen == [2, 3, 4, 5]
