"""Promise 5: at every instant the old or the new content of a file is there, whole."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra_json import JsonFilePersistence

# Forks once a step, which is far cheaper than to start Python as often; the forking process has no threads.
KILLED_AT_EVERY_STEP = """
from pathlib import Path
mode = sys.argv[2]
REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)

def make(path, keep=None):
    return RotatingFilePersistence(path, max_bytes=2000, max_files=9, retention_policy=RetentionPolicy(max_records=keep))

async def fill(path):
    store = make(path)
    await store.record_batch([event(number) for number in range(60)])
    await store.aclose()
    third = path.with_name("facts.3")
    third.write_bytes(third.read_bytes().replace(b"local:30", b"local:XX"))
    with path.open("ab") as file:
        file.write(b'{"torn')

async def die(path, steps):
    store = make(path, 20)

    def dying(function):
        def call(*arguments, **keywords):
            nonlocal steps
            steps -= 1
            if steps < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)
        return call

    for name in ("open", "write", "fsync", "ftruncate", "unlink", "rename", "replace", "fchmod"):
        setattr(os, name, dying(getattr(os, name)))
    if mode == "compact":
        await store.compact()
    elif mode == "recover":
        await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE))
    else:
        for number in range(60, 68):
            await store.record_event(event(number))

async def check(path):
    store = make(path)
    found = [one.payload["number"] for one in await store.list_events()]
    wanted = [number for number in range(60) if number != 30]
    if mode == "compact":  # retention may have dropped the oldest, and nothing else
        assert len(found) >= 20 and found == wanted[-len(found):], found
    elif mode == "recover":
        assert found == wanted, found
    else:
        assert len(found) >= len(wanted) and found == [*wanted, *range(60, 68)][:len(found)], found
    await store.recover(REPAIR)
    assert not (await store.scan()).has_anomalies
    assert [one.payload["number"] for one in await store.list_events()] == found
    await store.record_event(event(100))
    assert not (await store.scan()).has_anomalies
    await store.aclose()
    left = [file.name for file in path.parent.iterdir() if ".tmp-" in file.name]
    assert not left, left

def forked(function, *arguments):
    child = os.fork()
    if child == 0:
        try:
            anyio.run(function, *arguments)
        except BaseException as error:
            os.write(1, f"{function.__name__} {arguments}: {error!r}\\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

import anyio._backends._asyncio, orjson  # here, and not in every child
for step in range(1000):
    file = Path(path, str(step), "facts")
    forked(fill, file)
    code = forked(die, file, step)
    if forked(check, file) or code not in (0, -signal.SIGKILL):
        sys.exit(1)
    if code == 0:
        say("came through after", step)
        break
"""


@pytest.mark.parametrize("mode", ["compact", "recover", "append"])
def test_promise_05_killed_at_every_step(tmp_path, start, mode):
    """A process dies before its n-th call that changes the disk, for every n until it comes through."""
    process = start(KILLED_AT_EVERY_STEP, tmp_path, mode)
    output, _ = process.communicate(timeout=60)
    assert "came through" in output, output
    assert int(output.split()[-1]) > 15


@pytest.mark.anyio
async def test_promise_05_the_new_file_is_synced_before_and_its_folder_after_the_renaming(
    path, event, monkeypatch
):
    store = JsonFilePersistence(path, RetentionPolicy(max_records=1))
    await store.record_batch([event(1), event(2)])
    said: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(fd: int) -> None:
        said.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        real_sync(fd)

    def replace(self: Path, target: Path) -> Path:
        said.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    await store.compact()
    await store.aclose()
    assert said == ["file", "rename", "folder"]


@pytest.mark.anyio
@pytest.mark.parametrize("call", ["fsync", "write"])
async def test_promise_05_a_failed_replacement_leaves_the_old_file(path, event, monkeypatch, call):
    store = JsonFilePersistence(path, RetentionPolicy(max_records=10))
    await store.record_batch([event(number) for number in range(100)])
    before = path.read_bytes()
    real = getattr(os, call)

    def fail(fd, *arguments):
        if call == "write" and len(arguments[0]) < 100:
            return real(fd, *arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(PersistenceError, match=r"could not be compacted: .*No space left"):
            await store.compact()
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["facts.ndjson", "facts.ndjson.lock"]
    assert store.metrics.compaction_errors == 1
    await store.compact()
    assert len(await store.list_events()) == 10
    await store.aclose()


@pytest.mark.anyio
async def test_promise_05_the_new_file_has_the_mode_of_the_old(path, event):
    store = JsonFilePersistence(path, RetentionPolicy(max_records=1))
    await store.record_batch([event(1), event(2)])
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1235)
    await store.compact()
    await store.aclose()
    status = path.stat()
    assert status.st_mode & 0o777 == 0o640
    if os.geteuid() == 0:
        assert (status.st_uid, status.st_gid) == (1234, 1235)
