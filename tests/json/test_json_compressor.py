"""Full files are compressed in a thread, whatever happens to them meanwhile."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from papyra.persistence import RetentionPolicy
from papyra.persistence.files import try_locked
from papyra_json import RotatingFilePersistence
from papyra_json._fileset.names import FileSet
from papyra_json._fileset.rotation import remove_temporaries
from papyra_json._maintenance.compressor import Compressor
from papyra_json._segment.codec import codec_for
from papyra_json._segment.writer import Packer

from .._loops import one_loop
from ._compressed import compressed, names, until
from ._records import numbers


@pytest.fixture
def held(monkeypatch):
    """Hold every packing at its end until it is let go of."""
    reached, going = threading.Event(), threading.Event()
    real = Packer.finish

    def finish(self):
        reached.set()
        assert going.wait(60)
        real(self)

    monkeypatch.setattr(Packer, "finish", finish)
    yield reached, going
    going.set()


async def test_a_file_that_was_rotated_on_is_compressed_where_it_is_then(path, event, held):
    store = RotatingFilePersistence(path, max_bytes=900, max_files=9, compress="gzip")
    await store.record_batch([event(number) for number in range(6)])
    await until(held[0].is_set)
    await store.record_batch([event(number) for number in range(6, 16)])
    assert {".1", ".2", ".3"} <= set(names(path))
    held[1].set()
    await compressed(path)
    assert await numbers(store) == list(range(16))
    assert not (await store.scan()).has_anomalies
    await store.aclose()


@pytest.mark.parametrize("what", ["compacted", "removed", "appended to"])
async def test_a_file_that_changed_meanwhile_is_not_replaced(path, line, event, held, what):
    store = RotatingFilePersistence(
        path, max_bytes=900, retention_policy=RetentionPolicy(max_records=4), compress="gzip"
    )
    await store.record_batch([event(number) for number in range(6)])
    await until(held[0].is_set)
    full = path.with_name("facts.ndjson.1")
    if what == "compacted":
        await store.compact()
    elif what == "removed":
        full.unlink()
    else:
        with full.open("ab") as file:
            file.write(line(100, 7))
    left = await numbers(store)
    held[1].set()
    await until(lambda: not any("tmp" in name for name in names(path)))
    assert await numbers(store) == left
    await store.aclose()


async def test_a_store_that_is_closed_drops_what_it_compresses(path, event, monkeypatch):
    reached = threading.Event()
    real = Packer.write
    stores: list[RotatingFilePersistence] = []

    def write(self, content):
        reached.set()
        while not stores[0]._appender._compressor._stopped:
            pass
        real(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(Packer, "write", write)
        stores.append(RotatingFilePersistence(path, max_bytes=600_000, compress="gzip"))
        await stores[0].record_batch([event(number) for number in range(4000)])
        await until(reached.is_set)
        with anyio.fail_after(120):
            await stores[0].aclose()
    assert names(path) == ["", ".1", ".lock"]
    store = RotatingFilePersistence(path, max_bytes=600_000, compress="gzip")
    await store.record_event(event(4000))  # the next writer does it
    await compressed(path)
    assert await numbers(store) == list(range(4001))
    await store.aclose()
    assert names(path) == ["", ".1.gz", ".lock"]


async def test_a_scan_takes_no_file_for_two_that_gets_its_new_name_meanwhile(path, line, monkeypatch):
    full, packed = path.with_name("facts.ndjson.1"), path.with_name("facts.ndjson.1.gz")
    full.write_bytes(line(1))
    path.write_bytes(line(2))
    files = FileSet(path, 5)
    real = Path.lstat

    def lstat(self):
        status = real(self)
        if self == full:
            full.rename(packed)
        return status

    with monkeypatch.context() as patched:
        patched.setattr(Path, "lstat", lstat)
        assert files.unexpected() == []
    full.write_bytes(line(1))
    assert files.unexpected() == [packed]


async def test_a_full_disk_leaves_the_plain_file(path, event, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "papyra"):
        patched.setattr(Packer, "finish", full)
        store = RotatingFilePersistence(path, max_bytes=900, compress="gzip")
        await store.record_batch([event(number) for number in range(6)])
        await until(lambda: caplog.records)
    assert "facts.ndjson.1 stays uncompressed ([Errno 28] No space left on device)" in caplog.text
    assert names(path) == ["", ".1", ".lock"]
    await store.record_batch([event(number) for number in range(6, 12)])
    await compressed(path)
    assert await numbers(store) == list(range(12))
    await store.aclose()


async def test_one_of_several_processes_compresses_a_file(path, event):
    store = RotatingFilePersistence(path, max_bytes=900)
    await store.record_batch([event(number) for number in range(6)])
    await store.aclose()
    full = path.with_name("facts.ndjson.1")
    compressor = Compressor(FileSet(path, 5), codec_for("gzip"))
    with full.open("rb") as file, try_locked(file.fileno()) as mine:
        assert mine
        compressor.look()
        await until(lambda: compressor._thread is None)
        assert names(path) == ["", ".1", ".lock"]
    compressor.look()
    await compressed(path)
    compressor.stop()


async def test_the_temporary_file_of_the_living_stays_and_that_of_the_dead_goes(path, event, held):
    store = RotatingFilePersistence(path, max_bytes=900, compress="gzip")
    await store.record_batch([event(number) for number in range(6)])
    await until(held[0].is_set)
    dead = path.with_name(".facts.ndjson.3.gz.tmp-0123")
    dead.write_bytes(b"")
    remove_temporaries(FileSet(path, 5))
    left = [name for name in names(path) if "tmp" in name]
    assert len(left) == 1
    assert not dead.exists()
    held[1].set()
    await compressed(path)
    assert await numbers(store) == list(range(6))
    await store.aclose()


FORKED = """
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from pathlib import Path
from papyra_json._segment.writer import Packer

reached, real = threading.Event(), Packer.finish
def finish(self):
    reached.set()
    threading.Event().wait()  # until the process is killed
Packer.finish = finish

store = RotatingFilePersistence(path, max_bytes=900, compress="gzip")
async def main():
    await store.record_batch([event(number) for number in range(6)])
anyio.run(main)
reached.wait()
if os.fork() == 0:
    say(os.getpid())
    signal.pause()
threading.Event().wait()
"""


async def test_a_forked_child_of_the_dead_holds_nothing_back(path, start):
    process = start(FORKED, path)
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        store = RotatingFilePersistence(path, max_bytes=900, compress="gzip")
        await store.record_event((await store.list_events())[-1])
        await compressed(path)
        await store.aclose()
    finally:
        os.kill(child, signal.SIGKILL)


async def test_who_follows_gets_every_record_once_while_files_are_compressed(path, event):
    store = RotatingFilePersistence(path, max_bytes=2000, max_files=50, compress="gzip")
    seen: list[int] = []

    async def follow() -> None:
        async for record in store.follow(limit=1):
            seen.append(record.payload["number"])  # noqa: PERF401 - it shall be seen at once

    await store.record_event(event(0))
    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await until(lambda: seen == [0])
            for first in range(1, 201, 10):
                await store.record_batch([event(number) for number in range(first, first + 10)])
                await compressed(path)
            await until(lambda: len(seen) > 200)
            await store.aclose()
    assert seen == list(range(201))


WRITER = """
async def main():
    store = RotatingFilePersistence(path, max_bytes=3000, max_files=300, compress="gzip")
    first = int(sys.argv[2])
    for number in range(first, first + 400, 5):
        await store.record_batch([event(number + one) for one in range(5)])
    await store.aclose()
anyio.run(main)
say("done")
"""


@one_loop
async def test_several_processes_lose_and_double_nothing(path, start):
    writers = [start(WRITER, path, first) for first in (0, 1000, 2000)]
    store = RotatingFilePersistence(path, max_bytes=3000, max_files=300, compress="gzip")
    seen = 0
    while any(writer.poll() is None for writer in writers):
        found = await numbers(store)
        for first in (0, 1000, 2000):
            own = [number for number in found if first <= number < first + 1000]
            assert own == list(range(first, first + len(own)))
        assert len(found) >= seen
        seen = len(found)
        assert not (await store.scan()).has_anomalies
        await store.compact()
    assert [writer.stdout.read() for writer in writers] == ["done\n"] * 3
    await store.record_event((await store.list_events())[-1])
    await compressed(path)
    assert len(await store.list_events()) == 1201
    assert not (await store.scan()).has_anomalies
    await store.aclose()


def _kill(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.json._packing_kills", *map(str, arguments)]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=280, check=False)


def test_killed_before_each_call_and_amid_each_write(quick_disk):
    done = _kill("sweep", quick_disk)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.removesuffix(" steps\n")) > 60


def test_killed_before_each_system_call(quick_disk):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed; the sweep over the calls of `os` covers the same steps")
    done = _kill("traced", quick_disk, strace)
    if "no tracing" in done.stderr:
        pytest.skip("tracing is not allowed here; the sweep over the calls of `os` covers the same steps")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.removesuffix(" system calls\n")) > 30  # how often a thread waits is luck
