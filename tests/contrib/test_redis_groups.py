"""R36: consumer groups on the stream, with real processes of which one is killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistedEvent

redis = pytest.importorskip("redis", reason="the library redis is not installed; the extra redis brings it")

from papyra_contrib.redis import Delivery, RedisPersistence  # noqa: E402 - only where the library is

PAGE = Path(__file__).parents[2] / "docs/how-to/redis-consumers.md"


def event(number: int) -> PersistedEvent:
    return PersistedEvent("shop", f"shop:{number}", "ActorCrashed", {"n": number}, 1e9 + number)


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [one.record.payload["n"] for one in deliveries if isinstance(one.record, PersistedEvent)]


async def test_r36_consumers_of_a_group_share_the_records_and_groups_do_not(open_store):
    async with aclosing(open_store()) as backend:
        await backend.record_batch([event(number) for number in range(5)])
        one = await backend.consume("mailers", "one", count=3)
        two = await backend.consume("mailers", "two")
        assert (numbers(one), numbers(two)) == ([0, 1, 2], [3, 4])
        assert one[0].record == event(0)
        assert await backend.consume("mailers", "one", block=0) == []
        assert numbers(await backend.consume("index", "one")) == [0, 1, 2, 3, 4]


async def test_r36_a_record_is_pending_until_it_is_acknowledged(open_store):
    async with aclosing(open_store()) as backend:
        await backend.record_batch([event(number) for number in range(3)])
        given = [one.id for one in await backend.consume("mailers", "one")]
        pending = await backend.pending("mailers")
        assert [(one.id, one.consumer, one.deliveries) for one in pending] == [
            (each, "one", 1) for each in given
        ]
        assert all(0 <= one.idle < 60 for one in pending)
        assert await backend.ack("mailers", given[:2]) == 2
        assert await backend.ack("mailers", given[:2]) == 0
        assert await backend.ack("mailers", []) == 0
        assert [one.id for one in await backend.pending("mailers")] == given[2:]
        assert await backend.claim("mailers", "two", 3600.0) == []
        assert numbers(await backend.claim("mailers", "two", 0.0)) == [2]
        assert [(one.consumer, one.deliveries) for one in await backend.pending("mailers")] == [("two", 2)]


async def test_r36_many_pending_deliveries_are_listed_and_claimed_in_order(open_store):
    async with aclosing(open_store()) as backend:
        await backend.record_batch([event(number) for number in range(1200)])
        given = await backend.consume("mailers", "one", count=1200)
        assert [one.id for one in await backend.pending("mailers")] == [one.id for one in given]
        assert await backend.claim("mailers", "two", 0.0, count=1200) == given
        assert numbers(await backend.claim("mailers", "two", 0.0, count=7)) == list(range(7))


async def test_r36_consume_waits_for_a_record_and_can_be_cancelled(open_store):
    async with aclosing(open_store()) as backend, aclosing(open_store()) as writer:
        found: list[int] = []

        async def consume() -> None:
            found.extend(numbers(await backend.consume("mailers", "one", block=None)))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(consume)
                await anyio.wait_all_tasks_blocked()
                await writer.record_event(event(1))
            with anyio.move_on_after(0.05) as scope:
                await backend.consume("mailers", "one", block=None)
        assert scope.cancelled_caught
        assert found == [1]


async def test_r36_a_group_that_does_not_exist_has_nothing_and_is_made_by_its_first_consumer(open_store, raw):
    async with aclosing(open_store()) as backend:
        assert await backend.pending("mailers") == []
        assert await backend.ack("mailers", ["1-1"]) == 0
        assert await backend.claim("mailers", "one", 0.0) == []
        assert await backend.consume("mailers", "one", block=0) == []
        await backend.record_event(event(1))
        assert numbers(await backend.consume("mailers", "one")) == [1]
        assert not (await backend.scan()).has_anomalies
        for call in (
            lambda: backend.consume("mailers", "one", count=0),
            lambda: backend.claim("mailers", "one", 0.0, count=0),
        ):
            with pytest.raises(ValueError, match="count must be at least 1"):
                await call()
    with pytest.raises(PersistenceError, match="closed"):
        await backend.consume("mailers", "one")


async def test_r36_two_consumers_may_make_a_group_at_once(open_store, raw, stream, monkeypatch):
    async with aclosing(open_store()) as backend:
        await backend.record_event(event(1))
        server = backend._groups._server
        call = type(server).call

        def raced(self, command, *arguments):
            if command == "XGROUP":
                raw.xgroup_create(stream, "mailers", "0")
            return call(self, command, *arguments)

        monkeypatch.setattr(type(server), "call", raced)
        assert numbers(await backend.consume("mailers", "one")) == [1]


async def test_r36_a_consumer_without_the_right_to_make_a_group_gets_an_error(redis_server, raw, stream):
    raw.execute_command("ACL", "SETUSER", "mailer", "on", ">secret", "~*", "+@all", "-xgroup")
    url = f"unix://mailer:secret@{redis_server.socket}"
    async with aclosing(RedisPersistence(url, stream=stream)) as backend:
        with pytest.raises(PersistenceError, match="no permissions to run the 'xgroup"):
            await backend.consume("mailers", "one", block=0)
        raw.set(stream, "of another program")
        with pytest.raises(PersistenceError, match="wrong kind of value"):
            await backend.pending("mailers")
        raw.delete(stream)
    raw.execute_command("ACL", "DELUSER", "mailer")


async def test_r36_damaged_and_compacted_records_hold_no_consumer_up(open_store, raw, stream):
    async with aclosing(open_store(RetentionPolicy(max_records=1))) as backend:
        raw.xadd(stream, {"not": "a record"})
        await backend.record_batch([event(1), event(2)])
        given = await backend.consume("mailers", "one")
        assert [one.record for one in given] == [None, event(1), event(2)]
        await backend.compact()
        assert numbers(await backend.claim("mailers", "two", 0.0)) == [2]
        assert await backend.ack("mailers", [one.id for one in given]) >= 1
        assert await backend.pending("mailers") == []


async def test_r36_a_consumer_goes_on_where_it_was_when_the_server_is_back(own_redis_server, stream):
    server = own_redis_server("--appendonly", "yes", "--appendfsync", "always")
    async with aclosing(RedisPersistence(f"unix://{server.socket}", stream=stream)) as backend:
        await backend.record_batch([event(1), event(2)])
        (given,) = await backend.consume("mailers", "one", count=1)
        await anyio.to_thread.run_sync(server.kill)
        with pytest.raises(PersistenceError) as raised:
            await backend.consume("mailers", "one")
        assert raised.value.retry is True
        await anyio.to_thread.run_sync(server.start)
        assert numbers(await backend.consume("mailers", "one")) == [2]
        assert await backend.claim("mailers", "one", 0.0, count=1) == [given]


# -- the program of the how-to page, in processes


@pytest.fixture
def start_mailer(url, stream, tmp_path):
    """Start the program of the page; each e-mail takes ``seconds``, and deliveries are taken over after half
    a second.
    """
    (source,) = re.findall(r'```python title="mailer.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert "min_idle=60.0" in source
    assert "await backend.ack" in source
    source = source.replace("min_idle=60.0", "min_idle=0.5")
    started: list[subprocess.Popen[str]] = []

    def start(consumer: str, seconds: float) -> subprocess.Popen[str]:
        slow = source.replace("await backend.ack", f"await anyio.sleep({seconds}); await backend.ack")
        (tmp_path / "mailer.py").write_text(slow)
        command = [sys.executable, str(tmp_path / "mailer.py"), consumer]
        environment = {**os.environ, "REDIS_URL": url, "STREAM": stream}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_r36_what_a_killed_process_was_given_comes_to_another_one(raw, open_store, stream, start_mailer):
    count = 300

    async def record() -> None:
        async with aclosing(open_store()) as backend:
            await backend.record_batch([event(number) for number in range(count)])

    anyio.run(record)
    one = start_mailer("one", 0.05)
    first = one.stdout.readline()  # it is in the midst of what it was given
    two = start_mailer("two", 0.0)
    one.kill()
    before = [first, *one.communicate()[0].splitlines(keepends=True)]
    deadline = time.monotonic() + 60
    while not _all_done(raw, stream, count):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    two.kill()
    after = two.communicate()[0].splitlines(keepends=True)
    assert len(before) < 100  # of those that it was given
    assert set(before + after) == {f"mail: shop:{number} crashed\n" for number in range(count)}
    assert len(after) == len(set(after))
    assert len(set(before) & set(after)) <= 1  # an e-mail that was written and not acknowledged


def _all_done(raw, stream: str, count: int) -> bool:
    (group,) = raw.xinfo_groups(stream)
    newest = raw.xinfo_stream(stream)["last-generated-id"]
    return group["pending"] == 0 and group["last-delivered-id"] == newest
