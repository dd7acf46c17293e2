"""The floor of each row: the same work with nothing but the language and the event loop."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque

import anyio
import anyio.lowlevel


async def tell(n: int) -> dict[str, float]:
    """A deque and two coroutine calls a message."""
    queue: deque[int] = deque()

    async def put(message: int) -> None:
        queue.append(message)

    async def receive(message: int) -> None:
        pass

    began = time.perf_counter()
    for start in range(0, n, 1000):
        for i in range(start, start + 1000):
            await put(i)
        while queue:
            await receive(queue.popleft())
        await anyio.lowlevel.checkpoint()
    return {"per_second": n / (time.perf_counter() - began)}


async def ask(n: int) -> dict[str, float]:
    """Two bare futures a question."""
    loop = asyncio.get_running_loop()
    inbox = loop.create_future()
    running = True

    async def answer() -> None:
        nonlocal inbox
        while running:
            message, reply = await inbox
            inbox = loop.create_future()
            reply.set_result(message)

    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        await anyio.lowlevel.checkpoint()
        began = time.perf_counter()
        for i in range(n):
            reply = loop.create_future()
            inbox.set_result((i, reply))
            await reply
        elapsed = time.perf_counter() - began
        running = False
        group.cancel_scope.cancel()
    return {"per_second": n / elapsed}


async def spawn(n: int) -> dict[str, float]:
    """A bare task each."""
    count = 0
    done = asyncio.Event()

    async def start() -> None:
        nonlocal count
        count += 1
        if count == n:
            done.set()

    tasks = set()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(n):
        tasks.add(loop.create_task(start()))
    await done.wait()
    return {"per_second": n / (time.perf_counter() - began)}


if __name__ == "__main__":
    row, scale = sys.argv[1], int(sys.argv[2])
    print(json.dumps(asyncio.run(globals()[row](scale))))
