"""R14: pages of a stream cost what they hold, and cursors outlive what happens to a server."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from papyra.persistence import Query, RetentionPolicy
from papyra.persistence.models import PersistedAudit, PersistedEvent

redis = pytest.importorskip("redis", reason="the library redis is not installed; the extra redis brings it")

from papyra_contrib.redis import RedisPersistence  # noqa: E402 - only where the library is

from ._facts import event, events  # noqa: E402 - as above

ALL: Query[PersistedEvent] = Query()


async def pages(backend: RedisPersistence, query=ALL, *, after: str | None = None, limit: int = 7) -> list:
    found = []
    while (page := await backend.page(query, after=after, limit=limit)).records:
        found += page.records
        after = page.cursor
    return found


async def test_r14_a_page_reads_no_entry_before_its_cursor(open_store, monkeypatch):
    async with aclosing(open_store()) as backend:
        await backend.record_batch(events(*range(3000)))
        cursor = (await backend.page(ALL, limit=2990)).cursor
        read: list[int] = []
        call = backend._server.call

        def measured(*command):
            reply = call(*command)
            read.append(len(reply) if command[0] == "XRANGE" else 0)
            return reply

        monkeypatch.setattr(backend._server, "call", measured)
        page = await backend.page(ALL, after=cursor, limit=100)
        assert page.records == events(*range(2990, 3000))
        assert sum(read) == 10


@pytest.mark.parametrize(
    ("policy", "first"),
    [
        (RetentionPolicy(), 0),
        (RetentionPolicy(max_records=20), 80),
        (RetentionPolicy(max_records=0), 100),
        (RetentionPolicy(max_age_seconds=30), 70),
        (RetentionPolicy(max_records=50, max_age_seconds=30), 70),
        (RetentionPolicy(max_total_bytes=0), 100),
    ],
)
async def test_r14_pages_have_what_retention_keeps(open_store, raw, stream, policy, first):
    async with aclosing(open_store(policy)) as backend:
        backend.time_fn = lambda: 1e9 + 100
        await backend.record_batch([event(n) if n % 3 else event(n, moment=1e9 + n) for n in range(100)])
        raw.xadd(stream, {"not": "a record"})
        assert await pages(backend) == events(*range(first, 100)) == await backend.list_events()
        late = (await backend.page(ALL, limit=10_000)).cursor
        await backend.record_batch(events(100, 101))
        expected = [] if first == 100 else events(100, 101)
        assert await pages(backend, after=late) == expected


async def test_r14_pages_have_what_matches(open_store):
    async with aclosing(open_store()) as backend:
        audit = PersistedAudit("shop", 1e9, 1, 1, 0, 0, 0, (), (), 0)
        await backend.record_batch([event(1), audit, event(2), event(3)])
        assert await pages(backend, Query(PersistedAudit)) == [audit]
        assert await pages(backend, Query(PersistedEvent, since=1e9 + 2), limit=1) == events(2, 3)


@pytest.mark.parametrize("missing", [1, 30])
async def test_r14_a_cursor_outlives_a_failover_to_a_server_that_lacks_the_last_records(
    open_store, raw, stream, missing
):
    async with aclosing(open_store()) as backend:
        await backend.record_batch(events(*range(100)))
        cursor = (await backend.page(ALL)).cursor
        for identifier, fields in raw.xrange(stream)[:-missing]:
            raw.xadd(f"{stream}:lagging", fields, id=identifier)
        raw.rename(f"{stream}:lagging", stream)
        page = await backend.page(ALL, after=cursor)
        assert page.records == []
        await backend.record_batch(events(100, 101))
        assert await pages(backend, after=page.cursor) == events(100, 101)


async def test_r14_all_is_new_in_a_stream_that_took_its_place_with_lower_ids(open_store, raw, stream):
    async with aclosing(open_store()) as backend:
        await backend.record_batch(events(1, 2))
        cursor = (await backend.page(ALL)).cursor
        ((_, fields),) = raw.xrange(stream, count=1)
        raw.delete(stream)
        raw.xadd(stream, fields, id="5-1")
        assert await pages(backend, after=cursor) == events(1)


@pytest.mark.parametrize("cursor", ["x", "5", "5-1.", "5-1.x", "-"])
async def test_r14_a_text_that_is_not_a_cursor_is_refused(open_store, cursor):
    async with aclosing(open_store()) as backend:
        with pytest.raises(ValueError, match="not a cursor"):
            await backend.page(ALL, after=cursor)


async def test_r14_the_server_counts_where_nothing_limits_the_records(open_store, monkeypatch):
    async with aclosing(open_store()) as backend:
        assert await backend.count(Query()) == 0
        await backend.record_batch([event(number) for number in range(1200)])
        called: list[object] = []
        call = backend._server.call
        monkeypatch.setattr(backend._server, "call", lambda *words: called.append(words[0]) or call(*words))
        assert await backend.count(Query()) == 1200
        assert await backend.count(Query(limit=7)) == 7
        assert called == ["XLEN", "XLEN"]
        assert await backend.count(Query(PersistedEvent, since=1e9 + 1100)) == 100
