"""Promise 8: a compaction applies retention, quarantines invalid lines, reports, in constant memory."""

from __future__ import annotations

import random
import threading

import anyio
import anyio.to_thread
import pytest

from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistedAudit
from papyra_json import JsonFilePersistence, RotatingFilePersistence

from .._loops import one_loop


def _quarantined(path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*.quarantine-*"))]


async def test_promise_08_before_and_after_are_reported(path, line):
    lines = [line(number) for number in range(1, 101)]
    path.write_bytes(b"".join(lines))
    store = JsonFilePersistence(path, RetentionPolicy(max_records=30))
    dry = await store.compact(dry_run=True)
    assert path.read_bytes() == b"".join(lines)
    report = await store.compact()
    assert report == dry
    assert (report.backend, report.before_records, report.after_records) == ("json", 100, 30)
    assert (report.before_bytes, report.after_bytes) == (sum(map(len, lines)), path.stat().st_size)
    assert path.read_bytes() == b"".join(lines[70:])
    assert not (await store.scan()).has_anomalies
    assert store.metrics.compactions == 1


async def test_promise_08_invalid_lines_go_to_the_quarantine_wherever_they_are(path, line):
    path.write_bytes(b"old damage\n" + line(1) + line(2) + b"new damage\n" + line(3) + b"tail")
    store = JsonFilePersistence(path, RetentionPolicy(max_records=2))
    report = await store.compact()
    assert (report.before_records, report.after_records) == (3, 2)
    assert path.read_bytes() == line(2) + line(3)
    assert _quarantined(path) == [b"old damage\nnew damage\ntail"]
    assert not (await store.scan()).has_anomalies


async def test_promise_08_gaps_it_makes_are_known_and_others_are_not_hidden(path, line, event):
    path.write_bytes(line(1) + b"x\n" + line(3) + line(4) + line(7))
    store = JsonFilePersistence(path)
    await store.compact()
    assert path.read_bytes() == line(1) + line(3) + line(4) + line(7)
    (anomaly,) = (await store.scan()).anomalies
    assert (anomaly.type, anomaly.line) == ("sequence_gap", 4)
    await store.record_event(event(8))
    assert path.read_bytes().endswith(line(8))
    await store.aclose()


async def test_promise_08_numbers_are_not_given_out_twice(path, event):
    store = JsonFilePersistence(path, RetentionPolicy(max_age_seconds=50))
    store.time_fn = lambda: 1_700_000_100.0
    await store.record_batch([event(99), event(1)])
    await store.compact()
    await store.record_event(event(98))
    assert [b'"seq":%d,' % seq in path.read_bytes() for seq in (1, 2, 3)] == [True, False, True]
    assert not (await store.scan()).has_anomalies
    store.time_fn = lambda: 1_800_000_000.0
    report = await store.compact()
    assert (report.after_records, report.after_bytes, path.read_bytes()) == (0, 0, b"")
    await store.record_event(event(1))
    assert b'"seq":4,' in path.read_bytes()
    assert not (await store.scan()).has_anomalies
    await store.aclose()
    assert not (await JsonFilePersistence(path).scan()).has_anomalies


@one_loop
@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.parametrize("seed", range(12))
async def test_promise_08_what_stays_is_what_reads_showed(path, event, seed, rotating):
    """Any policy on any content, damaged or not: as the plain definition of retention has it."""
    chance = random.Random(seed)
    many = chance.choice([0, 1, 40, 4000])
    records = [
        event(
            number,
            timestamp=1_700_000_000.0 + chance.randrange(many),
            payload={"x": "x" * chance.randrange(50)},
        )
        if chance.random() < 0.9
        else PersistedAudit("local", 1_700_000_000.0 + chance.randrange(many), number, 0, 0, 0, 0, (), (), 0)
        for number in range(many)
    ]
    policy = RetentionPolicy(
        max_records=chance.choice([None, 0, 1, many // 2, many, 2 * many]),
        max_age_seconds=chance.choice([None, 0.0, many / 3, many]),
        max_total_bytes=chance.choice([None, 0, 100, many * 80, many * 1000]),
    )

    def make(policy=None):
        if rotating:
            return RotatingFilePersistence(path, max_bytes=70_000, max_files=50, retention_policy=policy)
        return JsonFilePersistence(path, policy)

    store = make()
    await store.record_batch(records)
    await store.aclose()
    if many and seed % 2:
        lines = path.read_bytes().splitlines(keepends=True)
        for _ in range(len(lines) // 7):
            lines.insert(chance.randrange(len(lines)), b"damage %d\n" % chance.randrange(10**9))
        path.write_bytes(b"".join(lines))
    store = make(policy)
    store.time_fn = lambda: 1_700_000_000.0 + many
    young = [one for one in records if one.timestamp >= policy.oldest_kept(store.time_fn())]
    shown = sorted([*await store.list_events(), *await store.list_audits()], key=records.index)
    assert shown == young[len(young) - len(shown) :]
    if policy.max_total_bytes is None:
        assert len(shown) == min(len(young), many if policy.max_records is None else policy.max_records)
    report = await store.compact()
    assert report.after_records == len(shown)
    assert report.before_records == many
    sizes = {
        file.stat().st_size for file in path.parent.glob("facts.ndjson*") if file.suffix in (".ndjson", ".1")
    }
    assert report.after_bytes is not None
    assert sum(sizes) <= report.after_bytes <= (policy.max_total_bytes or 10**9)
    for again in (store, make()):
        kept = sorted([*await again.list_events(), *await again.list_audits()], key=records.index)
        assert kept == shown
        assert not (await again.scan()).has_anomalies
    assert (await store.compact()).removed_records == 0


@one_loop
async def test_promise_08_memory_does_not_grow_with_the_file(path, line, start):
    with path.open("wb") as file:
        for first in range(1, 200_001, 10_000):
            file.write(b"".join(line(number) for number in range(first, first + 10_000)))
    size = path.stat().st_size
    process = start(
        """
        def peak():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        async def main():
            store = JsonFilePersistence(path, RetentionPolicy(max_records=100_000))
            await store.list_events(limit=1)
            before = peak()
            assert not (await store.scan()).has_anomalies
            await store.compact()
            await store.list_events(limit=10, event_type="ActorStarted")
            say(peak() - before)
        anyio.run(main)
        """,
        path,
    )
    output, _ = process.communicate(timeout=120)
    if not output:
        pytest.skip("no /proc to measure with")
    assert path.stat().st_size < size * 0.51
    assert int(output) < 8_000  # KiB; the file has 34 MB


async def test_promise_08_writers_go_on_while_records_are_checked(path, line, event, monkeypatch):
    from papyra_json._maintenance import scanner

    many = 10_000
    path.write_bytes(b"".join(line(number) for number in range(1, many + 1)))
    store = JsonFilePersistence(path, RetentionPolicy(max_records=100))
    await store.record_event(event(many + 1))
    reached, go, blocks = threading.Event(), threading.Event(), []
    real = scanner.Scanner._all_well

    def slow(self, lines):
        blocks.append(len(lines))
        reached.set()
        go.wait(60)
        return real(self, lines)

    monkeypatch.setattr(scanner.Scanner, "_all_well", slow)
    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            group.start_soon(store.compact)
            await anyio.to_thread.run_sync(reached.wait)
            await store.record_event(event(many + 2))  # would wait for the lock
            assert (await store.list_events(limit=1)) == [event(many + 2)]
            go.set()
    assert sum(blocks) < many + 10  # what was checked before is not checked again
    assert path.read_bytes() == b"".join(line(number) for number in range(many - 97, many + 3))
    assert not (await store.scan()).has_anomalies
    await store.aclose()
