"""R8, R24: facts of a running system outlive a disk that is full or away, each of them once."""

from __future__ import annotations

import errno
import os
import shutil

import anyio
import pytest

from papyra import Actor, ActorSystem
from papyra.exceptions import PartialWriteError, PersistenceError, StoreFull
from papyra_json import JsonFilePersistence, RotatingFilePersistence


class Quick(Actor):
    async def receive(self, message: object) -> None: ...


async def lives(system: ActorSystem, first: int, count: int) -> None:
    for number in range(first, first + count):
        await system.spawn(Quick, name=f"a{number}").ask("done")


async def names(store) -> list[str]:
    assert not (await store.scan()).has_anomalies
    return [one.payload["name"] for one in await store.list_events(event_type="ActorStarted")]


MAKERS = [
    pytest.param(JsonFilePersistence, id="json"),
    pytest.param(lambda path: RotatingFilePersistence(path, max_bytes=20_000, max_files=50), id="rotating"),
]


@pytest.mark.parametrize("make", MAKERS)
async def test_r08_a_really_full_disk_loses_nothing_once_there_is_room(small_disk, tmp_path, make, caplog):
    store = make(small_disk / "facts")
    async with ActorSystem(persistence=store) as system:
        await lives(system, 0, 20)
        await system.flush()
        free = shutil.disk_usage(small_disk).free
        (small_disk / "ballast").write_bytes(bytes(free))
        await lives(system, 20, 200)
        with anyio.fail_after(60):
            while not store.metrics.write_errors:  # noqa: ASYNC110 - a counter has no event
                await anyio.sleep(0.01)
        assert store.metrics.records_dropped == 0
        (small_disk / "ballast").unlink()
        await lives(system, 220, 20)
    assert store.metrics.records_dropped == 0
    shutil.copytree(small_disk, tmp_path / "copy")
    assert await names(make(tmp_path / "copy" / "facts")) == [f"a{number}" for number in range(240)]
    assert [one.message.split(":")[0] for one in caplog.records] == [
        f"the {store.name} store can't be written; its facts wait and are offered again",
        caplog.records[1].message,
    ]
    assert "takes facts again" in caplog.records[1].message


LIMITED = """
import logging, resource
from papyra import Actor, ActorSystem

class Quick(Actor):
    async def receive(self, message): ...

async def main():
    logging.disable()
    store = JsonFilePersistence(path)
    async with ActorSystem(persistence=store) as system:
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        for number in range(50):
            await system.spawn(Quick, name=f"a{number}").ask("done")
            if number == 9:
                await system.flush()
                resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 100, unlimited[1]))
        while not store.metrics.write_errors:
            await anyio.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    events = await JsonFilePersistence(path).list_events(event_type="ActorStarted")
    say([event.payload["name"] for event in events] == [f"a{number}" for number in range(50)])
    say(store.metrics.records_dropped)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
anyio.run(main)
"""


def test_r08_a_file_at_the_limit_of_its_process_loses_nothing(path, start):
    output, _ = start(LIMITED, path).communicate(timeout=120)
    assert output.split() == ["True", "0"]


@pytest.mark.parametrize(
    ("code", "kind", "retry"),
    [
        (errno.ENOSPC, StoreFull, True),
        (errno.EDQUOT, StoreFull, True),
        (errno.EIO, PersistenceError, True),
        (errno.ENOTCONN, PersistenceError, True),
        (errno.EROFS, PersistenceError, True),
        (errno.EACCES, PersistenceError, True),
        (errno.EINVAL, PersistenceError, False),
    ],
)
async def test_r08_which_errors_of_a_disk_may_pass(path, event, monkeypatch, code, kind, retry):
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    real = os.write

    def write(fd, data):
        if os.fstat(fd).st_ino == path.stat().st_ino:
            raise OSError(code, os.strerror(code))
        return real(fd, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(PersistenceError, match="could not be written") as caught:
            await store.record_event(event(1))
    assert type(caught.value) is kind
    assert caught.value.retry is retry
    await store.aclose()


async def test_r08_after_a_part_of_a_batch_the_rest_is_offered(path, event, monkeypatch):
    store = RotatingFilePersistence(path, max_bytes=1000, max_files=50)
    await store.record_event(event(0))
    real, large = os.write, []

    def write(fd, data):
        if len(data) > 100:
            large.append(data)
            if len(large) > 2:
                raise OSError(errno.ENOSPC, "full")
        return real(fd, data)

    batch = [event(number) for number in range(1, 40)]
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(PartialWriteError) as caught:
            await store.record_batch(batch)
    assert caught.value.retry is True
    stored = 40 - caught.value.failed
    assert 1 < stored < 40
    assert [one.payload["number"] for one in await store.list_events()] == list(range(stored))
    assert store.metrics.records_written == stored
    assert not (await store.scan()).has_anomalies
    await store.record_batch(batch[len(batch) - caught.value.failed :])
    assert [one.payload["number"] for one in await store.list_events()] == list(range(40))
    await store.aclose()


@pytest.mark.parametrize("written", [0, 1, 2])
@pytest.mark.parametrize("dropped", [0, 1])
@pytest.mark.parametrize("durability", ["os", "always"])
async def test_r08_what_a_failed_write_left_is_not_doubled(
    path, event, monkeypatch, written, dropped, durability
):
    """The disk fails after some lines and lets nothing be cut off.

    ``dropped`` records are not offered again.
    """
    store = JsonFilePersistence(path, durability=durability)
    await store.record_event(event(0))
    real_write = os.write
    failing = [0]

    def write(fd, data):
        if os.fstat(fd).st_ino != path.stat().st_ino:
            return real_write(fd, data)
        failing[0] += 1
        if failing[0] == 1:
            real_write(fd, b"".join(bytes(data).splitlines(keepends=True)[:written]))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    batch = [event(1), event(2), event(3)]
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        patched.setattr(os, "ftruncate", fail)
        with pytest.raises(PersistenceError) as caught:
            await store.record_batch(batch)
    assert caught.value.retry is True
    failed = caught.value.failed if isinstance(caught.value, PartialWriteError) else 3
    await store.record_batch(batch[3 - failed :][dropped:])
    await store.record_event(event(4))
    found = [one.payload["number"] for one in await store.list_events()]
    assert found == sorted(set(found))
    assert set(found) >= {0, 4, *range(4 - failed + dropped, 4)}
    assert not (await store.scan()).has_anomalies
    await store.aclose()
