"""The rows of a system that is watched: ``python instrumented.py ROW SCALE BACKEND`` prints the row's figures
as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import anyio
from papyra_api import Echo, Player
from prometheus_client import CollectorRegistry, generate_latest

from papyra.system import ActorSystem
from papyra_contrib.prometheus import PapyraCollector, PapyraTimings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.instruments import Instrument

ROUNDS = 11


async def tell_seconds(instruments: Sequence[Instrument], n: int) -> float:
    """Return the processor seconds of n tells to one actor."""
    async with ActorSystem(instruments=instruments) as system:
        ref = system.spawn(Echo, mailbox_capacity=None)
        await ref.ask(0)
        began = time.process_time()
        for _ in range(n):
            await ref.tell(1)
        await ref.ask(0)
        return time.process_time() - began


async def ask_seconds(instruments: Sequence[Instrument], n: int) -> float:
    """Return the processor seconds of n asks."""
    async with ActorSystem(instruments=instruments) as system:
        ref = system.spawn(Echo)
        await ref.ask(0)
        began = time.process_time()
        for i in range(n):
            await ref.ask(i)
        return time.process_time() - began


async def pingpong_seconds(instruments: Sequence[Instrument], n: int) -> float:
    """Return the processor seconds of n round trips."""
    async with ActorSystem(instruments=instruments) as system:
        a, b = system.spawn(Player), system.spawn(Player)
        done = anyio.Event()
        await b.ask((a, n + 1, None))
        await a.ask((b, n, done))
        began = time.process_time()
        await a.tell(0)
        await done.wait()
        return time.process_time() - began


async def instruments(n: int) -> dict[str, float]:
    """Measure how much of their speed tell, ping-pong and ask keep with timings on: the best of interleaved
    runs.
    """
    rows = {"tell": (tell_seconds, n), "pingpong": (pingpong_seconds, n // 4), "ask": (ask_seconds, n // 10)}
    kept = {}
    for name, (seconds, operations) in rows.items():
        off, on = [], []
        for _ in range(ROUNDS):
            off.append(await seconds((), max(operations, 1)))
            on.append(await seconds((PapyraTimings(),), max(operations, 1)))
        kept[name] = min(off) / min(on)  # other programs only ever make a run slower
    return {"kept": min(kept.values()), **kept}


async def scrape(n: int) -> dict[str, float]:
    """Measure a scrape of n actors of 20 types."""
    async with ActorSystem(instruments=[PapyraTimings()]) as system:
        kinds = [type(f"Echo{number}", (Echo,), {}) for number in range(20)]
        refs = [system.spawn(kinds[number % 20]) for number in range(n)]
        for ref in refs[:20]:
            await ref.ask(0)
        registry = CollectorRegistry()
        registry.register(PapyraCollector(system))
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            text = generate_latest(registry)
            times.append(time.perf_counter() - began)
        return {"ms": min(times) * 1e3, "kilobytes": len(text) / 1e3}


if __name__ == "__main__":
    row, scale, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    print(json.dumps(anyio.run(globals()[row], scale, backend=backend)))
