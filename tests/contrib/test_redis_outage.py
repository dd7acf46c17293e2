"""R8 to R11, R23, R32: Redis in trouble, with real servers that die, are demoted, or lose their answers."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from papyra import ActorSystem
from papyra.exceptions import PersistenceError
from papyra.persistence import open_backend

redis = pytest.importorskip("redis", reason="the library redis is not installed; the extra redis brings it")

from papyra_contrib.redis import RedisPersistence, _batches, _follower  # noqa: E402 - only where the library is

from ._outage import (  # noqa: E402 - as above
    SWEEP_FACTS,
    SWEEP_TIMES,
    Quick,
    check_a_follower_over_a_restart,
    check_a_lost_answer,
    event,
    record_over_outages,
)
from ._swallowing_proxy import SwallowingProxy  # noqa: E402 - as above

SAFE = ("--appendonly", "yes", "--appendfsync", "always")


def client(server):
    return redis.Redis(unix_socket_path=str(server.socket))


def numbers(server, stream: str) -> list[int]:
    with client(server) as raw:
        return [json.loads(fields[b"payload"])["n"] for _, fields in raw.xrange(stream)]


def open_store(server, stream: str, **options) -> RedisPersistence:
    return RedisPersistence(f"unix://{server.socket}", stream=stream, **options)


@pytest.fixture
def own_server(own_redis_server):
    return own_redis_server(*SAFE)


@pytest.fixture
def proxy(own_server):
    with tempfile.TemporaryDirectory(prefix="papyra-") as folder:
        made = SwallowingProxy(Path(folder, "redis.sock"), own_server.socket, b"XADD")
        made.url = f"unix://{folder}/redis.sock"
        yield made
        made.close()


# -- R9: an answer that is lost makes no double and loses nothing


async def test_r09_a_batch_is_stored_once_when_its_answer_is_lost(own_server, proxy, stream):
    async with aclosing(RedisPersistence(proxy.url, stream=stream)) as backend:
        await check_a_lost_answer(backend, proxy)
        assert numbers(own_server, stream) == [1, 2, 3]
        assert backend.metrics.records_written >= 3


async def test_r09_the_ids_of_old_runs_are_forgotten_and_those_of_others_kept(
    redis_server, stream, monkeypatch
):
    async with aclosing(open_store(redis_server, stream)) as backend:
        await backend.record_batch([event(1, "one")], batch_id="one:1")
        await backend.compact()
        with client(redis_server) as raw:
            assert list(raw.hgetall(_batches.batches_key(stream))) == [b"one"]
            raw.hset(_batches.batches_key(stream), "old", "1000 old:7")
            await backend.compact()
            assert list(raw.hgetall(_batches.batches_key(stream))) == [b"one"]
        await backend.record_batch([event(1, "one")], batch_id="one:1")
        assert numbers(redis_server, stream) == [1]


async def facts_over_outages(server, proxy: SwallowingProxy, stream: str, facts: int) -> None:
    expected = await record_over_outages(RedisPersistence(proxy.url, stream=stream), server, proxy, facts)
    with client(server) as raw:
        found = [(fields[b"actor"].decode(), fields[b"type"].decode()) for _, fields in raw.xrange(stream)]
    rows = [one for one in found if one[1] in ("ActorStarted", "ActorStopped")]
    assert len(rows) == len(set(rows)) == facts
    assert rows == expected


async def test_r09_no_fact_is_lost_or_doubled_over_outages(own_server, proxy, stream):
    await facts_over_outages(own_server, proxy, stream, 1000)


@pytest.mark.sweep
@pytest.mark.parametrize("time", SWEEP_TIMES)
async def test_r09_no_fact_of_many_is_lost_or_doubled(own_server, proxy, stream, time):
    await facts_over_outages(own_server, proxy, stream, SWEEP_FACTS)


# -- R9, R23: which errors let the system offer a batch again


async def test_r09_a_batch_that_can_never_be_stored_is_not_offered_again(redis_server, stream):
    with client(redis_server) as raw:
        raw.set(stream, "of another program")
        raw.set(f"{stream}:other:batches", "of another program")
    for name in (stream, f"{stream}:other"):
        async with aclosing(open_store(redis_server, name)) as backend:
            with pytest.raises(PersistenceError, match="name a stream of its own") as raised:
                await backend.record_batch([event(1)], batch_id="run:1")
            assert raised.value.retry is False


async def test_r09_a_full_server_takes_the_batch_later(own_redis_server, stream):
    server = own_redis_server()
    async with aclosing(open_store(server, stream)) as backend:
        with client(server) as raw:
            raw.config_set("maxmemory", "1")
            for call in (lambda: backend.record_batch([event(1)], batch_id="run:1"), backend.ping):
                with pytest.raises(PersistenceError, match="memory is full") as raised:
                    await call()
                assert raised.value.retry is True
            raw.config_set("maxmemory", "0")
        await backend.record_batch([event(1)], batch_id="run:1")
    assert numbers(server, stream) == [1]


def test_r23_errors_of_a_server_that_loads_or_is_busy_let_a_batch_be_offered_again(redis_server):
    """Such servers are hard to arrange, so the errors are those that the library makes of their replies."""
    parser = redis.connection.DefaultParser(65536)
    server = RedisPersistence(f"unix://{redis_server.socket}")._server
    for reply, retry, hint in (
        ("LOADING Redis is loading the dataset in memory", True, "reads its data"),
        ("READONLY You can't write against a read only replica.", True, "address of its master"),
        ("MASTERDOWN Link with MASTER is down", True, "address of its master"),
        ("MISCONF Redis is configured to save RDB snapshots", True, "can't save"),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", True, "become a replica"),
        ("BUSY Redis is busy running a script.", True, "script"),
        ("NOREPLICAS Not enough good replicas to write.", True, "replicas"),
        ("MOVED 3999 127.0.0.1:6381", False, "cluster"),
        ("CROSSSLOT Keys in request don't hash to the same slot", False, "cluster"),
        ("NOPERM this user has no permissions", False, "user and password"),
        ("WRONGPASS invalid username-password pair", False, "user and password"),
        ("ERR unknown command 'XADD'", False, "6.2 or newer"),
    ):
        with pytest.raises(PersistenceError, match=hint) as raised, server._explained():
            raise parser.parse_error(reply)
        assert raised.value.retry is retry, reply


# -- R11: ping


async def test_r11_ping_proves_that_a_record_could_be_written_and_leaves_nothing(own_server, stream):
    async with aclosing(open_store(own_server, stream)) as backend:
        await backend.ping()
        with client(own_server) as raw:
            assert raw.keys() == []
            raw.set(stream, "of another program")
        with pytest.raises(PersistenceError, match="stream="):
            await backend.ping()
        own_server.kill()
        with pytest.raises(PersistenceError, match="server runs there") as raised:
            await backend.ping()
        assert raised.value.retry is True
        assert not backend.healthy
        own_server.start()
        with client(own_server) as raw:
            raw.delete(stream)
        await backend.ping()
        assert backend.healthy


# -- R23: restarts, failovers, and servers that can't keep a store


async def test_r23_a_follower_outlives_a_restart_of_the_server(own_server, stream):
    async with aclosing(open_store(own_server, stream)) as backend:
        await check_a_follower_over_a_restart(backend, own_server)


async def test_r23_a_batch_and_a_follower_outlive_a_server_that_loads_its_data(own_redis_server, stream):
    """Loading 4,000 commands takes two seconds, because the server waits half a millisecond after each."""
    server = own_redis_server(*SAFE, "--key-load-delay", "500")
    with client(server) as raw:
        pipeline = raw.pipeline(transaction=False)
        for _ in range(4000):
            pipeline.incr("of another program")
        pipeline.execute()
    refused: list[PersistenceError] = []

    async def offer_while_it_loads(backend: RedisPersistence) -> None:
        while True:
            try:
                return await backend.record_batch([event(2)], batch_id="run:2")
            except PersistenceError as error:
                refused.append(error)
                await anyio.sleep(0.02)

    async with aclosing(open_store(server, stream)) as backend, aclosing(backend.follow(limit=1)) as records:
        await backend.record_batch([event(1)], batch_id="run:1")
        assert (await anext(records)).payload["n"] == 1
        await anyio.to_thread.run_sync(server.kill)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(offer_while_it_loads, backend)
                group.start_soon(anyio.to_thread.run_sync, server.start)
                assert (await anext(records)).payload["n"] == 2
    assert all(error.retry is True for error in refused)
    assert any("reads its data" in str(error) for error in refused)
    assert numbers(server, stream) == [1, 2]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for_replica(server) -> None:
    deadline = time.monotonic() + 60
    with client(server) as raw:
        while raw.info("replication").get("master_link_status") != "up":
            assert time.monotonic() < deadline
            time.sleep(0.02)


def redirect(address: Path, server) -> None:
    """Let an address lead to another server, as a name does after a failover."""
    address.unlink(missing_ok=True)
    address.symlink_to(server.socket)


async def test_r23_writes_and_followers_find_the_new_master_after_a_failover(
    own_redis_server, stream, tmp_path
):
    """Connections to the old master stay open, and it refuses writes."""
    port = free_port()
    old = own_redis_server("--port", str(port), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
    new = own_redis_server("--replicaof", f"127.0.0.1 {port}")
    await anyio.to_thread.run_sync(wait_for_replica, new)
    with tempfile.TemporaryDirectory(prefix="papyra-") as folder:
        address = Path(folder, "master.sock")
        redirect(address, old)
        async with aclosing(RedisPersistence(f"unix://{address}", stream=stream)) as backend:
            await backend.record_batch([event(1), event(2)], batch_id="run:1")
            seen: list[int] = []
            async with aclosing(backend.follow(limit=2)) as records:
                async for record in records:
                    seen.append(record.payload["n"])
                    if seen == [1, 2]:
                        with client(old) as master, client(new) as replica:
                            master.set("last", "write")  # WAIT is for the writes of its own connection
                            assert master.wait(1, 60_000) == 1
                            replica.replicaof("NO", "ONE")
                            redirect(address, new)
                            master.replicaof("127.0.0.1", str(free_port()))
                        with pytest.raises(PersistenceError, match="it is a replica") as raised:
                            await backend.record_batch([event(3)], batch_id="run:2")
                        assert raised.value.retry is True
                        await backend.record_batch([event(3)], batch_id="run:2")
                        await backend.record_batch([event(3)], batch_id="run:2")
                        old.kill()
                    elif len(seen) == 3:
                        break
    assert seen == [1, 2, 3]
    assert numbers(new, stream) == [1, 2, 3]


async def test_r23_a_follower_doubles_nothing_on_a_master_that_lacks_the_last_records(
    redis_server, stream, monkeypatch
):
    looked = threading.Event()
    look = _follower.Follower._last_seen

    def watched(follower, work):
        looked.set()
        return look(follower, work)

    monkeypatch.setattr(_follower.Follower, "_last_seen", watched)
    async with aclosing(open_store(redis_server, stream)) as backend:
        await backend.record_batch([event(1), event(2), event(3)])
        async with aclosing(backend.follow(limit=3)) as records:
            seen = [(await anext(records)).payload["n"] for _ in range(3)]
            with client(redis_server) as raw:
                first, second, _ = raw.xrange(stream)
                for identifier, fields in (first, second):
                    raw.xadd(f"{stream}:lagging", fields, id=identifier)
                raw.rename(f"{stream}:lagging", stream)
            async with anyio.create_task_group() as group:

                async def follow() -> None:
                    seen.append((await anext(records)).payload["n"])

                group.start_soon(follow)
                assert await anyio.to_thread.run_sync(looked.wait, 60)
                await backend.record_event(event(4))
    assert seen == [1, 2, 3, 4]


async def test_r23_a_cluster_is_named_as_what_it_is(own_redis_server, stream):
    ports = (
        "--port",
        str(free_port()),
        "--cluster-port",
        str(free_port()),
    )  # the second is the first + 10000 by default
    server = own_redis_server(*ports, "--cluster-enabled", "yes")
    async with aclosing(open_store(server, stream)) as backend:
        for call in (backend.open, backend.ping, lambda: backend.record_event(event(1)), backend.list_events):
            with pytest.raises(PersistenceError, match="is a node of a cluster") as raised:
                await call()
            assert raised.value.retry is False


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (b"redis_version:6.0.16\r\nredis_mode:standalone\r\n", "has version 6.0.16, and a store needs 6.2"),
        (b"redis_version:7.0.1\r\nredis_mode:sentinel\r\n", "is a Sentinel"),
    ],
)
async def test_r23_a_server_that_cannot_keep_a_store_says_why(
    redis_server, stream, monkeypatch, told, problem
):
    async with aclosing(open_store(redis_server, stream)) as backend:
        monkeypatch.setattr(backend._server, "call", lambda *_: told)
        with pytest.raises(PersistenceError, match=problem) as raised:
            await backend.open()
        assert raised.value.retry is False


async def test_r23_a_user_that_may_not_ask_for_the_version_gets_no_check(own_server, stream):
    with client(own_server) as raw:
        raw.acl_setuser(
            "writer",
            enabled=True,
            passwords=["+topsecret"],
            keys=[f"{stream}*"],
            categories=["+@all"],
            commands=["-info"],
        )
    url = f"unix://writer:topsecret@{own_server.socket}"
    async with aclosing(RedisPersistence(url, stream=stream)) as backend:
        await backend.open()
        await backend.ping()
        await backend.record_event(event(1))
    async with aclosing(RedisPersistence(url, stream="elsewhere")) as backend:
        with pytest.raises(PersistenceError, match="may use the stream") as raised:
            await backend.ping()
        assert raised.value.retry is False
        assert "topsecret" not in str(raised.value) + repr(raised.value.__cause__)
    assert numbers(own_server, stream) == [1]


def test_r23_rediss_is_a_scheme():
    backend = open_backend("rediss://user:topsecret@example.org:7000/3?stream=x")
    assert isinstance(backend, RedisPersistence)
    kind = backend._server._pool.connection_class
    assert issubclass(kind, redis.SSLConnection)


# -- R32


async def test_r32_eviction_that_deletes_the_record_is_a_warning(own_redis_server, stream, caplog):
    server = own_redis_server("--maxmemory-policy", "allkeys-lru")
    async with aclosing(open_store(server, stream)) as backend:
        with caplog.at_level(logging.WARNING, logger="papyra"):
            await backend.open()
            await backend.open()
        assert [record.getMessage() for record in caplog.records] == list(backend.store_warnings)
        assert "maxmemory-policy allkeys-lru" in backend.store_warnings[0]
        with client(server) as raw:
            raw.config_set("maxmemory-policy", "noeviction")
        await backend.open()
        assert backend.store_warnings == ()


def test_r32_doctor_shows_the_warning(own_redis_server, stream):
    server = own_redis_server("--maxmemory-policy", "allkeys-lfu")
    url = f"redis:{server.socket}?stream={stream}"
    command = [sys.executable, "-m", "papyra_cli", "doctor", "run", "--backend", url, "-o", "json"]
    done = subprocess.run(command, check=False, capture_output=True)
    document = json.loads(done.stdout)
    found = [check for check in document["checks"] if check["name"] == "settings"]
    assert [check["status"] for check in found] == ["warning"]
    assert "allkeys-lfu" in found[0]["detail"]
    assert done.returncode == 0


# -- R24, R30: a full server is there, so it is a failed check and not an absent store


def doctor(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papyra_cli", "doctor", "run", "--backend", url, *options]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_r30_a_full_server_is_a_failed_check_and_an_absent_one_is_3(own_redis_server, stream):
    server = own_redis_server()
    url = f"redis:{server.socket}?stream={stream}"
    with client(server) as raw:
        raw.config_set("maxmemory", "1")
    full = doctor(url)
    assert full.returncode == 1
    assert "check\thealth\tfailed\t" in full.stdout
    assert "memory is full; writing works again once there is room" in full.stdout
    server.kill()
    away = doctor(url, "--mode", "ignore")
    assert (away.returncode, away.stdout) == (3, "")
    assert "find out whether the server runs there" in away.stderr


async def test_r11_a_system_starts_although_the_server_is_full(own_redis_server, stream, caplog):
    server = own_redis_server()
    with client(server) as raw:
        raw.config_set("maxmemory", "1")
    backend = open_store(server, stream)
    async with ActorSystem(persistence=backend) as system:
        assert "the system starts without its store" in caplog.text
        await system.spawn(Quick, name="early").ask("done")
        with client(server) as raw:
            raw.config_set("maxmemory", "0")
    with client(server) as raw:
        names = [json.loads(fields[b"payload"]).get("name") for _, fields in raw.xrange(stream)]
    assert names.count("early") == 2
    assert backend.metrics.records_dropped == 0
