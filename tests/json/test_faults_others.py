"""Other programs change the files while stores are open: logrotate, editors, people.

Later records are in the file that is there.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import Counter
from itertools import count

import anyio
import anyio.to_thread
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence

from ._scenarios import plain_numbers


@pytest.fixture
def path(quick_disk):
    return quick_disk / "folder" / "facts"


def _rename(path):
    path.rename(path.with_name("facts-20261124"))


def _rename_and_create(path):
    _rename(path)
    path.touch(0o640)


def _copy_and_truncate(path):
    shutil.copy(path, path.with_name("facts-20261124"))
    os.truncate(path, 0)


def _remove(path):
    path.unlink()


def _remove_with_lock(path):
    path.unlink()
    path.with_name("facts.lock").unlink()


def _remove_folder(path):
    shutil.rmtree(path.parent)


def _move_folder(path):
    path.parent.rename(path.parent.with_name("moved"))


def _write_anew(path):
    """As an editor saves: to another file, which takes the place of the first."""
    content = path.read_bytes()
    draft = path.with_name("draft")
    draft.write_bytes(content[: content.index(b"\n") + 1])
    draft.replace(path)


@pytest.mark.parametrize("make", [JsonFilePersistence, RotatingFilePersistence])
@pytest.mark.parametrize(
    ("meddle", "kept"),
    [
        (_rename, 0), (_rename_and_create, 0), (_copy_and_truncate, 0), (_remove, 0), (_remove_with_lock, 0),
        (_remove_folder, 0), (_move_folder, 0), (_write_anew, 1),
    ],
)  # fmt: skip
async def test_faults_what_comes_after_goes_to_the_file_that_is_there(path, event, make, meddle, kept):
    stores = [make(path), make(path, durability="always")]
    expected: list[int] = []
    for number in range(9):
        if number % 3 == 2:
            meddle(path)
            shutil.rmtree(path.parent.with_name("moved"), ignore_errors=True)
            expected = expected[:kept]
        await stores[number % 2].record_event(event(number))
        expected.append(number)
        assert [one.payload["number"] for one in await stores[0].list_events()] == expected
        assert path.read_bytes().count(b"\0") == 0
        assert not (await stores[1].scan()).has_anomalies
    for store in stores:
        assert store.healthy
        await store.aclose()


@pytest.mark.parametrize("create", [False, True])
async def test_faults_renamed_away_again_and_again_under_a_writer(path, event, create):
    """As logrotate does, with and without ``create``: each record is in one of the files, in order."""
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    ended = threading.Event()

    def rotate() -> int:
        for number in count():
            if ended.is_set():
                return number
            if path.exists() and path.stat().st_size:
                path.rename(path.with_name(f"facts-{number:06}"))
                if create:
                    path.touch()
        raise AssertionError

    async def write() -> None:
        for number in range(1, 400):
            await store.record_event(event(number))
        ended.set()

    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            group.start_soon(write)
            await anyio.to_thread.run_sync(rotate)
    await store.aclose()
    files = [*sorted(path.parent.glob("facts-*")), *([path] if path.exists() else [])]
    assert len(files) > 2
    assert [number for file in files for number in plain_numbers(file, 1)] == list(range(400))
    for file in files:
        assert not (await JsonFilePersistence(file).scan()).has_anomalies


async def test_faults_what_is_numbered_beside_a_single_file_stays(path, event):
    """As logrotate names the files that it moves away, or a store of many whose path was opened as a single
    file.
    """
    for number in (0, 1):
        store = JsonFilePersistence(path)
        await store.record_event(event(number))
        await store.aclose()
        path.rename(path.with_name(f"facts.ndjson.{number + 1}"))
    store = JsonFilePersistence(path)
    await store.record_event(event(2))
    await store.aclose()
    files = [path.with_name(f"facts.ndjson.{number}") for number in (1, 2)]
    assert [plain_numbers(file, 1) for file in files] == [[0], [1]]


async def test_faults_the_lock_goes_away_again_and_again(path, event):
    """The holder of a lock file that was removed finishes; the next ones agree on a new one."""
    stores = [JsonFilePersistence(path) for _ in range(3)]
    for store in stores:
        await store.record_event(event(0))
    ended = threading.Event()

    def remove() -> None:
        while not ended.is_set():
            path.with_name("facts.lock").unlink(missing_ok=True)

    async def write(store, first) -> None:
        for number in range(first, first + 100):
            await store.record_event(event(number))

    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, remove)
            async with anyio.create_task_group() as writers:
                for number, store in enumerate(stores, 1):
                    writers.start_soon(write, store, 1000 * number)
            ended.set()
    found = plain_numbers(path, 1)
    wanted = [0, 0, 0, *(1000 * writer + number for writer in (1, 2, 3) for number in range(100))]
    for store in stores:
        await store.aclose()
    assert Counter(found) == Counter(wanted)


async def test_faults_leftovers_of_the_dead_are_removed_and_those_of_others_stay(path, event):
    path.parent.mkdir()
    for name in (".facts.tmp-0123456789abcdef", ".facts.1.tmp-0123456789abcdef"):
        path.with_name(name).write_bytes(b"half")
    for name in (
        ".facts.tmp-",
        ".facts.tmp-mine",
        ".other.tmp-0123456789abcdef",
        "facts.tmp-0123456789abcdef",
    ):
        path.with_name(name).write_bytes(b"another's")
    store = RotatingFilePersistence(path)
    await store.record_event(event(1))
    await store.aclose()
    left = {file.name for file in path.parent.iterdir() if ".tmp-" in file.name}
    assert left == {
        ".facts.tmp-",
        ".facts.tmp-mine",
        ".other.tmp-0123456789abcdef",
        "facts.tmp-0123456789abcdef",
    }


async def test_faults_segments_removed_or_moved_by_others(path, event):
    store = RotatingFilePersistence(path, max_bytes=500, max_files=9)
    for number in range(20):
        await store.record_event(event(number))
    before = [one.payload["number"] for one in await store.list_events()]
    lost = plain_numbers(path.with_name("facts.3"), 1)
    path.with_name("facts.3").unlink()
    left = [number for number in before if number not in lost]
    assert [one.payload["number"] for one in await store.list_events()] == left
    assert [one.type for one in (await store.scan()).anomalies] == ["sequence_gap"]
    for number in range(20, 30):
        await store.record_event(event(number))
    await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR))
    assert not (await store.scan()).has_anomalies
    assert [one.payload["number"] for one in await store.list_events()][-10:] == list(range(20, 30))
    await store.aclose()


async def test_faults_a_file_that_is_cut_amid_a_failing_write_does_not_grow(path, event, monkeypatch):
    """What ``copytruncate`` does at the worst moment: no hole of NULs takes the place of what was cut."""
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    real = os.write

    def write(fd, data):
        if os.fstat(fd).st_ino != path.stat().st_ino:
            return real(fd, data)  # of the event loop
        os.truncate(path, 0)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(PersistenceError, match="No space left"):
            await store.record_event(event(1))
    assert path.read_bytes() == b""
    await store.record_event(event(2))
    await store.aclose()
    assert plain_numbers(path, 1) == [2]
