"""How far a scan, a recovery and a compaction are, and that they can be ended at every step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.from_thread
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistedEvent, PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence
from papyra_json._file_persistence import FilePersistence

from .._loops import one_loop

REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)
QUARANTINE = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)

CALLS: dict[str, Callable[[FilePersistence, Callable[[int, int], object]], object]] = {
    "scan": lambda store, progress: store.scan(progress=progress),
    "repair": lambda store, progress: store.recover(REPAIR, progress=progress),
    "quarantine": lambda store, progress: store.recover(QUARANTINE, progress=progress),
    "dry recovery": lambda store, progress: store.recover(QUARANTINE, dry_run=True, progress=progress),
    "compact": lambda store, progress: store.compact(progress=progress),
    "dry compaction": lambda store, progress: store.compact(dry_run=True, progress=progress),
}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and copy in blocks of two lines or so."""
    monkeypatch.setattr("papyra_json._record.lines.BLOCK_BYTES", 400)
    monkeypatch.setattr("papyra_json._fs.files.COPY_BYTES", 400)


def _fill(path: Path, line: Callable[..., bytes]) -> None:
    """Make a damaged file of 30 lines, of which 27 are records."""
    lines = [line(number) for number in range(1, 31)]
    lines[10] = b"garbage\n"
    lines[11] = lines[11].replace(b"Started", b"Stopped")
    lines[29] = lines[29][:-20]
    path.write_bytes(b"".join(lines))


def _store(path: Path) -> JsonFilePersistence:
    return JsonFilePersistence(path, RetentionPolicy(max_records=20))


class _Stop(Exception):
    """What a callback raises."""


@pytest.mark.parametrize("call", CALLS)
async def test_progress_counts_up_to_the_end(path, line, small_blocks, call):
    _fill(path, line)
    size = path.stat().st_size
    seen: list[tuple[int, int]] = []
    await CALLS[call](_store(path), lambda *now: seen.append(now))
    done = [now[0] for now in seen]
    assert done == sorted(set(done))
    assert len(seen) > 5
    assert done[0] < size / 5
    # A torn tail may be anything a moment later, so such a file is read again under the lock.
    totals = [size] if call == "scan" or "dry" in call else [2 * size, 3 * size]
    assert list(dict.fromkeys(now[1] for now in seen)) == totals
    assert done[-1] == totals[-1]


async def test_progress_covers_every_file_and_the_copying(path, event, small_blocks):
    store = RotatingFilePersistence(
        path, max_bytes=2000, max_files=9, retention_policy=RetentionPolicy(max_records=35)
    )
    await store.record_batch([event(number) for number in range(60)])
    present = [file for file in path.parent.iterdir() if file.suffix != ".lock"]
    size = sum(file.stat().st_size for file in present)
    assert len(present) >= 5
    seen: list[tuple[int, int]] = []
    await store.scan(progress=lambda *now: seen.append(now))
    assert seen[-1] == (size, size)
    assert len(seen) > size / 800
    seen.clear()
    report = await store.compact(progress=lambda *now: seen.append(now))
    assert seen[-1] == (2 * size, 2 * size)
    copied = [now for now in seen if now[0] > size]
    assert report.removed_records == 25
    assert len(copied) >= 2  # one file keeps a part of it, and is copied
    await store.aclose()


async def test_an_empty_store_has_no_progress(path):
    seen: list[tuple[int, int]] = []
    for call in CALLS.values():
        await call(_store(path), lambda *now: seen.append(now))
    assert seen == []


async def test_what_is_appended_meanwhile_counts_too(path, line, event, small_blocks):
    path.write_bytes(b"".join(map(line, range(1, 31))))
    size = path.stat().st_size
    other = JsonFilePersistence(path)
    seen: list[tuple[int, int]] = []

    def progress(*now: int) -> None:
        if not seen:
            anyio.from_thread.run(other.record_event, event(31))
        seen.append(now)

    report = await _store(path).compact(progress=progress)
    grown = size + len(line(31))
    assert (report.before_records, report.before_bytes) == (31, grown)
    assert seen[0][1] == 2 * size
    assert seen[-1] == (2 * grown, 2 * grown)
    assert [now[0] for now in seen] == sorted(now[0] for now in seen)
    await other.aclose()


def _check_whole_now(path: Path, before: bytes, after: bytes) -> None:
    assert path.read_bytes() in (before, after)
    assert list(path.parent.glob("*.tmp-*")) == []


async def _check_whole(
    path: Path, line: Callable[..., bytes], event: Callable[..., PersistedEvent], before: bytes, call: str
) -> None:
    """The file is the old one or the new one, nothing lies about, and all goes on."""
    numbers = [number for number in range(1, 30) if number not in (11, 12)]
    kept = numbers[-20:] if call == "compact" else numbers
    after = b"".join(map(line, kept))
    _check_whole_now(path, before, after)
    store = JsonFilePersistence(path)
    await store.record_event(event(31))
    records = [record.payload["number"] for record in await store.list_events()]
    assert records in ([*numbers, 31], [*kept, 31])
    await store.recover(QUARANTINE)
    assert not (await store.scan()).has_anomalies
    await store.aclose()


@one_loop
@pytest.mark.parametrize(
    ("call", "error"),
    [*((call, _Stop("enough")) for call in CALLS), ("compact", BrokenPipeError(32, "nobody listens"))],
)
async def test_a_callback_that_raises_ends_the_work_wherever_it_is(
    tmp_path, line, event, small_blocks, call, error
):
    calls = 0

    def progress(_done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == limit:
            raise error

    for limit in range(1, 1000):
        path = tmp_path / str(limit) / "facts.ndjson"
        path.parent.mkdir()
        _fill(path, line)
        before, calls = path.read_bytes(), 0
        store = _store(path)
        caught = None
        try:
            await CALLS[call](store, progress)
        except type(error) as raised:
            caught = raised
        if caught is None:
            break
        assert caught is error
        assert calls == limit
        await _check_whole(path, line, event, before, call)
    assert calls == limit - 1 > 5


@pytest.mark.parametrize(
    ("call", "limit"),
    [("scan", 1), ("scan", 6), ("repair", 12), *(("compact", limit) for limit in (1, 12, 13, 14, 21))],
)
async def test_a_cancelled_caller_ends_the_work_at_its_next_step(
    path, line, event, small_blocks, call, limit
):
    path.write_bytes(b"".join(map(line, range(1, 31))))
    before = path.read_bytes()
    store = JsonFilePersistence(path, RetentionPolicy(max_records=20))
    calls = 0
    left = threading.Event()

    def progress(_done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == limit:
            anyio.from_thread.run_sync(scope.cancel)
            assert left.wait(60)

    with anyio.fail_after(120), anyio.CancelScope() as scope:
        await CALLS[call](store, progress)
    assert scope.cancelled_caught
    left.set()
    other = JsonFilePersistence(path)
    with anyio.fail_after(120):
        await other.record_event(event(31))  # waits until the lock is free
    assert path.read_bytes() == before + line(31)
    assert calls == limit
    assert list(path.parent.glob("*.tmp-*")) == []
    assert not (await other.scan()).has_anomalies
    await other.aclose()


# -- a dry recovery


def _state(folder: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, content)
    return found


def _torn(path: Path, line: Callable[..., bytes]) -> None:
    path.write_bytes(line(1) + line(2)[:-9])


def _lacks_newline(path: Path, line: Callable[..., bytes]) -> None:
    path.write_bytes(line(1) + line(2)[:-1])


def _no_record(path: Path, line: Callable[..., bytes]) -> None:
    path.write_bytes(b"a letter\nto somebody\n")


def _gap(path: Path, line: Callable[..., bytes]) -> None:
    path.write_bytes(line(1) + line(4))


def _set_of_all(path: Path, line: Callable[..., bytes]) -> None:
    _fill(path, line)
    path.with_name("facts.ndjson.1").write_bytes(b"\0" * 50 + b"\n" + line(1))
    path.with_name("facts.ndjson.2").write_bytes(b"nothing of ours")
    path.with_name("facts.ndjson.3").symlink_to("elsewhere")
    path.with_name("facts.ndjson.7").write_bytes(b"beyond the set")
    path.with_name(".facts.ndjson.tmp-0123456789abcdef").write_bytes(b"left by a crash")
    path.with_name("facts.ndjson.lock").write_bytes(b"")


DAMAGES = [_fill, _torn, _lacks_newline, _no_record, _gap, _set_of_all]


@pytest.mark.parametrize("aside", [None, "aside"])
@pytest.mark.parametrize("config", [REPAIR, QUARANTINE])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_dry_recovery_tells_what_a_real_one_does_and_changes_nothing(
    tmp_path, line, damage, config, aside
):
    path = tmp_path / "store" / "facts.ndjson"
    path.parent.mkdir()
    damage(path, line)
    config = PersistenceRecoveryConfig(config.mode, None if aside is None else tmp_path / aside)
    store = RotatingFilePersistence(path, max_files=5)
    before = _state(tmp_path)
    dry = await store.recover(config, dry_run=True)
    assert _state(tmp_path) == before
    assert store.metrics.recoveries == 0
    real = await store.recover(config)
    assert dry.scan == real.scan
    assert dry.repaired_files == real.repaired_files
    assert [_stem(name) for name in dry.quarantined_files] == [_stem(name) for name in real.quarantined_files]
    again = await store.recover(config, dry_run=True)
    assert (again.repaired_files, again.quarantined_files) == ((), ())
    assert store.metrics.recoveries == 1


def _stem(name: str) -> tuple[str, str]:
    """Return a quarantine file's name without the time, and what comes after."""
    before, _, after = name.partition(".quarantine-")
    return before, after.partition("/")[2]


async def test_a_dry_recovery_names_no_file_that_is_there(path, line):
    _torn(path, line)
    store = JsonFilePersistence(path)
    (first,) = (await store.recover(QUARANTINE, dry_run=True)).quarantined_files
    (path.parent / first).write_bytes(b"kept")
    (second,) = (await store.recover(QUARANTINE, dry_run=True)).quarantined_files
    assert first != second


async def test_a_dry_recovery_of_nothing_makes_nothing(path):
    report = await JsonFilePersistence(path).recover(QUARANTINE, dry_run=True)
    assert not report.scan.has_anomalies
    assert list(path.parent.iterdir()) == []


async def test_a_dry_recovery_of_a_closed_store_is_refused(path):
    store = JsonFilePersistence(path)
    await store.aclose()
    with pytest.raises(PersistenceError, match="closed"):
        await store.recover(QUARANTINE, dry_run=True)
