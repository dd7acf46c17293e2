"""The lock is let go of by the dead, waited for with an end, and left to those who need it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from math import inf

import anyio
import anyio.to_thread
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence
from papyra_json._fileset import lock as _lock
from papyra_json._fileset.lock import SetLock

FORKED = """
import threading, time

async def main():
    store = JsonFilePersistence(path)
    await store.record_event(event(1))
    held = threading.Event()

    def append(*arguments):
        held.set()
        time.sleep(60)

    store._appender._append = append
    async with anyio.create_task_group() as group:
        group.start_soon(store.record_event, event(2))
        await anyio.to_thread.run_sync(held.wait)
        child = os.fork()
        if child == 0:
            os.close(1)
            time.sleep(60)
            os._exit(0)
        say(child)
        os.kill(os.getpid(), signal.SIGKILL)
anyio.run(main)
"""


async def test_a_forked_child_does_not_keep_the_lock_of_the_dead(path, start, event):
    process = start(FORKED, path)
    child = int(process.stdout.readline())
    try:
        process.wait()
        store = JsonFilePersistence(path)
        with anyio.fail_after(120):
            await store.record_event(event(3))
            await store.aclose()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_has_closed_the_files_that_were_locked(tmp_path):
    program = """
import os, sys
from papyra.persistence.files import try_locked
fd = os.open("lock", os.O_CREAT | os.O_RDWR)
with try_locked(fd) as locked:
    if os.fork() == 0:
        sys.exit(3 if os.open("other", os.O_CREAT | os.O_RDWR) == fd else "the file is open")
    print(locked, os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("True 3\n", "")


@pytest.mark.parametrize("call", ["scan", "compact", "recover"])
async def test_who_waits_for_a_lock_can_be_cancelled(path, line, call):
    path.write_bytes(line(1))
    store = JsonFilePersistence(path)
    arguments = [PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)] if call == "recover" else []
    with SetLock(path).exclusive():
        ended: list[BaseException] = []
        waits, done = threading.Event(), threading.Event()
        real = _lock.take_lock

        def watched(fd, checkpoint, **options):
            def looked() -> None:
                waits.set()
                checkpoint()

            try:
                real(fd, looked, **options)
            except PersistenceError as error:
                ended.append(error)
                done.set()
                raise

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(_lock, "take_lock", watched)
            async with anyio.create_task_group() as group:
                group.start_soon(getattr(store, call), *arguments)
                assert await anyio.to_thread.run_sync(waits.wait, 60)
                group.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(done.wait, 60)
    assert "cancelled" in str(ended[0])


@pytest.mark.parametrize(("patience", "deadline"), [(0.1, None), (3600, 0.1)])
async def test_closing_does_not_wait_for_ever(path, event, monkeypatch, patience, deadline):
    monkeypatch.setattr("papyra_json._write.appender.CLOSING_PATIENCE_SECONDS", patience)
    store = JsonFilePersistence(path)
    errors: list[Exception] = []

    async def record() -> None:
        try:
            await store.record_event(event(1))
        except PersistenceError as error:
            errors.append(error)

    lock = SetLock(path)
    release = threading.Timer(20, lock.close)  # so that a close that waits too long fails the test
    release.start()
    with lock.exclusive(), anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            group.start_soon(record)
            await anyio.wait_all_tasks_blocked()
            with anyio.CancelScope(deadline=inf if deadline is None else anyio.current_time() + deadline):
                await store.aclose()
    release.cancel()
    assert "facts.ndjson.lock' shows it" in str(errors[0])
    lock.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("of_the_file", [False, True])
async def test_a_lock_made_by_root_is_its_owners(path, line, event, of_the_file):
    if of_the_file:
        path.write_bytes(line(1))
    os.chown(path if of_the_file else path.parent, 65534, 65533)
    store = JsonFilePersistence(path)
    await store.record_event(event(2))
    await store.aclose()
    status = path.with_name("facts.ndjson.lock").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65533, 0o600)
