"""Promise 16 on NATS: leaving leaves no thread, task, socket or lease, also when the host or all tasks are
cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from pathlib import Path

import anyio
import pytest
from _world import COUNTER, Counter, until

from papyra import ActorSystem
from papyra_contrib.cluster import Cluster, ClusterUnavailable, NodeNameTaken
from papyra_contrib.cluster._registry_view import open_view

numbers = itertools.count(1)


@pytest.fixture
def url(nats_server):
    return nats_server.url(f"leaving{next(numbers)}")


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("papyra")}


def sockets() -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found += str(link.readlink()).startswith("socket:")
    return found


async def left_behind(url: str, before: int) -> None:
    await until(lambda: not threads())
    await until(lambda: sockets() <= before)
    async with open_view(url) as view:
        assert view.nodes() == []
        assert view.services() == []


async def test_c16_a_normal_end(url):
    before = sockets()
    async with ActorSystem(system_id="a", cluster=url) as a:
        await a.cluster.register(COUNTER, a.spawn(Counter))
        assert threads()
    await left_behind(url, before)


async def test_c16_a_cancelled_host(url):
    before = sockets()
    with anyio.CancelScope() as scope:
        async with ActorSystem(system_id="a", cluster=url) as a:
            await a.cluster.register(COUNTER, a.spawn(Counter))
            scope.cancel()
            await anyio.sleep(10)
    await left_behind(url, before)


async def test_c16_a_start_that_fails_leaves_nothing(url):
    before = sockets()
    async with ActorSystem(system_id="a", cluster=url):
        second = ActorSystem(system_id="a", cluster=Cluster(url, join_timeout=5.0))
        with pytest.raises(NodeNameTaken, match="another system_id"):
            await second.start()
        await second.aclose()
        assert len(threads()) == 1
    await left_behind(url, before)


async def test_c16_no_server(world):
    from _processes import free_port

    port = free_port()
    system = ActorSystem(system_id="a", cluster=Cluster(f"nats://127.0.0.1:{port}/shop", join_timeout=1.0))
    with pytest.raises(ClusterUnavailable, match=f"find out whether its server runs at 127.0.0.1:{port}"):
        await system.start()
    await system.aclose()
    await until(lambda: not threads())


def test_c16_all_tasks_are_cancelled(url):
    async def main() -> None:
        async with ActorSystem(system_id="a", cluster=url) as a:
            await a.cluster.register(COUNTER, a.spawn(Counter))
            me = asyncio.current_task()
            for task in asyncio.all_tasks():
                if task is not me:
                    task.cancel()
            await asyncio.sleep(0.2)
            assert await a.spawn(Counter).ask("get", timeout=5) == 0

    asyncio.run(main())
    assert threads() == set()


# uvloop warns of the connection that is left open; as an error that would keep the loop from closing.
@pytest.mark.filterwarnings("ignore:unclosed resource:ResourceWarning")
def test_c16_a_program_that_ends_without_closing(url):
    async def main() -> None:
        system = ActorSystem(system_id="a", cluster=url)
        await system.start()

    anyio.run(main)

    async def look() -> None:
        await until(lambda: not threads())

    anyio.run(look)
