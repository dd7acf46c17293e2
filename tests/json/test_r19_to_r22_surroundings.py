"""R19 to R22: rotations between two looks, mounts, file servers, and files that belong to somebody else."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from contextlib import contextmanager

import anyio
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy, open_backend
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence
from papyra_json._fileset import snapshot as _snapshot
from papyra_json._write import appender as _appender

from ._preload import NFS_LOCKS, STALE, library
from ._records import numbers

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away or mount")
QUARANTINE = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)
SIZE = 400  # two records a file


def recognized(path):
    url = RotatingFilePersistence.recognizes(str(path))
    assert url is not None
    return open_backend(url)


# -- R19


@pytest.mark.parametrize("work", ["scan", "recover", "compact", "list"])
async def test_r19_rotations_after_a_path_was_recognized_move_no_file_and_miss_no_event(path, event, work):
    writer = RotatingFilePersistence(path, max_bytes=SIZE, max_files=50)
    await writer.record_batch([event(number) for number in range(8)])
    store = recognized(path)
    await writer.record_batch([event(number) for number in range(8, 20)])  # while the operator thinks
    if work == "scan":
        assert (await store.scan()).anomalies == ()
    elif work == "recover":
        report = await store.recover(QUARANTINE)
        assert (report.scan.anomalies, report.repaired_files, report.quarantined_files) == ((), (), ())
    elif work == "compact":
        assert (await store.compact()).after_records == 20
    assert await numbers(store) == list(range(20))
    assert not list(path.parent.glob("*quarantine*"))
    await store.aclose()
    await writer.aclose()


@pytest.mark.parametrize("work", ["scan", "recover"])
async def test_r19_a_rotation_at_the_moment_of_the_lock_is_not_an_anomaly(path, event, monkeypatch, work):
    writer = RotatingFilePersistence(path, max_bytes=SIZE, max_files=50)
    await writer.record_batch([event(number) for number in range(8)])
    store = recognized(path)
    real = _snapshot.Snapshot.__init__
    left = [3 if work == "scan" else 1]

    def rotating_before(self, *arguments, **options):
        if left[0]:
            left[0] -= 1
            done = subprocess.run(
                [sys.executable, "-c", ROTATE, str(path), str(100 * left[0])],
                check=False,
                capture_output=True,
            )
            assert done.returncode == 0, done.stderr
        real(self, *arguments, **options)

    # Without the lock, as where its file can't be opened, another process rotates just before each look.
    monkeypatch.setattr(_snapshot.Snapshot, "__init__", rotating_before)
    path.with_name("facts.ndjson.lock").rename(path.with_name("lock"))
    report = await store.scan() if work == "scan" else (await store.recover(QUARANTINE)).scan
    assert [one for one in report.anomalies if one.type != "sequence_gap"] == []
    assert not list(path.parent.glob("*quarantine*"))
    await store.aclose()
    await writer.aclose()


ROTATE = """
import anyio, sys
from papyra.persistence.models import PersistedEvent
from papyra_json import RotatingFilePersistence
async def main():
    store = RotatingFilePersistence(sys.argv[1], max_bytes=400, max_files=50)
    await store.record_batch([PersistedEvent("local", "local:1", "E", {"number": int(sys.argv[2])}, 1.0)] * 6)
    await store.aclose()
anyio.run(main)
"""


async def test_r19_a_follower_that_stood_still_misses_nothing(path, event):
    writer = RotatingFilePersistence(path, max_bytes=SIZE, max_files=50)
    await writer.record_event(event(0))
    store = recognized(path)
    found: list[int] = []
    with anyio.fail_after(60):
        records = store.follow(limit=9)
        found.append((await anext(records)).payload["number"])
        await writer.record_batch([event(number) for number in range(1, 60)])  # thirty rotations
        while len(found) < 60:
            found.append((await anext(records)).payload["number"])
        await records.aclose()
    assert found == list(range(60))
    await store.aclose()
    await writer.aclose()


async def test_r19_a_set_that_has_not_rotated_yet_is_recognized_by_its_note(path, event):
    writer = RotatingFilePersistence(path, max_files=7)
    await writer.record_event(event(0))
    await writer.aclose()
    assert RotatingFilePersistence.recognizes(str(path)) == f"rotating:{path}?max_files=auto"
    assert JsonFilePersistence.recognizes(str(path)) is None


# -- R20


@contextmanager
def mounted(source, target):
    """Mount a single file, as ``docker -v ./facts:/app/facts`` does."""
    if subprocess.run(["mount", "--bind", str(source), str(target)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True)


@root_only
async def test_r20_a_file_without_a_name_is_unhealthy_and_told_once(path, event, caplog):
    host, app = path.parent / "host", path.parent / "app"
    for folder in (host, app):
        folder.mkdir()
        (folder / "facts").touch()
    with mounted(host / "facts", app / "facts"):
        store = JsonFilePersistence(app / "facts")
        await store.record_event(event(1))
        assert store.healthy
        (host / "new").touch()
        (host / "new").replace(host / "facts")  # as a compaction on the host does
        for number in range(2, 6):
            await store.record_event(event(number))
        assert not store.healthy
        (told,) = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
        assert "Mount the folder" in told
        await store.aclose()


@root_only
async def test_r20_what_a_mount_of_a_single_file_cannot_do_is_explained(path, event, caplog):
    (path.parent / "source").touch()
    path.touch()
    with mounted(path.parent / "source", path):
        store = RotatingFilePersistence(path, max_bytes=SIZE)
        for number in range(9):
            await store.record_event(event(number))
        assert await numbers(store) == list(range(9))
        (told,) = caplog.records
        assert (told.levelname, "grows beyond max_bytes" in told.getMessage()) == ("WARNING", True)
        await store.aclose()
        with pytest.raises(PersistenceError, match="it is a mount of its own"):
            await JsonFilePersistence(path, RetentionPolicy(max_records=1)).compact()
        assert store.metrics.write_errors == 0


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS])
async def test_r20_no_record_is_refused_because_a_rename_is(path, event, monkeypatch, caplog, code):
    real = os.replace
    refused = []

    def replace(source, target, **options):
        if os.fspath(source) == str(path):
            refused.append(target)
            raise OSError(code, os.strerror(code))
        return real(source, target, **options)

    monkeypatch.setattr(_appender, "ROTATION_RETRY_SECONDS", 0.0)
    store = RotatingFilePersistence(path, max_bytes=SIZE, max_files=3)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        for number in range(20):
            await store.record_event(event(number))
    assert len(refused) > 1
    assert len(caplog.records) == 1
    assert await numbers(store) == list(range(20))
    assert path.stat().st_size > SIZE
    await store.record_event(event(20))  # the rename works again
    assert path.with_name("facts.ndjson.1").exists()
    assert await numbers(store) == list(range(21))
    assert (await store.scan()).anomalies == ()
    await store.aclose()


# -- R21

STALE_PROGRAM = """
async def main():
    store = JsonFilePersistence(path, durability=sys.argv[2])
    records = store.follow()
    for number in range(3):
        await store.record_event(event(number))
    open(os.environ["STALE_FLAG"], "w").close()
    for number in range(3, 9):
        await store.record_event(event(number))
    say([one.payload["number"] for one in await store.list_events()], store.healthy, store.metrics.write_errors)
    await store.aclose()
anyio.run(main)
"""


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ENOTCONN, errno.EIO])
@pytest.mark.parametrize("durability", ["os", "interval"])
def test_r21_stale_handles_are_opened_anew_once(tmp_path, start, monkeypatch, code, durability):
    folder = tmp_path / "stale"
    folder.mkdir()
    monkeypatch.setenv("STALE_MATCH", "/stale/")
    monkeypatch.setenv("STALE_FLAG", str(tmp_path / "flag"))
    monkeypatch.setenv("STALE_ERRNO", str(code))
    monkeypatch.setenv("LD_PRELOAD", str(library(STALE, tmp_path)))
    output, _ = start(STALE_PROGRAM, folder / "facts", durability).communicate(timeout=60)
    assert output == "[0, 1, 2, 3, 4, 5, 6, 7, 8] True 0\n"


@pytest.mark.parametrize("written", [0, 1, 2])
async def test_r21_lines_that_a_failed_write_has_stored_are_not_doubled(path, event, monkeypatch, written):
    """The write reports an error although it stored some lines, and the handle is dead, so they can't be cut
    off.
    """
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    real_write, real_cut, real_stat = os.write, os.ftruncate, os.fstat
    dead: set[int] = set()

    def write(fd, data):
        if fd not in dead and not dead and b'"number":2' in bytes(data):
            lines = bytes(data).splitlines(keepends=True)
            real_write(fd, b"".join(lines[:written]))
            dead.add(fd)
        if fd in dead:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real_write(fd, data)

    def checked(real):
        def call(fd, *arguments):
            if fd in dead:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return real(fd, *arguments)

        return call

    real_close = os.close

    def close(fd):
        dead_now = fd in dead
        real_close(fd)
        if dead_now:
            dead.remove(fd)
            dead.add(-1)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        patched.setattr(os, "ftruncate", checked(real_cut))
        patched.setattr(os, "fstat", checked(real_stat))
        patched.setattr(os, "close", close)
        await store.record_batch([event(1), event(2), event(3)])
    await store.record_event(event(4))
    assert dead == {-1}
    assert await numbers(store) == [0, 1, 2, 3, 4]
    assert (await store.scan()).anomalies == ()
    assert store.metrics.records_written == 5
    await store.aclose()


async def test_r21_an_error_that_stays_fails_the_call(path, event, monkeypatch):
    store = JsonFilePersistence(path)
    await store.record_event(event(0))
    opened: list[int] = []
    real = os.write

    def write(fd, data):
        if os.fstat(fd).st_ino == path.stat().st_ino:
            opened.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(PersistenceError, match="Input/output error"):
            await store.record_event(event(1))
    assert len(opened) == 2, "once more, and no oftener"
    await store.record_event(event(2))
    assert await numbers(store) == [0, 2]
    await store.aclose()


NFS_PROGRAM = """
async def main():
    store = RotatingFilePersistence(path, max_bytes=400, max_files=30, compress="gzip")
    for number in range(20):
        await store.record_event(event(number))
    await store.compact()
    await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR))
    say([one.payload["number"] for one in await store.list_events()], (await store.scan()).anomalies)
    await store.aclose()
anyio.run(main)
"""


def test_r21_locks_work_as_nfs_has_them(path, start, monkeypatch, tmp_path):
    (tmp_path / "lib").mkdir()
    monkeypatch.setenv("LD_PRELOAD", str(library(NFS_LOCKS, tmp_path / "lib")))
    output, _ = start(NFS_PROGRAM, path).communicate(timeout=60)
    assert output == f"{list(range(20))} ()\n"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
async def test_r21_a_file_system_without_locks_is_named(path, event, monkeypatch, code):
    import fcntl

    def flock(fd, operation):
        raise OSError(code, os.strerror(code))

    store = JsonFilePersistence(path)
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", flock)
        with pytest.raises(PersistenceError, match="has no working locks"):
            await store.record_event(event(0))
    await store.aclose()


# -- R22


def owners(folder):
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found[path.name] = (status.st_uid, status.st_gid)
    return found


@root_only
async def test_r22_what_root_creates_belongs_to_whom_the_folder_belongs_to(tmp_path, event):
    folder = tmp_path / "service"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65533)
    store = RotatingFilePersistence(folder / "sub" / "facts", max_bytes=SIZE, max_files=3, compress="gzip")
    await store.record_batch([event(number) for number in range(9)])
    await store.aclose()
    with (folder / "sub" / "facts").open("ab") as file:
        file.write(b"damage\n")
    store = RotatingFilePersistence(folder / "sub" / "facts", max_bytes=SIZE, max_files=3)
    aside = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE, folder / "sub" / "aside" / "deep")
    report = await store.recover(aside)
    assert report.quarantined_files
    await store.compact()
    await store.aclose()
    assert set(owners(folder).values()) == {(65534, 65533)}
    assert stat.S_IMODE((folder / "sub").stat().st_mode) == 0o700


@root_only
async def test_r22_a_rotated_set_keeps_its_owner_and_mode(path, event):
    os.chown(path.parent, 65534, 65533)
    store = RotatingFilePersistence(path, max_bytes=SIZE, max_files=4)
    await store.record_event(event(0))
    os.chown(path, 65532, 65531)
    path.chmod(0o640)
    for number in range(1, 12):
        await store.record_event(event(number))
    await store.compact()
    await store.aclose()
    for member in [path, *path.parent.glob("facts.ndjson.?")]:
        status = member.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65532, 65531, 0o640), member


async def test_r22_a_mode_survives_rotation(path, event):
    store = RotatingFilePersistence(path, max_bytes=SIZE, max_files=1)
    await store.record_event(event(0))
    path.chmod(0o664)
    for number in range(1, 6):
        await store.record_event(event(number))
    await store.aclose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
