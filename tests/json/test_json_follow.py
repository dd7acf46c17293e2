"""Following a store: each new record once and in order, whatever becomes of the files."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistedEvent, PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence
from papyra_json._fileset import snapshot
from papyra_json._fileset.lock import SetLock
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance.operations import compact
from papyra_json._read import follow as _follow
from papyra_json._read.follow import follow
from papyra_json._record.encode import encode
from papyra_json._segment.segment import Segment

DATA = Path(__file__).parent / "data"
REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)


def _number(record: object) -> int:
    assert isinstance(record, PersistedEvent)
    number = record.payload["number"]
    assert isinstance(number, int)
    return number


async def _take(records: AsyncIterator[object], count: int) -> list[int]:
    with anyio.fail_after(120):
        return [_number(await anext(records)) for _ in range(count)]


class Looks:
    """A follower that looks on demand."""

    def __init__(self, path: Path, limit: int = 0, max_files: int = 1) -> None:
        self.blocks = follow(FileSet(path, max_files), limit, lambda _: True, RetentionPolicy(), 0.0, Work())
        self.first = list(map(_number, next(self.blocks)))

    def look(self) -> list[int]:
        found: list[int] = []
        while block := next(self.blocks):
            found += map(_number, block)
        return found

    def close(self) -> None:
        self.blocks.close()


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def _open_files() -> int:
    gc.collect()  # what other tests have left is closed at any time otherwise
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - names are all that is wanted


async def _until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(120):
        while not holds():  # noqa: ASYNC110 - no event says that files are opened and closed
            await anyio.sleep(0.001)


# -- by way of the backend


async def test_the_newest_come_first_then_each_new_one_and_the_last_at_the_close(path, event):
    store = JsonFilePersistence(path)
    await store.record_batch([event(number) for number in range(5)])
    async with aclosing(store.follow(limit=2)) as records:
        assert await _take(records, 2) == [3, 4]
        await store.record_batch([event(5), event(6)])
        assert await _take(records, 2) == [5, 6]
        await store.record_event(event(7))
        await store.aclose()
        with anyio.fail_after(120):
            assert [_number(record) async for record in records] == [7]
    with pytest.raises(PersistenceError, match="closed"):
        await anext(store.follow())


async def test_a_file_that_comes_later_is_followed_from_its_start(tmp_path, event, monkeypatch):
    path = tmp_path / "later" / "facts.ndjson"
    reader, writer = JsonFilePersistence(path), JsonFilePersistence(path)
    looked = threading.Event()
    real = snapshot.open_unlocked

    def open_unlocked(files: FileSet, **options: bool) -> snapshot.Snapshot:
        looked.set()
        return real(files, **options)

    monkeypatch.setattr(snapshot, "open_unlocked", open_unlocked)
    async with anyio.create_task_group() as group, aclosing(reader.follow(limit=9)) as records:

        async def write() -> None:
            assert await anyio.to_thread.run_sync(looked.wait, 60)
            assert not path.parent.exists()
            await writer.record_batch([event(0), event(1)])

        group.start_soon(write)
        assert await _take(records, 2) == [0, 1]
        await writer.record_event(event(2))
        assert await _take(records, 1) == [2]
    await writer.aclose()


async def test_wanted_chooses_in_a_worker_thread(path, event):
    store = JsonFilePersistence(path)
    threads: set[int] = set()

    def wanted(record: object) -> bool:
        threads.add(threading.get_ident())
        return _number(record) % 10 == 0

    await store.record_batch([event(number) for number in range(3000)])
    async with aclosing(store.follow(limit=3, wanted=wanted)) as records:
        assert await _take(records, 3) == [2970, 2980, 2990]
        await store.record_batch([event(number) for number in range(3000, 9000)])
        assert await _take(records, 600) == list(range(3000, 9000, 10))
    assert threading.get_ident() not in threads
    await store.aclose()


async def test_what_wanted_raises_comes_out(path, event):
    store = JsonFilePersistence(path)
    await store.record_event(event(0))

    def wanted(_record: object) -> bool:
        raise OSError("a filter that fails")

    with pytest.raises(OSError, match="a filter that fails"):
        await anext(store.follow(limit=1, wanted=wanted))
    await store.aclose()


async def test_the_first_records_obey_retention(path, line):
    path.write_bytes(b"".join(map(line, range(1, 9))))
    store = JsonFilePersistence(path, RetentionPolicy(max_records=3))
    async with aclosing(store.follow(limit=5)) as records:
        assert await _take(records, 3) == [6, 7, 8]
    with pytest.raises(ValueError, match="-1"):
        await anext(store.follow(limit=-1))


@pytest.mark.parametrize("drawn", [0, 1, 2500])
async def test_who_leaves_early_leaves_no_file_open(path, line, drawn):
    path.write_bytes(b"".join(map(line, range(1, 3001))))
    store = JsonFilePersistence(path)
    before = _open_files()
    for records in (store.stream(), store.follow(limit=3000)):
        async with aclosing(records):
            await _take(records, drawn)
        assert _open_files() == before
    with anyio.move_on_after(0.3) as scope:
        async with aclosing(store.follow()) as records:
            await anext(records)
    assert scope.cancelled_caught
    await _until(lambda: _open_files() == before)  # the thread may be amid a look


async def test_a_follower_that_waits_for_the_lock_can_be_cancelled(path, line, start):
    path.write_bytes(line(1))
    holder = start(
        """
        from pathlib import Path
        from papyra_json._fileset.lock import SetLock
        with SetLock(Path(path)).exclusive():
            say("held")
            signal.pause()
        """,
        path,
    )
    assert holder.stdout.readline() == "held\n"
    store = JsonFilePersistence(path)
    before = _open_files()
    with anyio.fail_after(120), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group, aclosing(store.follow()) as records:

            async def cancel() -> None:
                await _until(lambda: _open_files() != before)  # the lock file is open
                scope.cancel()

            group.start_soon(cancel)
            await anext(records)
    assert scope.cancelled_caught
    await _until(lambda: _open_files() == before)  # the thread has ended


# -- torn tails


def test_a_line_without_its_newline_is_not_a_record_yet(path, line):
    path.write_bytes(line(1) + line(2)[:-1])
    with closing(Looks(path, limit=9)) as looks:
        assert looks.first == [1]
        assert looks.look() == []
        _append(path, b"\n")
        assert looks.look() == [2]
        _append(path, line(3)[:-1])
        assert looks.look() == []
        _append(path, b"\n" + line(4)[:20])
        assert looks.look() == [3]
        _append(path, line(4)[20:])
        assert looks.look() == [4]


@pytest.mark.parametrize("cut", [1, 2, 200])
async def test_a_tail_that_is_repaired_is_not_doubled(path, line, event, cut):
    """Even where what is torn was read before."""
    path.write_bytes(line(1) + line(2) + line(3))
    store = JsonFilePersistence(path)
    with closing(Looks(path)) as looks:
        _append(path, line(4))
        assert looks.look() == [4]
        os.truncate(path, path.stat().st_size - cut)
        assert looks.look() == []
        await store.record_event(event(5))
        assert looks.look() == [5]
        _append(path, b"torn")
        assert looks.look() == []
        await store.record_event(event(6))
        assert looks.look() == [6]
    await store.aclose()


def test_a_line_without_its_newline_is_a_record_where_nothing_is_appended_any_more(path, line):
    path.write_bytes(line(1))
    with closing(Looks(path)) as looks:
        _append(path, line(2)[:-1])
        path.rename(path.with_name("away"))
        assert looks.look() == [2]
        path.write_bytes(line(3) + line(4)[:-1])
        assert looks.look() == [3]


def test_a_record_that_is_glued_to_a_torn_one_is_none(path, line):
    path.write_bytes(line(1) + line(2))
    with closing(Looks(path)) as looks:
        os.truncate(path, path.stat().st_size - 1)
        _append(path, line(3) + line(4))
        assert looks.look() == [4]


class _Waiting(Work):
    """Tells that a thread waits, as it does for a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def check(self) -> None:
        super().check()
        self.waits.set()


def test_a_batch_that_is_taken_back_is_not_seen(path, line):
    path.write_bytes(line(1))
    work, found = _Waiting(), list[int]()
    lock = SetLock(path)
    with closing(follow(FileSet(path), 0, lambda _: True, RetentionPolicy(), 0.0, work)) as blocks:
        assert next(blocks) == []
        with lock.exclusive():
            _append(path, line(2))
            thread = threading.Thread(target=lambda: found.extend(map(_number, next(blocks))))
            thread.start()
            assert work.waits.wait(60)
            os.truncate(path, len(line(1)))  # the disk was full, or the like
        thread.join(60)
        _append(path, line(3, seq=2))
        found += map(_number, next(blocks))
    lock.close()
    assert found == [3]


# -- files that are replaced, moved and removed


async def test_compactions_and_recoveries_double_nothing_and_leave_nothing_out(path, event):
    def store(keep: int | None = None) -> JsonFilePersistence:
        return JsonFilePersistence(path, RetentionPolicy(max_records=keep))

    writer = store()
    await writer.record_batch([event(number) for number in range(10)])
    with closing(Looks(path, limit=1)) as looks:
        await writer.record_event(event(10))
        await store(3).compact()
        await writer.record_event(event(11))
        assert looks.look() == [10, 11]
        _append(path, b"garbage\n")
        await writer.record_event(event(12))
        await store().recover(REPAIR)
        await store(0).compact()  # what was not read yet is read all the same
        await writer.record_event(event(13))
        assert looks.look() == [12, 13]
        await store(0).compact()
        assert looks.look() == []
        await writer.record_event(event(14))
        await store().compact()
        assert looks.look() == [14]
    await writer.aclose()


@pytest.mark.parametrize("max_files", [1, 4])
def test_a_compaction_may_drop_the_last_of_what_was_read(path, line, event, max_files):
    """The clock was set back for a while, or another host's is slow.

    Then age takes the last records first.
    """
    hour = 3600.0
    files = FileSet(path, max_files)
    times = [*[2 * hour] * 900, *[0.0] * 600]

    def content(first, last):
        records = [event(number, timestamp=times[number]) for number in range(first, last)]
        return b"".join(encode(records, 1 + first))

    path.write_bytes(content(0, 1))
    with closing(Looks(path, max_files=max_files)) as looks:
        _append(path, content(1, 600))
        assert looks.look() == list(range(1, 600))
        if max_files > 1:
            path.rename(path.with_name("facts.ndjson.1"))
        _append(path, content(600, 1500))
        assert looks.look() == list(range(600, 1500))
        policy = RetentionPolicy(max_age_seconds=hour)
        report = compact(files, "json", policy, 2 * hour, Work(), dry_run=False)
        assert report.after_records == 900
        assert looks.look() == []
        _append(path, line(1500))
        assert looks.look() == [1500]


async def test_several_rotations_between_two_looks(path, event):
    store = RotatingFilePersistence(path, max_bytes=500, max_files=20)
    with closing(Looks(path, max_files=20)) as looks:
        for first in range(0, 60, 20):
            await store.record_batch([event(number) for number in range(first, first + 20)])
            assert looks.look() == list(range(first, first + 20))
    await store.aclose()


@pytest.mark.parametrize("max_files", [1, 2, 3])
async def test_a_file_that_was_rotated_out_is_read_to_its_end(path, event, max_files):
    store = RotatingFilePersistence(path, max_bytes=2000, max_files=max_files)
    await store.record_event(event(0))
    with closing(Looks(path, max_files=max_files)) as looks:
        numbers: list[int] = []
        await store.record_batch([event(number) for number in range(1, 60)])
        numbers = looks.look()
    own = [number for number in range(1, 60) if number in numbers]
    assert numbers == own
    assert numbers[0] == 1  # of the file that was the youngest at the last look, though it is gone
    assert numbers[-1] == 59
    await store.aclose()


def test_a_file_that_is_deleted_is_read_to_its_end(path, line):
    path.write_bytes(line(1))
    with closing(Looks(path)) as looks:
        _append(path, line(2) + line(3))
        path.unlink()
        assert looks.look() == [2, 3]
        assert looks.look() == []
        path.write_bytes(line(4, seq=1) + line(5, seq=2))
        assert looks.look() == [4, 5]


def test_a_deleted_file_whose_handle_is_stale_is_given_up(path, line, monkeypatch):
    path.write_bytes(line(1))
    with closing(Looks(path)) as looks:
        keep = path.open("rb")  # so that its number is not given out again
        inode, real = path.stat().st_ino, os.fstat
        path.unlink()

        def fstat(fd):
            status = real(fd)
            if status.st_ino == inode:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return status

        with monkeypatch.context() as patched:
            patched.setattr(os, "fstat", fstat)
            assert looks.look() == []
            path.write_bytes(line(2) + line(3))
            assert looks.look() == [2, 3]
        keep.close()


@pytest.mark.parametrize("records", [3, 1000])
def test_numbers_that_start_anew_after_a_move_are_new_records(path, line, records):
    """The youngest file is moved away; the next writer counts on from the older file."""
    path.with_name("facts.ndjson.1").write_bytes(b"".join(map(line, range(1, 400))))
    path.write_bytes(b"".join(map(line, range(400, 400 + records))))
    with closing(Looks(path, max_files=3)) as looks:
        path.rename(path.with_name("away"))
        assert looks.look() == []
        path.write_bytes(line(5000, seq=400) + line(5001, seq=401))
        assert looks.look() == [5000, 5001]
        path.with_name("facts.ndjson.1").unlink()
        path.rename(path.with_name("away"))
        path.write_bytes(line(5002, seq=1))
        assert looks.look() == [5002]


def test_a_file_that_comes_back_is_known(path, line):
    path.with_name("facts.ndjson.1").write_bytes(line(1) + line(2))
    path.write_bytes(line(3) + line(4))
    with closing(Looks(path, max_files=3)) as looks:
        path.rename(path.with_name("away"))
        assert looks.look() == []
        path.with_name("away").rename(path)
        assert looks.look() == []
        _append(path, line(5))
        assert looks.look() == [5]


def test_a_file_that_is_copied_and_truncated_starts_anew(path, line):
    path.write_bytes(line(1) + line(2) + line(3))
    with closing(Looks(path)) as looks:
        path.write_bytes(line(4, seq=1))
        assert looks.look() == [4]
        path.write_bytes(b"".join(line(number, seq=number - 4) for number in range(5, 50)))
        assert looks.look() == list(range(5, 50))


# -- files of the published package


def test_lines_without_numbers_are_followed_too(path, line):
    lines = (DATA / "published.ndjson").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    with closing(follow(FileSet(path), 0, lambda _: True, RetentionPolicy(), 0.0, Work())) as blocks:
        assert next(blocks) == []
        _append(path, lines[-2])
        assert len(next(blocks)) == 1
        assert next(blocks) == []
        copy = path.with_name("copy")  # replaced, as by a compaction that has dropped the oldest
        copy.write_bytes(b"".join(lines[3:]))
        copy.rename(path)
        assert len(next(blocks)) == 1
        assert next(blocks) == []


# -- what it costs


def test_nothing_new_costs_one_look_at_the_file(path, line, monkeypatch):
    path.write_bytes(line(1))
    with closing(Looks(path)) as looks:
        monkeypatch.setattr(_follow, "open_shared", lambda *_: pytest.fail("it opens the files"))
        assert [looks.look() for _ in range(10)] == [[]] * 10


def test_one_new_record_costs_the_same_however_long_the_file_is(path, line, monkeypatch):
    path.write_bytes(b"".join(map(line, range(1, 20_000))))
    read: list[int] = []
    real = Segment.read_at

    def counting(self: Segment, size: int, offset: int) -> bytes:
        read.append(size)
        return real(self, size, offset)

    monkeypatch.setattr(Segment, "read_at", counting)
    with closing(Looks(path, limit=10)) as looks:
        assert len(looks.first) == 10
        assert sum(read) < 200_000  # of 3.4 million
        read.clear()
        _append(path, line(20_000))
        assert looks.look() == [20_000]
        assert sum(read) < 20_000


# -- other processes

WRITE = """
async def main():
    store = RotatingFilePersistence(path, max_bytes=50_000, max_files=500)
    for first in range(0, int(sys.argv[2]), 20):
        await store.record_batch([event(number) for number in range(first, first + 20)])
    await store.aclose()
anyio.run(main)
"""

COMPACT = """
async def main():
    store = RotatingFilePersistence(path, max_bytes=50_000, max_files=500, retention_policy=RetentionPolicy(max_records=10**6))
    say("ready")
    while True:
        await store.compact()
anyio.run(main)
"""

REPLACE = """
import shutil, time
from pathlib import Path
from papyra_json._fileset.lock import SetLock

path = Path(path)
say("ready")
while True:
    with SetLock(path).exclusive():  # what a compaction does to a file, but to each of the youngest, each time
        for one in (path.with_name(path.name + ".1"), path):
            if one.exists():
                copy = path.with_name("copy")
                shutil.copyfile(one, copy)
                copy.replace(one)
    time.sleep(0.01)
"""


@pytest.mark.parametrize("many", [5_000, pytest.param(20_000, marks=pytest.mark.sweep)])
async def test_every_record_of_a_busy_set_comes_once_and_in_order(path, start, many):
    reader = RotatingFilePersistence(path, max_files=500)
    for program in (COMPACT, REPLACE):
        assert start(program, path).stdout.readline() == "ready\n"
    writer = start(WRITE, path, many)
    async with aclosing(reader.follow(limit=many)) as records:
        with anyio.fail_after(240):
            assert [_number(await anext(records)) for _ in range(many)] == list(range(many))
    assert writer.wait() == 0


# -- streams


STREAM = """
import resource
async def main():
    store = JsonFilePersistence(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0
    async for record in store.stream():
        count += 1
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    say(count, (after - before) * (1 if sys.platform == "darwin" else 1024))
anyio.run(main)
"""


def test_a_stream_needs_the_same_memory_however_long_the_file_is(path, line, start):
    one = line(1).replace(b'"seq":1,', b"").rpartition(b',"crc"')[0] + b"}\n"
    grown: list[int] = []
    for many in (20_000, 200_000):
        path.write_bytes(one.replace(b',"seq":1', b"") * many)
        streaming = start(STREAM, path)
        count, size = map(int, streaming.stdout.readline().split())
        assert count == many
        grown.append(size)
    assert grown[1] - grown[0] < 4_000_000  # of 27
