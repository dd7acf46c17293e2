"""The rows of a system that is watched: ``python instrumented.py ROW SCALE BACKEND`` prints the row's figures
as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
from papyra_api import Echo, Player
from prometheus_client import CollectorRegistry, generate_latest

from papyra.actor import Actor
from papyra.system import ActorSystem
from papyra_cli._live.client import LiveSystem
from papyra_contrib.admin import AdminSocket, _server
from papyra_contrib.otel import PapyraTracing
from papyra_contrib.prometheus import PapyraCollector, PapyraTimings, metrics_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from papyra import ActorRef
    from papyra.instruments import Instrument

ROUNDS = 11
PAIRS = 41
HOSTILE_CLIENTS = Path(__file__).parents[2] / "tests" / "watch" / "_hostile_clients.py"


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


async def _kept(instrument: Instrument, rows: Mapping[str, int]) -> dict[str, float]:
    """Return how much of their speed the rows keep with an instrument: the median of pairs of short runs.

    Other programs slow both runs of a pair alike. The best of all runs would be that of one quiet moment.
    """
    seconds = {"tell": tell_seconds, "pingpong": pingpong_seconds, "ask": ask_seconds}
    kept = {}
    for name, operations in rows.items():
        ratios = []
        for number in range(PAIRS + 1):
            pair = {}
            for on in (False, True) if number % 2 else (True, False):
                pair[on] = await seconds[name]((instrument,) if on else (), max(operations // 4, 1))
            ratios.append(pair[False] / pair[True])
        kept[name] = statistics.median(ratios[1:])  # the first is warm-up
    return kept


async def instruments(n: int) -> dict[str, float]:
    """Measure how much of their speed tell, ping-pong and ask keep with timings on."""
    kept = await _kept(PapyraTimings(), {"tell": n, "pingpong": n // 4, "ask": n // 10})
    return {"kept": min(kept.values()), **kept}


async def traces(n: int) -> dict[str, float]:
    """Measure how much of their speed tell and ask keep while traced, outside of a trace, without an SDK."""
    every = await _kept(PapyraTracing(), {"tell": n, "ask": n // 10})
    asks = await _kept(PapyraTracing(tells=False), {"tell": n})
    return {**every, "tell_untraced": asks["tell"]}


async def top(n: int) -> dict[str, float]:
    """Measure a refresh of ``papyra top`` for n actors: ms for the client, and of the loop."""
    folder = tempfile.mkdtemp()
    os.environ["PAPYRA_RUNTIME_DIR"] = folder
    socket = AdminSocket()
    try:
        async with ActorSystem(instruments=[socket]) as system:
            kinds = [type(f"Echo{number}", (Echo,), {}) for number in range(20)]
            for number in range(n):
                ref = system.spawn(kinds[number % 20])
            await ref.ask(0)
            while socket.path is None:  # noqa: ASYNC110 - nothing announces that it listens
                await anyio.sleep(0.01)
            client = await anyio.to_thread.run_sync(LiveSystem, socket.path)
            refreshes, loop = [], []
            for _ in range(ROUNDS):
                await anyio.sleep(0.3)  # a walk serves everybody for 0.25 s
                began = time.thread_time()
                refreshes.append(await anyio.to_thread.run_sync(_refresh, client))
                loop.append(time.thread_time() - began)
            client.close()
            return {"ms": min(refreshes) * 1e3, "loop_ms": min(loop) * 1e3}
    finally:
        shutil.rmtree(folder)


def _refresh(client: LiveSystem) -> float:
    began = time.perf_counter()
    client.ask("overview")
    client.ask("top", by="mailbox", limit=40)
    return time.perf_counter() - began


ATTENTIVE_CLIENT = """
import json, select, sys, time
from pathlib import Path
from papyra_cli._live.client import LiveSystem
client, took = LiveSystem(Path(sys.argv[1])), []
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 1.0)[0]:
    began = time.monotonic()
    client.ask("overview")
    took.append((began, time.monotonic() - began))
print(json.dumps(took))
"""


DECOY = """
import anyio
from papyra.system import ActorSystem
from papyra_contrib.admin import AdminSocket
async def main():
    socket = AdminSocket()
    async with ActorSystem(instruments=[socket]):
        while socket.path is None:
            await anyio.sleep(0.01)
        print(socket.path, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


async def admin_hostile(n: int) -> dict[str, float]:
    """Measure n tells while 100 hostile clients are at the admin socket, and while they are at another's.

    They take turns. Measure also how long a client that was there before waits for its answers meanwhile.
    """
    folder = tempfile.mkdtemp()
    os.environ["PAPYRA_RUNTIME_DIR"] = folder
    _server.CLIENTS_BURST_SECONDS = _server.ACCEPT_BURST_SECONDS = 0.02  # as if the attack were a long one
    socket = AdminSocket()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    try:
        async with ActorSystem(instruments=[socket]) as system:
            for _ in range(1_000):
                system.spawn(Echo)
            ref = system.spawn(Echo, mailbox_capacity=None)
            while socket.path is None:  # noqa: ASYNC110 - nothing announces that it listens
                await anyio.sleep(0.01)
            with ExitStack() as stack:

                async def start(*arguments: object) -> tuple[subprocess.Popen[str], str]:
                    command = [sys.executable, *arguments]
                    process = stack.enter_context(subprocess.Popen(command, **pipes))  # noqa: ASYNC220 - it starts at once
                    stack.callback(process.kill)
                    return process, await anyio.to_thread.run_sync(process.stdout.readline)

                attentive, _ = await start("-c", ATTENTIVE_CLIENT, socket.path)
                _, decoy = await start("-c", DECOY)
                ours, _ = await start(HOSTILE_CLIENTS, socket.path)
                others, _ = await start(HOSTILE_CLIENTS, decoy.strip())
                ratios, attacks = [], []
                for number in range(ROUNDS):
                    seconds = {}
                    for attacked in (False, True) if number % 2 else (True, False):
                        (others if attacked else ours).send_signal(signal.SIGSTOP)
                        (ours if attacked else others).send_signal(signal.SIGCONT)
                        await _tell(ref, n // 4)  # what is under way ends
                        began = time.monotonic()
                        seconds[attacked] = await _tell(ref, n)
                        if attacked:
                            if number == ROUNDS - 1:
                                await anyio.sleep(
                                    1.5
                                )  # however few tells: the other client asks every second
                            attacks.append((began, time.monotonic()))
                    ratios.append(seconds[False] / seconds[True])
                took, _ = await anyio.to_thread.run_sync(attentive.communicate, "enough")
        waits = [
            wait for began, wait in json.loads(took) if any(first <= began < last for first, last in attacks)
        ]
        kept = statistics.median(ratios[2:])  # in the first rounds the clients use up what they may at once
        return {"kept": kept, "worst_ms": max(waits) * 1e3, "median_ms": statistics.median(waits) * 1e3}
    finally:
        shutil.rmtree(folder)


async def _tell(ref: ActorRef, n: int) -> float:
    """Return the processor seconds of n tells, and of all that the process does meanwhile."""
    began = time.process_time()
    for _ in range(n):
        await ref.tell(1)
    await ref.ask(0)
    return time.process_time() - began


async def scrape(n: int) -> dict[str, float]:
    """Measure a scrape of n actors of 20 types, and of ten times as many."""
    async with ActorSystem(instruments=[PapyraTimings()]) as system:
        kinds = [type(f"Echo{number}", (Echo,), {}) for number in range(20)]
        refs = [system.spawn(kinds[number % 20]) for number in range(n)]
        for ref in refs[:20]:
            await ref.ask(0)
        registry = CollectorRegistry()
        registry.register(PapyraCollector(system))

        def scrapes() -> tuple[float, bytes]:
            times = []
            for _ in range(ROUNDS):
                began = time.process_time()
                text = generate_latest(registry)
                times.append(time.process_time() - began)
            return min(times) * 1e3, text

        ms, text = scrapes()
        app = metrics_app(system)
        await _longest_turn(app)  # the first look at a type makes its histograms
        turns = [await _longest_turn(app) for _ in range(ROUNDS)]
        for number in range(9 * n):
            system.spawn(kinds[number % 20])
        await system.refs_by_type(kinds[-1])[-1].ask(0)
        return {"ms": ms, "large_ms": scrapes()[0], "loop_ms": min(turns) * 1e3, "kilobytes": len(text) / 1e3}


async def _longest_turn(app: Callable[..., Awaitable[None]]) -> float:
    """Return the longest processor time between two turns of the event loop, while an application answers."""
    scope = {"type": "http", "method": "GET", "headers": []}
    turns, done = [], False

    async def send(message: Mapping[str, object]) -> None:
        pass

    async def watch() -> None:
        last = time.thread_time()
        while not done:
            await anyio.lowlevel.checkpoint()
            now = time.thread_time()
            turns.append(now - last)
            last = now

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.lowlevel.checkpoint()
        await app(scope, None, send)
        done = True
    return max(turns)


async def list_actors(n: int) -> dict[str, float]:
    """Measure a list of n actors, a tenth of them busy."""

    class Waiting(Actor):
        async def receive(self, message: object) -> None:
            await anyio.sleep_forever()

    async with ActorSystem(shutdown_timeout=0.1) as system:
        for number in range(n):
            if number % 10:
                system.spawn(Echo)
            else:
                await system.spawn(Waiting).tell(0)
        await anyio.wait_all_tasks_blocked()
        assert len(system.busy()) == n // 10
        times = []
        for _ in range(ROUNDS):
            began = time.process_time()
            assert len(system.list_actors()) == n
            times.append(time.process_time() - began)
    return {"ms": min(times) * 1e3}


if __name__ == "__main__":
    row, scale, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    print(json.dumps(anyio.run(globals()[row], scale, backend=backend)))
