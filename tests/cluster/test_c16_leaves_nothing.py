"""Promise 16 on NATS: leaving leaves no thread, task, socket or lease, also when the host or all tasks are
cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from _world import COUNTER, Counter, until

from papyra import ActorSystem
from papyra_contrib.cluster import Cluster, ClusterUnavailable, NodeId, NodeNameTaken, Synced, TransportError
from papyra_contrib.cluster._registry_view import open_view
from papyra_contrib.cluster._transport import no_answer
from papyra_contrib.cluster.nats import NatsTransport
from papyra_contrib.cluster.nats._keeper import Keeper
from papyra_contrib.cluster.nats._loop_bridge import LoopBridge
from papyra_contrib.cluster.testing._conformance.base import RecordingHost

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


@asynccontextmanager
async def opened(url: str):
    transport, host = NatsTransport.from_url(url), RecordingHost()
    await transport.open(NodeId("a", "0" * 12), host)
    try:
        yield transport, host
    finally:
        await transport.aclose()


async def test_c16_a_transport_that_is_not_open_any_more_or_yet_answers_no_request(url):
    transport = NatsTransport.from_url(url)
    with pytest.raises(ClusterUnavailable, match="the connection to the NATS server is not open"):
        await transport.get("a.boss")
    assert (transport.reconnects, transport.last_error) == (0, None)
    async with opened(url) as (transport, _):
        assert await transport.get("a.boss") is None
    with pytest.raises(TransportError, match="the connection to the registry is closed"):
        await transport.get("a.boss")


async def test_c16_a_request_that_is_under_way_ends_with_the_connection(url):
    asked = threading.Event()

    async def no_get(key: str) -> None:
        asked.set()
        await asyncio.sleep(1000)

    async with opened(url) as (transport, _), anyio.create_task_group() as group:
        transport._keeper.bucket.get = no_get

        async def get() -> None:
            with pytest.raises(TransportError, match="the connection to the registry was closed meanwhile"):
                await transport.get("a.boss")

        group.start_soon(get)
        await until(asked.is_set)
        await transport.aclose()


def test_c16_a_request_just_when_the_thread_ends_is_an_error_and_stopping_it_is_none():
    def call_soon_threadsafe(_: object) -> None:
        raise RuntimeError("the loop is closed")

    keeper = Keeper(SimpleNamespace(node=NodeId("a", "0" * 12)))
    outcomes: list[tuple[object, object]] = []
    keeper.run(None, lambda value, error: outcomes.append((value, str(error))))  # it has no loop yet
    keeper._loop = SimpleNamespace(is_closed=lambda: False, call_soon_threadsafe=call_soon_threadsafe)
    keeper.run(None, lambda value, error: outcomes.append((value, str(error))))
    assert outcomes == [(None, "the connection to the registry is closed")] * 2
    assert keeper.stop() is None


async def test_c16_a_thread_that_fails_is_logged_and_its_lease_is_lost(url, monkeypatch, caplog):
    async def fails(_: Keeper) -> None:
        raise OSError("out of luck")

    monkeypatch.setattr(Keeper, "_tick_until_stopped", fails)
    async with opened(url) as (_, host):
        await until(lambda: host.lost)
        assert host.lost == ["its keeper failed"]
    assert "the keeper of node a@000000000000 failed" in caplog.text
    assert "out of luck" in caplog.text


async def test_c16_a_lease_that_cannot_be_ended_keeps_nobody_from_leaving(url, caplog):
    async def fails() -> None:
        raise no_answer("ending", "n.a")

    async with opened(url) as (transport, _):
        await transport.hold("n.a", b"1", 60)
        transport._keeper._lease.release = fails
        caplog.set_level(logging.DEBUG, "papyra")
    assert not threads()
    assert "leaving the registry failed: the registry did not answer: ending 'n.a'" in caplog.text


async def test_c09_when_the_connection_is_back_the_lease_is_renewed_and_the_registry_read_again(url):
    async with opened(url) as (transport, host):
        lease = await transport.hold("n.a", b"1", 60)
        await until(lambda: host.is_synced)
        host.changes.clear()
        hurried: list[bool] = []
        lease.hurry = lambda: hurried.append(lease.valid())
        await transport._in_keeper(transport._keeper._on_reconnected)  # as its connection calls it
        assert transport.reconnects == 1
        await until(lambda: Synced() in host.changes)
        assert (hurried, host.lost) == ([True], [])


def test_c16_a_call_into_an_event_loop_that_has_ended_is_an_error(backend):
    async def make() -> LoopBridge:
        return LoopBridge()

    bridge = anyio.run(make, backend=backend)
    with pytest.raises(RuntimeError, match=r"(?i)event loop (has ended|is closed)"):
        bridge.call(lambda: None)
