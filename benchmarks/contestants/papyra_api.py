"""The rows of an actor runtime, in the words that Papyra and the published package share.

Run by `benchmarks.runner` in the contestant's own environment: ``python papyra_api.py ROW SCALE BACKEND``.
Prints one JSON object: the figures of the row.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from typing import Any

import anyio

from papyra.actor import Actor
from papyra.system import ActorSystem

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Return the resident bytes of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


class Sink(Actor):
    """Counts messages and tells when they are all there."""

    def __init__(self) -> None:
        self.left = 0
        self.done: anyio.Event | None = None

    async def receive(self, message):
        if message.__class__ is tuple:
            self.left, self.done = message
            return
        self.left -= 1
        if self.left == 0:
            self.done.set()
        return


class Echo(Actor):
    """Answers."""

    async def receive(self, message):
        return message


class Player(Actor):
    """Plays ping-pong: ``(peer, rounds, done)`` starts a game."""

    def __init__(self) -> None:
        self.peer = None
        self.left = 0
        self.done = None

    async def receive(self, message):
        if message.__class__ is tuple:
            self.peer, self.left, self.done = message
            return
        if self.left == 0:
            if self.done is not None:
                self.done.set()
            return
        self.left -= 1
        await self.peer.tell(0)
        return


class Started(Actor):
    """Counts its starts."""

    count = 0
    goal = 0
    done: anyio.Event | None = None

    async def on_start(self) -> None:
        Started.count += 1
        if Started.count == Started.goal:
            Started.done.set()

    async def receive(self, message):
        return message


async def tell(n: int) -> dict[str, float]:
    """Send n messages from one sender to one actor."""
    async with ActorSystem() as system:
        ref = system.spawn(Sink)
        done = anyio.Event()
        await ref.tell((n, done))
        began = time.perf_counter()
        for _ in range(n):
            await ref.tell(1)
        await done.wait()
        return {"per_second": n / (time.perf_counter() - began)}


async def ask(n: int) -> dict[str, float]:
    """Ask one actor n times, one after the other."""
    async with ActorSystem() as system:
        ref = system.spawn(Echo)
        await ref.ask(0)
        began = time.perf_counter()
        for i in range(n):
            await ref.ask(i)
        return {"per_second": n / (time.perf_counter() - began)}


async def pingpong(n: int) -> dict[str, float]:
    """Play n round trips between two actors."""
    async with ActorSystem() as system:
        a, b = system.spawn(Player), system.spawn(Player)
        done = anyio.Event()
        await a.tell((b, n, done))
        await b.tell((a, n + 1, None))
        await a.ask(("x",) * 0 or (b, n, done))
        began = time.perf_counter()
        await a.tell(0)
        await done.wait()
        return {"per_second": n / (time.perf_counter() - began)}


class SelfPlayer(Actor):
    """Plays ping-pong, and sends its own reference with each message."""

    def __init__(self) -> None:
        self.left = 0
        self.done = None

    async def receive(self, message):
        if message.__class__ is tuple:
            self.left, self.done = message
            return
        if self.left == 0:
            if self.done is not None:
                self.done.set()
            return
        self.left -= 1
        await message.tell(self.context.self_ref)
        return


async def self_ref(n: int) -> dict[str, float]:
    """Play n round trips; each message is the reference of its sender."""
    async with ActorSystem() as system:
        a, b = system.spawn(SelfPlayer), system.spawn(SelfPlayer)
        done = anyio.Event()
        await a.ask((n, done))
        await b.ask((n + 1, None))
        began = time.perf_counter()
        await a.tell(b)
        await done.wait()
        return {"per_second": n / (time.perf_counter() - began)}


class Asker(Actor):
    """Runs the function that a message is."""

    async def receive(self, message):
        return await message()


async def ask_all(n: int) -> dict[str, float]:
    """Ask 20 actors at once from an actor, n times; compare with a task group."""
    from papyra import ask_all

    async with ActorSystem() as system:
        refs = [system.spawn(Echo) for _ in range(20)]
        asker = system.spawn(Asker)

        async def together() -> float:
            began = time.process_time()
            for i in range(n):
                await ask_all(*(ref.request(i) for ref in refs))
            return time.process_time() - began

        async def in_tasks() -> float:
            began = time.process_time()
            for i in range(n):
                async with anyio.create_task_group() as group:
                    for ref in refs:
                        group.start_soon(ref.ask, i)
            return time.process_time() - began

        await asker.ask(together)
        fast, slow = await asker.ask(together), await asker.ask(in_tasks)
        return {"us_each": fast / n / 20 * 1e6, "times_faster": slow / fast}


async def pool(n: int) -> dict[str, float]:
    """Ask n times through a pool of 8, and directly, in turns."""
    from papyra_contrib.routing import Pool, RoundRobin

    async with ActorSystem() as system:
        direct = system.spawn(Echo)
        through = await Pool.spawn(system, Echo, 8, RoundRobin())

        async def seconds(target: Any) -> float:
            began = time.process_time()
            for i in range(n):
                await target.ask(i)
            return time.process_time() - began

        rounds = [(await seconds(direct), await seconds(through)) for _ in range(9)]
        one, many = (min(each) for each in zip(*rounds, strict=True))
        return {"us": many / n * 1e6, "times_direct": many / one}


async def timers(n: int) -> dict[str, float]:
    """Start and cancel timers while n others live; then cancel those, and note the longest call."""
    async with ActorSystem() as system:
        own = system._core.timers
        live = [own.after(1_000 + (i * 7919 % 1_000_003) * 1e-3, int) for i in range(n)]
        gc.collect()
        gc.freeze()  # the collector's pauses are not the heap's
        began = time.process_time()
        for _ in range(100_000):
            own.after(100.0, int).cancel()
        each = (time.process_time() - began) / 100_000
        worst = 0.0
        for timer in live:
            before = time.thread_time()
            timer.cancel()
            worst = max(worst, time.thread_time() - before)
        return {"us": each * 1e6, "worst_ms": worst * 1e3}


async def portal(n: int) -> dict[str, float]:
    """Tell n messages from 4 threads to one actor, on an idle and on a busy event loop."""
    figures = {}
    async with ActorSystem() as system:
        gate = system.portal()
        for state in ("idle", "busy"):
            ref = system.spawn(Echo)

            def work(ref=ref) -> None:
                for i in range(n // 4):
                    gate.tell(ref, i)

            threads = [threading.Thread(target=work) for _ in range(4)]
            began = time.perf_counter()
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):  # noqa: ASYNC110 - threads end by themselves
                await anyio.sleep(0 if state == "busy" else 0.001)
            figures[f"{state}_us"] = (time.perf_counter() - began) / n * 1e6
    return figures


async def fanin(n: int) -> dict[str, float]:
    """Send n messages from 100 senders to one actor."""
    async with ActorSystem() as system:
        ref = system.spawn(Sink)
        done = anyio.Event()
        share = n // 100
        await ref.tell((share * 100, done))

        async def sender() -> None:
            for _ in range(share):
                await ref.tell(1)

        began = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(sender)
            await done.wait()
        return {"per_second": share * 100 / (time.perf_counter() - began)}


async def fanout(n: int) -> dict[str, float]:
    """Send n messages from one sender to 10,000 actors in turn."""
    count = min(10_000, n)
    async with ActorSystem() as system:
        refs = [system.spawn(Sink) for _ in range(count)]
        rounds = n // count
        events = []
        for ref in refs:
            done = anyio.Event()
            events.append(done)
            await ref.ask((rounds, done))
        began = time.perf_counter()
        for _ in range(rounds):
            for ref in refs:
                await ref.tell(1)
        for done in events:
            await done.wait()
        return {"per_second": rounds * count / (time.perf_counter() - began)}


async def spawn(n: int) -> dict[str, float]:
    """Spawn n actors and wait until all have run on_start."""
    async with ActorSystem() as system:
        Started.count, Started.goal, Started.done = 0, n, anyio.Event()
        began = time.perf_counter()
        for _ in range(n):
            system.spawn(Started)
        await Started.done.wait()
        return {"per_second": n / (time.perf_counter() - began)}


async def memory(n: int) -> dict[str, float]:
    """Weigh n idle actors that have had one message each."""
    async with ActorSystem() as system:
        warm = [system.spawn(Echo) for _ in range(100)]
        for ref in warm:
            await ref.ask(0)
        gc.collect()
        before = resident()
        refs = [system.spawn(Echo) for _ in range(n)]
        for ref in refs:
            await ref.ask(0)
        gc.collect()
        return {"bytes": (resident() - before) / n}


async def leak(n: int) -> dict[str, float]:
    """Weigh what n stopped actors leave behind."""
    async with ActorSystem() as system:

        async def generation(count: int) -> None:
            for _ in range(count // 100):
                refs = [system.spawn(Echo) for _ in range(100)]
                for ref in refs:
                    await ref.ask(0)
                for ref in refs:
                    await system.stop(ref)

        await generation(20_000)  # fills the bounded histories
        gc.collect()
        before = resident()
        await generation(n)
        gc.collect()
        return {"bytes": (resident() - before) / n}


async def million(n: int) -> dict[str, float]:
    """Keep n actors alive, each of which answers one ask."""
    async with ActorSystem() as system:
        began = time.perf_counter()
        refs = [system.spawn(Echo) for _ in range(n)]
        answered = 0
        for ref in refs:
            answered += await ref.ask(1)
        return {
            "answered": answered / n,
            "resident_gb": resident() / 1e9,
            "seconds": time.perf_counter() - began,
        }


async def fairness(n: int) -> dict[str, float]:
    """Measure n asks to a quiet actor while another is flooded."""
    async with ActorSystem() as system:
        flooded, quiet = system.spawn(Echo, mailbox_capacity=None), system.spawn(Echo)
        await quiet.ask(0)
        running = True
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while running:
                await flooded.tell(1)
                sent += 1

        times = []
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(flood)
            for _ in range(n):
                began = time.perf_counter()
                await quiet.ask(1)
                times.append(time.perf_counter() - began)
            running = False
        times.sort()
        return {"p99_ms": times[int(len(times) * 0.99)] * 1e3, "p50_ms": times[len(times) // 2] * 1e3}


if __name__ == "__main__":
    row, scale, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    print(json.dumps(anyio.run(globals()[row], scale, backend=backend)))
