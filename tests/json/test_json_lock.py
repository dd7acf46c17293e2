"""The lock is let go of by the dead, waited for with an end, and left to those who need it."""

from __future__ import annotations

import os
import signal

import anyio
import pytest

from papyra_json import JsonFilePersistence

pytestmark = pytest.mark.anyio

FORKED = """
import threading, time

async def main():
    store = JsonFilePersistence(path)
    await store.record_event(event(1))
    held = threading.Event()

    def append(lines, done):
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
        with anyio.fail_after(10):
            await store.record_event(event(3))
            await store.aclose()
    finally:
        os.kill(child, signal.SIGKILL)
