"""Processes that die, that write at once, and that run out of disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from papyra_contrib.sqlite import SQLitePersistence

if TYPE_CHECKING:
    from papyra.persistence.models import PersistedEvent

pytestmark = pytest.mark.anyio

PROLOGUE = """
import sys, os, anyio
from contextlib import aclosing
from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistedEvent
from papyra_contrib.sqlite import SQLitePersistence

def event(writer, number):
    return PersistedEvent("local", f"local:{writer}", "Happened", {"n": number, "pad": "x" * 200}, float(number))
"""

ACKNOWLEDGING_WRITER = """
async def main(path, durability):
    backend = SQLitePersistence(path, durability=durability)
    number = 0
    while True:
        await backend.record_batch([event(1, number + n) for n in range(5)])
        number += 5
        os.write(1, b"%d\\n" % number)

anyio.run(main, *sys.argv[1:])
"""

ONE_OF_MANY_WRITERS = """
async def main(path, writer, count):
    async with aclosing(SQLitePersistence(path, RetentionPolicy())) as backend:
        for number in range(0, int(count), 2):
            await backend.record_batch([event(writer, number), event(writer, number + 1)])
            if writer == "0" and number % 20 == 0:
                await backend.compact()

anyio.run(main, *sys.argv[1:])
"""

FULL_DISK = """
import resource

async def main(path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    acknowledged, failed = 0, 0
    async with aclosing(SQLitePersistence(path)) as backend:
        while failed < 3:
            try:
                await backend.record_batch([event(1, acknowledged + n) for n in range(10)])
                acknowledged += 10
            except PersistenceError:
                failed += 1
            assert acknowledged < 100_000
        found = await backend.list_events()
        assert [one.payload["n"] for one in found] == list(range(acknowledged)), len(found)
        assert backend.healthy and not (await backend.scan()).has_anomalies
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await backend.record_batch([event(1, acknowledged)])
        assert backend.metrics.write_errors == 3
    print(acknowledged + 1)

anyio.run(main, *sys.argv[1:])
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def events_in(path) -> list[PersistedEvent]:
    async with aclosing(SQLitePersistence(path)) as backend:
        assert not (await backend.scan()).has_anomalies
        return list(await backend.list_events())


@pytest.mark.parametrize(("durability", "after"), [("os", 1), ("os", 60), ("always", 10)])
async def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(tmp_path, durability, after):
    path = tmp_path / "papyra.db"
    with start(ACKNOWLEDGING_WRITER, path, durability) as writer:
        for _ in range(after):
            assert writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else after * 5
    found = await events_in(path)
    numbers = [event.payload["n"] for event in found]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= acknowledged
    assert len(numbers) % 5 == 0  # a batch is there as a whole
    async with aclosing(SQLitePersistence(path)) as backend:
        await backend.record_event(found[0])
        assert len(await backend.list_events()) == len(found) + 1


async def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "papyra.db"
    count = 100
    writers = [start(ONE_OF_MANY_WRITERS, path, writer, count) for writer in range(4)]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    found = await events_in(path)
    assert len(found) == 4 * count
    for writer in range(4):
        own = [event.payload["n"] for event in found if event.actor_address == f"local:{writer}"]
        assert own == list(range(count))


async def test_a_full_disk_fails_whole_batches_and_later_ones_succeed(tmp_path):
    path = tmp_path / "papyra.db"
    with start(FULL_DISK, path) as writer:
        output, errors = writer.communicate(timeout=60)
    assert writer.returncode == 0, errors
    assert len(await events_in(path)) == int(output)
