"""Promise 13 on NATS: the stream, the lease and the follower, each alone, at a real server."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest
from _world import until

from papyra_contrib.cluster import ClusterUnavailable, Conflict, Ended, Entry, Reset, Synced, TransportError
from papyra_contrib.cluster._transport import no_answer
from papyra_contrib.cluster.nats import _follower, _lease
from papyra_contrib.cluster.nats._bucket import Bucket
from papyra_contrib.cluster.nats._client import ConnectionMonitor, connect
from papyra_contrib.cluster.nats._follower import Follower
from papyra_contrib.cluster.nats._lease import NatsLease
from papyra_contrib.cluster.nats._url import NatsURL

numbers = itertools.count(1)


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The keeper has an asyncio loop of its own."""
    return str(request.param)


@pytest.fixture
def url(nats_server):
    return NatsURL.parse(nats_server.url(f"alone{next(numbers)}"))


async def nothing() -> None:
    pass


@asynccontextmanager
async def connected(url: NatsURL):
    client = await connect(url, "a", "test", ConnectionMonitor(nothing))
    try:
        yield client, Bucket(client, url.cluster)
    finally:
        await client.close()


@asynccontextmanager
async def prepared(url: NatsURL):
    async with connected(url) as (client, bucket):
        await bucket.prepare(url, None)
        yield client, bucket


# -- the stream


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"metadata": {}}, "was not made for a cluster: it has no papyra.lease"),
        ({"max_msgs_per_subject": 5}, "has max_msgs_per_subject=5, but 1 is needed"),
        ({"deny_purge": False}, "has deny_purge=False, but True is needed"),
    ],
)
async def test_c13_a_stream_with_another_configuration_is_refused(url, changes, text):
    async with connected(url) as (client, bucket):
        config = {**bucket._config(1, 3), **changes}
        await client.request(f"$JS.API.STREAM.CREATE.{bucket.stream}", json.dumps(config).encode(), timeout=5)
        with pytest.raises(ClusterUnavailable, match=f"the stream {bucket.stream} {text}"):
            await bucket.prepare(url, None)


async def test_c13_a_lease_that_is_too_short_for_replicas_is_refused(url, nats_server):
    async with connected(url) as (_, bucket):
        replicas = NatsURL.parse(nats_server.url("replicas", options="?replicas=3"))
        with pytest.raises(ValueError, match="lease is 5 s, but with 3 replicas at least 10 s are needed"):
            await bucket.prepare(replicas, 5)


class Answers:
    """A connection to a server that gives these answers, in this order."""

    def __init__(self, *answers: Any, version: tuple[int, int] = (2, 11)) -> None:
        self.connected_server_version = SimpleNamespace(major=version[0], minor=version[1])
        self.answers = list(answers)
        self.subjects: list[str] = []

    async def request(self, subject: str, *_: Any, **__: Any) -> Any:
        self.subjects.append(subject.split(".")[3])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(data=json.dumps(answer).encode())


def error(code: int) -> dict[str, Any]:
    return {"error": {"err_code": code, "description": "out of luck"}}


def stream(**changes: Any) -> dict[str, Any]:
    config = {**Bucket(Answers(), "shop")._config(1, 3), **changes}
    return {"config": config, "created": "2026-01-02T03:04:05.678901234Z"}


NO_STREAM, IN_USE, NO_JETSTREAM, OTHER = 10059, 10058, 10039, 10052


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (None, "has version 2.10, but 2.11 or newer is needed; update it"),
        ([nats.errors.NoRespondersError()], "has no JetStream.*start it with -js"),
        ([error(NO_JETSTREAM)], "has no JetStream.*start it with -js"),
        ([error(OTHER)], "refused the registry KV_papyra_shop: out of luck"),
        ([error(NO_STREAM), error(OTHER)], "refused the registry KV_papyra_shop: out of luck"),
        ([stream(allow_rollup_hdrs=True)], "allows roll-ups, with which any member could wipe"),
    ],
)
async def test_c13_a_server_that_cannot_keep_the_registry_says_why(answers, text):
    client = Answers(version=(2, 10)) if answers is None else Answers(*answers)
    with pytest.raises(ClusterUnavailable, match=text):
        await Bucket(client, "shop").prepare(NatsURL.parse("nats://127.0.0.1/shop"), None)


async def test_c13_a_stream_that_another_node_has_just_created_is_used():
    client = Answers(error(NO_STREAM), error(IN_USE), stream())
    bucket = Bucket(client, "shop")
    await bucket.prepare(NatsURL.parse("nats://127.0.0.1/shop"), None)
    assert client.subjects == ["INFO", "CREATE", "INFO"]
    assert (bucket.lease_seconds, bucket.epoch) == (3, 1767323045678)


# -- keys


async def test_c13_a_request_that_the_server_refuses_or_does_not_answer_has_an_unknown_outcome(url):
    async with prepared(url) as (client, bucket):
        with pytest.raises(TransportError, match=r"writing \(.*TTL.*\) 'n.a' may have been done or not"):
            await bucket.put("n.a", b"1", 0, -5)
        bucket.stream += "-gone"
        with pytest.raises(TransportError, match=r"reading \(stream not found\) 'n.a'"):
            await bucket.get("n.a")
        await client.close()
        with pytest.raises(TransportError, match=r"reading 'n.a' may have been done or not"):
            await bucket.get("n.a")
        with pytest.raises(TransportError, match=r"writing 'n.a' may have been done or not"):
            await bucket.put("n.a", b"1", 0)


async def test_c13_a_lease_that_the_server_shows_although_it_has_expired_is_absent(url):
    async with prepared(url) as (_, bucket):
        first = await bucket.put("n.a", b"1", 0, 60)
        other = await bucket.put("a.boss", b"1", 0)
        bucket._clock_offset += 10  # as after a kill -9, when keys come back
        assert await bucket.get("n.a") is None
        assert (await bucket.get("a.boss")).revision == other
        assert await bucket.put("n.a", b"2", 0, 60) > first


# -- the lease


class Held:
    """A lease of 60 s, which renews each second, or at once after `hurry`."""

    def __init__(self, bucket: Bucket, value: bytes = b"me") -> None:
        self.healthy = True
        self.asked = 0
        self.lost: list[str] = []
        self.lease = NatsLease(bucket, "n.a", value, 60, self.may_renew, self.lost.append)

    def may_renew(self) -> bool:
        self.asked += 1
        return self.healthy


async def test_c13_a_lease_is_renewed_at_once_when_the_connection_is_back_if_the_program_is_healthy(
    url, monkeypatch
):
    monkeypatch.setattr(_lease, "beat_seconds", lambda ttl: 3600.0)
    async with prepared(url) as (_, bucket):
        held = Held(bucket)
        await held.lease.claim()
        first, end = held.lease._revision, held.lease._until
        await asyncio.sleep(0)  # its tasks have begun
        held.lease.hurry()
        await until(lambda: held.lease._until > end)
        assert 0 < held.lease.seconds_left() <= 50  # a sixth less than the registry keeps it
        second = held.lease._revision
        assert second > first
        held.healthy = False
        held.lease.hurry()
        await until(lambda: held.asked > 2)
        assert held.lease._revision == second
        await held.lease.release()
        assert not held.lease.valid()
        assert await bucket.get("n.a") is None


async def test_c13_a_renewal_whose_acknowledgement_was_lost_does_not_end_the_lease(url):
    async with prepared(url) as (_, bucket):
        held = Held(bucket)
        await held.lease.claim()
        second = await bucket.put("n.a", b"me", held.lease._revision, 60)
        get, failures = bucket.get, [no_answer("reading", "n.a")]

        async def flaky(key: str) -> Any:
            if failures:
                raise failures.pop()
            return await get(key)

        bucket.get = flaky
        held.lease.hurry()
        await until(lambda: held.lease._revision > second)
        assert held.lease.valid()
        assert (held.lost, failures) == ([], [])
        await bucket.put("n.a", b"me", held.lease._revision, 60)
        await held.lease.release()  # over the newer revision
        assert await get("n.a") is None


async def test_c13_a_lease_whose_key_another_node_has_is_lost_once_and_not_released(url):
    async with prepared(url) as (_, bucket):
        held = Held(bucket)
        await held.lease.claim()
        revision = await bucket.put("n.a", b"other", held.lease._revision, 60)
        held.lease.hurry()
        await until(lambda: held.lost)
        assert held.lost == ["the registry has let the lease go"]
        assert (held.lease.valid(), held.lease.seconds_left()) == (False, 0.0)
        await held.lease.release()
        second = Held(bucket)
        with pytest.raises(Conflict):
            await second.lease.claim()
        assert (await bucket.get("n.a")).revision == revision


async def test_c13_a_lease_whose_first_answer_was_lost_is_claimed(url):
    async with prepared(url) as (_, bucket):
        first = await bucket.put("n.a", b"me", 0, 60)
        held = Held(bucket)
        await held.lease.claim()
        assert held.lease._revision > first
        await bucket.put("n.a", b"other", held.lease._revision, 60)
        await held.lease.release()  # it was not renewed yet, and finds the other one here
        assert (await bucket.get("n.a")).value == b"other"


# -- the follower


@asynccontextmanager
async def following(url: NatsURL):
    async with prepared(url) as (client, bucket):
        changes: list[Any] = []
        follower = Follower(client, bucket, url.cluster, changes.append)
        try:
            yield client, bucket, follower, changes
        finally:
            follower.stop()


def kinds(changes: list[Any]) -> list[type]:
    return [type(change) for change in changes]


async def test_c13_a_follower_reads_all_of_it_again_after_a_gap_and_ignores_messages_that_are_not_changes(
    url,
):
    async with following(url) as (client, bucket, follower, changes):
        revision = await bucket.put("a.boss", b"1", 0)
        await follower.start()
        await until(lambda: Synced in kinds(changes))
        assert changes == [Reset(), Entry("a.boss", b"1", revision), Synced()]
        changes.clear()
        subject = f"papyra.{url.cluster}.reg.a.boss"
        key = f"{bucket.prefix}a.boss"

        async def publish(**headers: Any) -> None:
            names = {name.replace("_", "-"): str(value) for name, value in headers.items()}
            await client.publish(subject, b"2", headers=names)

        await publish(Some="header")
        await publish(Nats_Sequence=100, Nats_Subject="elsewhere")
        await publish(Nats_Sequence=101, Nats_Subject=key)
        await until(lambda: changes)
        assert changes == [Entry("a.boss", b"2", 101)]
        await publish(Nats_Sequence=103, Nats_Subject=key)
        await until(lambda: Synced in kinds(changes))
        assert changes[1:] == [Entry("a.boss", b"2", 103), Reset(), Entry("a.boss", b"1", revision), Synced()]


async def test_c13_a_follower_drops_an_expired_lease_and_what_is_older_than_an_end(url):
    async with following(url) as (_, bucket, follower, changes):
        await follower.start()
        await until(lambda: Synced in kinds(changes))
        changes.clear()
        bucket._clock_offset += 10
        first = await bucket.put("n.a", b"1", 0, 60)
        second = await bucket.put("a.boss", b"1", 0)
        await bucket.end("a.boss", second)
        await until(lambda: len(changes) == 2)
        assert changes == [Entry("a.boss", b"1", second), Ended("a.boss", "left", second + 1)]
        assert first < second
        follower._hand_on({"Nats-Subject": f"{bucket.prefix}a.boss"}, b"1", second)
        assert len(changes) == 2


async def test_c13_a_follower_that_is_to_read_again_while_it_reads_is_synced_once(url):
    async with following(url) as (_, bucket, follower, changes):
        await bucket.put("a.boss", b"1", 0)

        def hand_over(change: Any) -> None:
            changes.append(change)
            if kinds(changes) == [Reset, Entry]:
                follower.resync()

        follower._hand_over = hand_over
        await follower.start()
        await until(lambda: Synced in kinds(changes))
        assert kinds(changes) == [Reset, Entry, Reset, Entry, Synced]


async def test_c13_a_follower_tries_again_if_a_page_cannot_be_read(url, monkeypatch):
    monkeypatch.setattr(_follower, "REPEAT_SECONDS", 0.001)
    monkeypatch.setattr(_follower, "PAGE_SECONDS", 3600.0)
    async with following(url) as (_, bucket, follower, changes):
        await bucket.put("a.boss", b"1", 0)
        stream, bucket.stream = bucket.stream, "nowhere"  # nobody answers there: the status 503
        await follower.start()
        await until(lambda: len(changes) > 3)
        bucket.stream = stream
        await until(lambda: Synced in kinds(changes))
        assert kinds(changes)[-3:] == [Reset, Entry, Synced]
        assert set(kinds(changes)[:-3]) == {Reset}


async def test_c13_a_follower_reads_again_while_a_replica_lags_but_not_forever(url, monkeypatch):
    monkeypatch.setattr(_follower, "REPEAT_SECONDS", 0.001)
    async with following(url) as (_, bucket, follower, changes):
        await bucket.put("a.boss", b"1", 0)

        async def newest() -> int:
            return 1_000

        follower._newest = newest
        await follower.start()
        await until(lambda: Synced in kinds(changes))
        assert kinds(changes) == [Reset, Entry] * _follower.LAG_ATTEMPTS + [Synced]
