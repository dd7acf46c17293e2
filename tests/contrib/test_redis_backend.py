"""What the Redis backend promises beyond the contract, with a real server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import aclosing

import anyio
import pytest

from papyra.exceptions import BackendURLError, PersistenceError
from papyra.persistence import Query, RetentionPolicy, backend_capabilities, open_backend
from papyra.persistence.models import (
    PersistenceAnomalyType,
)

redis = pytest.importorskip("redis", reason="the library redis is not installed; the extra redis brings it")

from papyra_contrib.redis import RedisPersistence, _backend, _entries, _follower  # noqa: E402 - only where the library is

from .._loops import one_loop  # noqa: E402 - as above
from ._facts import QUARANTINE, REPAIR, audit, event, events, take  # noqa: E402 - as above
from ._many_writers import check_a_follower  # noqa: E402 - as above

# -- how it is found


async def test_it_is_found_by_its_scheme(redis_server, stream):
    url = f"redis:{redis_server.socket}?stream={stream}&timeout=2s&max_records=5"
    async with aclosing(open_backend(url)) as backend:
        assert type(backend) is RedisPersistence
        assert backend.retention == RetentionPolicy(max_records=5)
        await backend.record_batch(events(*range(7)))
        assert await backend.list_events() == events(*range(2, 7))
    assert " ".join(sorted(backend_capabilities(backend))) == (
        "batch compact follow metrics progress recover scan stream"
    )


async def test_h20_it_has_the_names_of_the_published_package(url, stream):
    from papyra.persistence import RedisStreamsConfig, RedisStreamsPersistence
    from papyra.persistence.redis import RedisStreamsPersistence as the_same

    assert the_same is RedisStreamsPersistence
    config = RedisStreamsConfig(url=url, prefix=stream, system_id="shop")
    keep = RetentionPolicy(max_records=2)
    async with (
        aclosing(RedisStreamsPersistence(config, retention_policy=keep)) as theirs,
        aclosing(RedisPersistence(url, stream=f"{stream}:shop:facts")) as ours,
    ):
        await theirs.record_event(event(1))
        assert [each.record for each in await theirs.consume("mail", "one", block=None)] == [event(1)]
        assert await ours.list_events() == [event(1)]
        assert theirs.retention == keep
    with pytest.warns(DeprecationWarning, match="max_read, approx_trim has no effect"):
        RedisStreamsPersistence(RedisStreamsConfig(url=url, max_read=1, approx_trim=False))


@pytest.mark.parametrize(
    ("url", "tls", "address"),
    [
        ("redis://localhost:6379/0", False, "redis://localhost:6379/0"),
        ("redis://example.org", False, "redis://example.org/0"),
        ("redis:///2", False, "redis://localhost/2"),
        ("redis://user:p%40ss@example.org:7000/3", True, "rediss://user:p%40ss@example.org:7000/3"),
        ("redis:/run/redis.sock", False, "unix:///run/redis.sock"),
        ("redis:///run/redis.sock", False, "unix:///run/redis.sock"),
    ],
)
def test_an_address_is_read(url, tls, address):
    assert _backend._address(url, tls=tls) == address


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis:", "needs an address"),
        ("redis:localhost", "needs an address"),
        ("redis://:secret@localhost/facts", "a number, not 'facts'"),
        ("redis://:secret@localhost:port/0", "malformed port"),
        ("redis://localhost/0?stream=", "the name of a key"),
        ("redis://localhost/0?timeout=0s", "above 0"),
        ("redis:/run/redis.sock?tls=yes", "not encrypted"),
        ("redis://localhost/0?key=x", "max_age_seconds, max_records, max_total_bytes, stream, timeout, tls"),
    ],
)
def test_a_url_that_cannot_be_opened_says_why_and_no_password(url, words):
    with pytest.raises(BackendURLError, match=words) as caught:
        open_backend(url)
    assert "secret" not in str(caught.value)


def test_a_stream_has_a_name():
    with pytest.raises(ValueError, match="stream must be the name of a key"):
        RedisPersistence(stream="")


def test_without_the_library_it_says_what_to_install():
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from papyra.persistence import open_backend\n"
        "try: open_backend('redis://localhost')\n"
        "except ImportError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "the plugin 'redis' of papyra-contrib" in told
    assert "pip install 'papyra-contrib[redis]'" in told


# -- a server that is not there, full, or used by others


async def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path):
    async with aclosing(RedisPersistence(f"unix://:secret@{tmp_path}/none.sock")) as backend:
        for call in (backend.list_events, lambda: backend.record_event(event(1)), backend.scan):
            with pytest.raises(PersistenceError, match=r"none\.sock.*[^.]; find out.*server runs") as caught:
                await call()
            assert "secret" not in str(caught.value)
        assert not backend.healthy
        assert backend.metrics.write_errors == 1


async def test_what_was_acknowledged_survives_the_server_s_death(own_redis_server, stream):
    server = own_redis_server("--appendonly", "yes", "--appendfsync", "always")
    acknowledged = events(-2)
    async with aclosing(RedisPersistence(f"unix://{server.socket}", stream=stream)) as backend:
        await backend.record_batch(acknowledged)
        killer = threading.Timer(0.2, server.kill)
        killer.start()
        try:
            while len(acknowledged) < 1_000_000:
                batch = events(len(acknowledged), len(acknowledged) + 1)
                await backend.record_batch(batch)
                acknowledged += batch
        except PersistenceError:
            assert not backend.healthy
        killer.join()
        server.start()
        found = await backend.list_events()
        assert backend.healthy
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) - len(acknowledged) in (0, 2)  # the last one got no answer
        await backend.record_event(event(-1))
        assert await backend.list_events(limit=1) == events(-1)


async def test_a_full_server_refuses_whole_batches_and_later_ones_succeed(own_redis_server, stream):
    server = own_redis_server()
    with redis.Redis(unix_socket_path=str(server.socket)) as raw:
        async with aclosing(RedisPersistence(f"unix://{server.socket}", stream=stream)) as backend:
            await backend.record_batch(events(1, 2))
            raw.config_set("maxmemory", "1")
            with pytest.raises(PersistenceError, match="memory is full"):
                await backend.record_batch(events(*range(3, 50)))
            assert await backend.list_events() == events(1, 2)
            assert backend.healthy
            raw.config_set("maxmemory", "0")
            await backend.record_batch(events(3))
            assert await backend.list_events() == events(1, 2, 3)


async def test_nothing_is_sent_twice(own_redis_server, stream, monkeypatch):
    """The library sends a command again by default, if it got no reply: a record was there two times."""
    server = own_redis_server()
    connection = redis.UnixDomainSocketConnection
    read = connection.read_response

    def read_or_let_it_go_on(*arguments, **options):
        try:
            return read(*arguments, **options)
        except redis.TimeoutError:
            server.go_on()  # so that what were sent again would get through
            raise

    async with aclosing(RedisPersistence(f"unix://{server.socket}", stream=stream, timeout=1.0)) as backend:
        await backend.record_event(event(1))
        monkeypatch.setattr(connection, "read_response", read_or_let_it_go_on)
        server.stall()
        with pytest.raises(PersistenceError, match="may have been stored, or not"):
            await backend.record_event(event(2))
        with redis.Redis(unix_socket_path=str(server.socket)) as raw:
            raw.ping()  # answered when it has gone on
        assert await backend.list_events() in (events(1), events(1, 2))


async def test_a_key_of_another_program_is_not_touched(open_store, raw, stream):
    raw.rpush(stream, "theirs")
    async with aclosing(open_store()) as backend:
        calls = (
            lambda: backend.record_batch(events(1, 2)),
            backend.list_events,
            backend.compact,
            lambda: backend.recover(QUARANTINE),
            lambda: anext(backend.follow()),
        )
        for call in calls:
            with pytest.raises(PersistenceError, match="stream=") as caught:
                await call()
            assert "Happened" not in str(caught.value)  # nothing of the records
        (anomaly,) = (await backend.scan()).anomalies
        assert anomaly.type is PersistenceAnomalyType.UNEXPECTED_FILE
    assert raw.lrange(stream, 0, -1) == [b"theirs"]


async def test_a_quarantine_that_cannot_take_an_entry_stops_the_recovery(open_store, raw, stream):
    """In a transaction of Redis the entry would be deleted all the same."""
    raw.set(f"{stream}:quarantine", "of another program")
    raw.xadd(stream, {"garbage": "1"})
    async with aclosing(open_store()) as backend:
        with pytest.raises(PersistenceError):
            await backend.recover(QUARANTINE)
    assert raw.xlen(stream) == 1


async def test_a_quarantine_keeps_what_a_recovery_takes_away(open_store, raw, stream):
    async with aclosing(open_store()) as backend:
        await backend.record_event(event(1))
        identifier = raw.xadd(stream, {"garbage": "1", "more": "2"})
        await backend.record_event(event(2))
        before = raw.xrange(stream)
        dry = await backend.recover(QUARANTINE, dry_run=True)
        assert raw.xrange(stream) == before
        assert await backend.recover(QUARANTINE) == dry
        assert dry.quarantined_files == (f"{stream}:quarantine",)
        assert await backend.list_events() == events(1, 2)
    ((_, kept),) = raw.xrange(f"{stream}:quarantine")
    assert kept == {b"entry": identifier, b"garbage": b"1", b"more": b"2"}


@pytest.mark.parametrize("field", [b"timestamp", b"payload", b"size", b"crc", b"kind"])
async def test_a_changed_entry_is_not_what_was_written(open_store, raw, stream, field):
    async with aclosing(open_store()) as backend:
        await backend.record_batch(events(1, 2))
        ((_, fields),) = raw.xrange(stream, count=1)
        raw.xadd(stream, {**fields, field: b"7"})
        raw.xadd(stream, {name: value for name, value in fields.items() if name != field})
        assert await backend.list_events() == events(1, 2)
        report = await backend.scan()
        assert [anomaly.type for anomaly in report.anomalies] == [PersistenceAnomalyType.CRC_MISMATCH] * 2
        await backend.recover(REPAIR)
        assert raw.xlen(stream) == 2


# -- what it costs


async def test_a_limited_query_reads_one_page(open_store, monkeypatch):
    async with aclosing(open_store()) as backend:
        await backend.record_batch(events(*range(2000)))
        commands = []
        call = backend._server.call

        def counted(*command):
            commands.append(command[0])
            return call(*command)

        monkeypatch.setattr(backend._server, "call", counted)
        assert await backend.list_events(limit=10) == events(*range(1990, 2000))
        assert commands == ["XREVRANGE"]


async def test_pages_shrink_where_entries_are_large(open_store, monkeypatch):
    monkeypatch.setattr(_entries, "_PAGE_BYTES", 100_000)
    async with aclosing(open_store()) as backend:
        await backend.record_batch([event(n, pad="x" * 10_000) for n in range(600)])
        sizes = []
        call = backend._server.call

        def measured(*command):
            reply = call(*command)
            sizes.append(len(reply))
            return reply

        monkeypatch.setattr(backend._server, "call", measured)
        assert len(await backend.list_events()) == 600
        assert max(sizes[1:]) < 20


# -- compaction


@pytest.mark.parametrize("at_once", [2, 500])
async def test_old_entries_between_young_ones_are_compacted_away(
    open_store, raw, stream, monkeypatch, at_once
):
    monkeypatch.setattr("papyra_contrib.redis._maintenance._AT_ONCE", at_once)
    policy = RetentionPolicy(max_records=5, max_age_seconds=50)
    async with aclosing(open_store(policy)) as backend:
        backend.time_fn = lambda: 1e9 + 50
        await backend.record_batch([event(n, moment=1.0) if n % 2 else event(n) for n in range(30)])
        raw.xadd(stream, {"garbage": "1"})
        kept = await backend.list_events()
        assert kept == events(20, 22, 24, 26, 28)
        dry = await backend.compact(dry_run=True)
        report = await backend.compact()
        assert report == dry
        assert (report.before_records, report.after_records) == (31, 6)
        assert raw.xlen(stream) == 6  # what is damaged is a recovery's affair
        assert await backend.list_events() == kept


# -- follow and stream


async def test_all_is_new_in_a_stream_that_took_its_place(open_store, raw, stream, monkeypatch):
    """Also where the server's clock went back, so that ids begin lower than those that were read."""
    await_reset = threading.Event()
    async with aclosing(open_store()) as backend:
        await backend.record_batch(events(1, 2))
        look = _follower.Follower._last_seen

        def watched(follower, work):
            last = look(follower, work)
            if last == _entries.START:
                await_reset.set()
            return last

        monkeypatch.setattr(_follower.Follower, "_last_seen", watched)
        async with aclosing(backend.follow(limit=1)) as records:
            assert await take(records, 1) == events(2)
            ((_, fields),) = raw.xrange(stream, count=1)
            raw.delete(stream)
            async with anyio.create_task_group() as group:
                found: list = []

                async def follow() -> None:
                    found.extend(await take(records, 2))

                group.start_soon(follow)
                assert await anyio.to_thread.run_sync(await_reset.wait, 60)
                raw.xadd(stream, fields, id="5-1")
                await backend.record_event(event(3))
            assert found == events(1, 3)


@pytest.mark.parametrize("limit", [0, 2])
async def test_a_follower_outlives_a_cut_in_its_first_read(open_store, monkeypatch, limit):
    async with aclosing(open_store()) as backend:
        await backend.record_batch(events(1, 2, 3))
        real = _follower.find
        reads: list[int] = []
        again = anyio.Event()

        def find(entries, *conditions):
            found = real(entries, *conditions)
            reads.append(len(found))
            if len(reads) == 1:
                raise PersistenceError("the server is away", retry=True)
            anyio.from_thread.run_sync(again.set)
            return found

        monkeypatch.setattr(_follower, "find", find)
        async with anyio.create_task_group() as group, aclosing(backend.follow(limit=limit)) as records:

            async def write_when_it_reads() -> None:
                await again.wait()
                await backend.record_event(event(4))

            group.start_soon(write_when_it_reads)
            assert await take(records, limit + 1) == (events(2, 3, 4) if limit else events(4))
    assert reads == [limit, limit]


async def test_a_follower_ends_when_the_backend_is_closed_before_its_first_look(open_store, monkeypatch):
    backend = open_store()
    looks = threading.Event()
    real = _follower.last_id

    def last_id(server, stream):
        looks.set()
        while not server._closed:
            time.sleep(0.001)
        return real(server, stream)

    monkeypatch.setattr(_follower, "last_id", last_id)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:

            async def follow() -> None:
                async with aclosing(backend.follow()) as records:
                    assert [record async for record in records] == []

            group.start_soon(follow)
            assert await anyio.to_thread.run_sync(looks.wait, 60)
            await backend.aclose()


async def test_a_stream_gives_what_is_kept_newest_first_in_pages(open_store, monkeypatch):
    monkeypatch.setattr(_backend, "_PAGE", 7)
    policy = RetentionPolicy(max_records=95, max_age_seconds=98)
    async with aclosing(open_store(policy)) as backend:
        backend.time_fn = lambda: 1e9 + 100
        await backend.record_batch([event(n) if n % 3 else audit(n) for n in range(100)])
        kept = list(reversed([event(n) if n % 3 else audit(n) for n in range(5, 100)]))
        assert await backend.select(Query()) == kept[::-1]
        assert [record async for record in backend.stream()] == kept
        span = backend.stream(since=1e9 + 20, until=1e9 + 30)
        assert [record async for record in span] == kept[69:80]
        async with aclosing(backend.stream()) as records:
            found = await take(records, 1)
            await backend.record_batch(events(*range(100, 120)))  # is newer than the stream
            found += [record async for record in records]
        assert found == kept


@one_loop
async def test_nothing_is_lost_or_doubled_while_processes_write_and_compact(redis_server, open_store, stream):
    async with aclosing(open_store()) as backend:
        await check_a_follower(backend, f"redis:{redis_server.socket}?stream={stream}&max_age_seconds=10s")
