"""Promise 5: at every instant the old or the new content of a file is there, whole.

That a kill at any of them harms nothing is in `test_faults_kill`.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.files import match_mode, match_owner
from papyra_json import JsonFilePersistence


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


def test_promise_05_a_new_file_has_the_group_of_the_old_where_the_owner_cannot_be(tmp_path, monkeypatch):
    given = []

    def chown(fd, user, group):
        if user != -1:
            raise PermissionError
        given.append(group)

    monkeypatch.setattr("os.fchown", chown)
    with (tmp_path / "new").open("w") as file:
        own = os.fstat(file.fileno())
        match_owner(file.fileno(), own)
        assert given == []
        match_owner(file.fileno(), os.stat_result([own.st_mode, 0, 0, 1, own.st_uid + 1, 1235, 0, 0, 0, 0]))
        assert given == [1235]
        # The bits of the group are another group's now.
        match_mode(file.fileno(), os.stat_result([0o100664, 0, 0, 1, 0, own.st_gid + 1, 0, 0, 0, 0]))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o604


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
