"""Processes that write to one store, compact and rebuild it, while a follower must see every record once."""

from __future__ import annotations

import subprocess
import sys
from contextlib import aclosing

import anyio

from papyra.persistence import PersistenceBackend

from ._facts import event, take

WRITER = """
import sys, anyio
from contextlib import aclosing
from papyra.persistence import open_backend
from papyra.persistence.models import PersistedEvent

def event(writer, number, moment):
    return PersistedEvent("local", f"local:{writer}", "Happened", {"n": number}, moment)

async def main(url, writer, count):
    async with aclosing(open_backend(url)) as backend:
        backend.time_fn = lambda: 1e9
        for number in range(0, int(count), 2):
            await backend.record_batch([event(writer, number, 1e9), event(writer, number + 1, 1e9)])
            if number % 10 == int(writer):
                await backend.record_batch([event("old", n, 1.0) for n in range(3)])
                await backend.compact()  # takes away the newest

anyio.run(main, *sys.argv[1:])
"""

REBUILDER = """
import sys, anyio
from contextlib import aclosing
from papyra.persistence.models import *
from papyra_contrib.sqlite import SQLitePersistence, _recovery

# Always finds damage, so that each recovery rebuilds a healthy database.
def suspect(store, *_):
    return (PersistenceAnomaly(PersistenceAnomalyType.INTEGRITY, str(store.path), ""),)

_recovery.scan = suspect

async def main(path, times):
    async with aclosing(SQLitePersistence(path)) as backend:
        for number in range(int(times)):
            mode = PersistenceRecoveryMode.QUARANTINE if number % 2 else PersistenceRecoveryMode.REPAIR
            report = await backend.recover(PersistenceRecoveryConfig(mode))
            assert report.repaired_files

anyio.run(main, *sys.argv[1:])
"""


def start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)])


async def check_a_follower(
    backend: PersistenceBackend, url: str, *others: tuple[str, object, object]
) -> None:
    """Follow ``backend`` while processes write to its ``url``, which keeps ten seconds, and others run."""
    writers, count = range(0, 6, 2), 60
    first, last = event(-1, writer=9), event(-2, writer=9)
    await backend.record_event(first)

    def wanted(record) -> bool:
        return record.actor_address != "local:old"

    async with aclosing(backend.follow(limit=1, wanted=wanted)) as records:
        assert await take(records, 1) == [first]
        processes = [start(WRITER, url, writer, count) for writer in writers]
        processes += [start(*other) for other in others]
        try:
            found = await take(records, len(writers) * count)
            for process in processes:
                assert await anyio.to_thread.run_sync(process.wait, 60) == 0
        finally:
            for process in processes:
                process.kill()
                process.wait()
        await backend.record_event(last)
        assert await take(records, 1) == [last]
    for writer in writers:
        own = [record.payload["n"] for record in found if record.actor_address == f"local:{writer}"]
        assert own == list(range(count))
    streamed = [record async for record in backend.stream() if wanted(record)]
    assert streamed == [last, *reversed(found), first]
