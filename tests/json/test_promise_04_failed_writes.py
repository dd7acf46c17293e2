"""Promise 4: a failed write rolls back; a failed sync closes the file for good."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil

import pytest

from papyra.exceptions import PersistenceError
from papyra_json import JsonFilePersistence, RotatingFilePersistence

from .._loops import one_loop


async def _numbers(path, make=JsonFilePersistence):
    store = make(path)
    assert not (await store.scan()).has_anomalies
    return [one.payload["number"] for one in await store.list_events()]


FULL = """
import resource
async def main():
    store = JsonFilePersistence(path)
    await store.record_batch([event(number) for number in range(10)])
    size = os.path.getsize(path)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    for extra in (0, 1, 100, 1000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + extra, unlimited[1]))
        try:
            await store.record_batch([event(100 + number) for number in range(50)])
        except Exception as error:
            say(type(error).__name__, os.path.getsize(path) - size, store.healthy)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    await store.record_event(event(10))
    say(store.metrics.write_errors, store.metrics.records_written)
    await store.aclose()
anyio.run(main)
"""


async def test_promise_04_a_file_at_its_limit_rolls_back(path, start):
    output, _ = start(FULL, path).communicate(timeout=120)
    assert output.splitlines() == ["StoreFull 0 True"] * 4 + ["4 11"]
    assert await _numbers(path) == list(range(11))


async def test_promise_04_a_full_disk_rolls_back_until_there_is_room(small_disk, event):
    path = small_disk / "facts"
    store = JsonFilePersistence(path)
    stored = 0
    with pytest.raises(PersistenceError, match="No space left"):  # noqa: PT012 - which of them fails is open
        while True:
            await store.record_batch([event(number) for number in range(stored, stored + 100)])
            stored += 100
    assert stored
    size = path.stat().st_size
    with pytest.raises(PersistenceError, match="No space left"):
        await store.record_batch([event(number) for number in range(1000)])
    assert path.stat().st_size == size
    (small_disk / "ballast").write_bytes(b"")  # a name costs nothing
    assert not (await store.scan()).has_anomalies
    await store.record_event(event(stored))  # what is small still fits
    assert await _numbers(path) == list(range(stored + 1))
    with pytest.raises(PersistenceError, match="No space left"):
        await store.record_batch([event(number, payload={"text": "x" * 1000}) for number in range(1000)])
    path.write_bytes(b"")  # somebody makes room
    await store.record_event(event(0))
    assert await _numbers(path) == [0]
    await store.aclose()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("part", [0, 1, 50, 170])
async def test_promise_04_a_short_write_rolls_back(path, event, monkeypatch, code, part):
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    real, calls = os.write, []

    def write(fd, data):
        if os.fstat(fd).st_ino != path.stat().st_ino:
            return real(fd, data)  # the event loop wakes itself by a write
        calls.append(len(data))
        if len(calls) == 1 and part:
            return real(fd, bytes(data)[:part])
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(PersistenceError, match="could not be written"):
            await store.record_batch([event(1), event(2)])
    assert await _numbers(path) == [0]
    await store.record_event(event(3))
    await store.aclose()
    assert await _numbers(path) == [0, 3]
    assert store.metrics.write_errors == 1


async def test_promise_04_short_writes_that_go_on_are_not_a_failure(path, event, monkeypatch):
    real = os.write

    def write(fd, data):
        return real(fd, bytes(data)[:7] if len(data) > 100 else data)

    monkeypatch.setattr(os, "write", write)
    store = JsonFilePersistence(path)
    await store.record_batch([event(number) for number in range(20)])
    await store.aclose()
    assert await _numbers(path) == list(range(20))


# -- failing syncs


class _Syncs:
    """Let the next syncs fail, or those that a plan names."""

    def __init__(self, monkeypatch) -> None:
        self.failing = 0
        self.plan: list[bool] = []
        self.failed = 0
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, fd: int) -> None:
        if self.failing or (self.plan and self.plan.pop(0)):
            self.failing = max(0, self.failing - 1)
            self.failed += 1
            raise OSError(errno.EIO, "Input/output error")
        self._real(fd)


@pytest.fixture
def syncs(monkeypatch):
    return _Syncs(monkeypatch)


@pytest.mark.parametrize("make", [JsonFilePersistence, RotatingFilePersistence])
async def test_promise_04_after_a_failed_sync_a_fresh_file_goes_on(path, event, syncs, make):
    store = make(path, durability="always")
    await store.record_event(event(0))
    old = path.stat().st_ino
    keep = path.open("rb")  # so that its number is not given out again
    syncs.failing = 1
    await store.record_event(event(1))  # stored, because the fresh file was synced
    assert not store.healthy
    assert path.stat().st_ino != old
    await store.record_event(event(2))
    assert await _numbers(path, make) == [0, 1, 2]
    await store.aclose()
    assert not store.healthy
    keep.close()


async def test_promise_04_a_fresh_file_holds_only_what_verifies(path, event, line, syncs):
    store = JsonFilePersistence(path, durability="always")
    await store.record_batch([event(number) for number in range(1, 5)])
    path.write_bytes(path.read_bytes().replace(b"local:2", b"local:X"))
    syncs.failing = 1
    await store.record_event(event(5))
    assert path.read_bytes() == line(1) + line(3) + line(4) + line(5)
    assert await _numbers(path) == [1, 3, 4, 5]
    (aside,) = path.parent.glob("*.quarantine-*")
    assert b"local:X" in aside.read_bytes()
    await store.aclose()


@pytest.mark.parametrize("failing", range(2, 6))
async def test_promise_04_if_the_fresh_file_fails_too_the_call_fails(path, event, syncs, failing):
    store = JsonFilePersistence(path, durability="always")
    await store.record_event(event(0))
    old, keep = path.stat().st_ino, path.open("rb")
    syncs.failing = failing
    stored = [0]
    for number in range(1, 10):
        try:
            await store.record_event(event(number))
        except PersistenceError:
            assert path.stat().st_ino == old or syncs.failing == 0
        else:
            stored.append(number)
    assert stored[-1] == 9
    assert len(stored) < 10
    assert path.stat().st_ino != old
    assert await _numbers(path) == stored
    assert not store.healthy
    await store.aclose()
    keep.close()


@one_loop
@pytest.mark.parametrize("durability", ["always", "interval"])
async def test_promise_04_whichever_syncs_fail_what_was_acknowledged_is_there_and_nothing_else(
    tmp_path, event, syncs, durability
):
    """Every pattern of six successes and failures, over files, folders, fresh files and notes."""
    for pattern in itertools.product([False, True], repeat=6):
        path = tmp_path / "".join("x" if fails else "-" for fails in pattern) / "facts"
        store = RotatingFilePersistence(
            path, max_bytes=600, max_files=9, durability=durability, fsync_interval=1000
        )
        syncs.plan, syncs.failed = [], 0
        await store.record_event(event(0))
        syncs.plan = list(pattern)
        stored = [0]
        for number in range(1, 12):
            try:
                await store.record_event(event(number))
            except PersistenceError:
                continue
            stored.append(number)
        while syncs.plan:
            with contextlib.suppress(PersistenceError):
                await store.flush()
                break
        assert await _numbers(path, lambda path: RotatingFilePersistence(path, max_files=9)) == stored
        assert store.healthy == (syncs.failed == 0)
        syncs.plan = []
        await store.aclose()


async def test_promise_04_records_that_the_disk_has_dropped_fail_the_call(path, event, line, monkeypatch):
    """A failed sync may leave fewer bytes in the file than were there before."""
    store = JsonFilePersistence(path, durability="interval", fsync_interval=1000)
    await store.record_batch([event(number) for number in range(1, 4)])
    await store.flush()
    await store.record_event(event(4))
    real = os.fsync

    def fsync(fd):
        if os.fstat(fd).st_ino == inode:
            os.truncate(path, len(line(1)))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    inode = path.stat().st_ino
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(PersistenceError, match=r"records of .* were lost when it failed to sync"):
            await store.flush()
    assert not store.healthy
    await store.record_event(event(5))
    assert await _numbers(path) == [1, 5]
    await store.aclose()


async def test_promise_04_a_failed_sync_of_an_interval_is_not_forgotten(path, event, syncs):
    store = JsonFilePersistence(path, durability="interval", fsync_interval=1000)
    await store.record_event(event(0))
    syncs.failing = 2
    with pytest.raises(PersistenceError, match="could not be synced"):
        await store.flush()
    assert not store.healthy
    await store.record_event(event(1))
    await store.flush()
    await store.aclose()
    assert await _numbers(path) == [0, 1]


async def test_promise_04_aclose_reports_a_failed_sync_and_closes_all_the_same(path, event, syncs):
    store = JsonFilePersistence(path, durability="interval", fsync_interval=1000)
    await store.record_event(event(0))
    syncs.failing = 99
    with pytest.raises(PersistenceError, match="could not be synced"):
        await store.aclose()
    await store.aclose()
    assert store.closed
    assert await _numbers(path) == [0]


async def test_promise_04_a_file_rotated_away_is_replaced_as_well(path, event, syncs):
    store = RotatingFilePersistence(
        path, max_bytes=1000, max_files=9, durability="interval", fsync_interval=1000
    )
    other = RotatingFilePersistence(path, max_bytes=1000, max_files=9)
    await store.record_event(event(0))
    for number in range(1, 10):
        await other.record_event(event(number))
    assert path.with_name("facts.ndjson.1").exists()
    syncs.failing = 1
    await store.record_event(event(10))
    assert not store.healthy
    assert await _numbers(path, RotatingFilePersistence) == list(range(11))
    await store.aclose()
    await other.aclose()


TRACED = """
async def main():
    store = JsonFilePersistence(path, durability="always")
    for number in range(8):
        try:
            await store.record_event(event(number))
        except Exception as error:
            say("failed", number)
        else:
            say("done", number)
    say("healthy" if store.healthy else "unhealthy", 0)
    await store.aclose()
anyio.run(main)
"""


@one_loop
@pytest.mark.parametrize("when", ["2", "3", "4..6", "4+"])
async def test_promise_04_failing_syncs_of_the_kernel(path, start, when):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    prefix = (
        strace,
        "-f",
        "-qq",
        "-o",
        os.devnull,
        "-e",
        "trace=fsync",
        "-e",
        f"inject=fsync:error=EIO:when={when}",
    )
    process = start(TRACED, path, prefix=prefix)
    output, _ = process.communicate(timeout=120)
    if process.returncode and not output:
        pytest.skip("tracing is not allowed here")
    said = [line.split() for line in output.splitlines()]
    assert ["unhealthy", "0"] in said
    done = [int(number) for word, number in said if word == "done"]
    assert await _numbers(path) == done
    if when != "4+":
        assert 7 in done
