"""Promise 9: the cost of reading the newest n depends on n, not on the file."""

from __future__ import annotations

import pytest

from papyra.persistence import RetentionPolicy
from papyra_json import JsonFilePersistence, RotatingFilePersistence


async def test_promise_09_ten_records_cost_a_block(path, line, event, read):
    costs = []
    for many in (1_000, 100_000):
        path.write_bytes(b"".join(line(number) for number in range(1, many + 1)))
        read.clear()
        for policy in (None, RetentionPolicy(max_records=500, max_total_bytes=10**6)):
            store = JsonFilePersistence(path, policy)
            assert await store.list_events(limit=10) == [
                event(number) for number in range(many - 9, many + 1)
            ]
        costs.append(sum(read))
    assert costs[0] == costs[1] < 20_000


async def test_promise_09_retention_ends_the_reading(path, line, read):
    path.write_bytes(b"".join(line(number) for number in range(1, 20_001)))
    for policy in (RetentionPolicy(max_records=10), RetentionPolicy(max_total_bytes=2000)):
        read.clear()
        assert len(await JsonFilePersistence(path, policy).list_events()) in (10, 11)
        assert sum(read) < 20_000


async def test_promise_09_an_append_reads_only_the_tail(path, line, event, read):
    path.write_bytes(b"".join(line(number) for number in range(1, 20_001)))
    store = JsonFilePersistence(path)
    await store.record_event(event(20_001))
    first = sum(read)
    await store.record_event(event(20_002))
    assert first < 20_000
    assert sum(read) <= first + 20  # a look whether the file still ends as it was left
    await store.aclose()


async def test_promise_09_reading_goes_on_in_older_files_only_as_needed(path, line, event, read):
    for number in range(1, 5):
        first = 10_000 * (4 - number) + 1
        path.with_name(f"facts.ndjson.{number}").write_bytes(
            b"".join(map(line, range(first, first + 10_000)))
        )
    path.write_bytes(line(40_001) + line(40_002))
    store = RotatingFilePersistence(path)
    assert await store.list_events(limit=5) == [event(number) for number in range(39_998, 40_003)]
    assert sum(read) < 20_000


@pytest.mark.parametrize("size", [10, 8191 - 300, 8192, 9000, 300_000])
async def test_promise_09_lines_across_the_blocks_are_whole(path, event, size):
    events = [event(number, payload={"text": "é" * (size // 2 + number)}) for number in range(30)]
    store = JsonFilePersistence(path)
    await store.record_batch(events)
    for limit in (None, 1, 2, 29, 30, 31):
        assert await store.list_events(limit=limit) == events[-limit if limit else None :]
    assert await store.list_events(limit=0) == []
    with pytest.raises(ValueError, match="limit must not be negative"):
        await store.list_events(limit=-1)
    await store.aclose()
