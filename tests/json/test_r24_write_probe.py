"""R24: `ping` knows whether a record can be written, and writes none."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from papyra.exceptions import PersistenceError
from papyra_json import JsonFilePersistence, RotatingFilePersistence


def content(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", [JsonFilePersistence, RotatingFilePersistence])
async def test_r24_a_probe_leaves_nothing_behind_and_creates_no_store(path, event, make):
    store = make(path.parent / "later" / "facts")
    await store.ping()
    assert not (path.parent / "later").exists()
    await store.record_event(event(1))
    before = content(path.parent)
    await store.ping()
    assert content(path.parent) == before
    assert store.healthy
    await store.aclose()
    with pytest.raises(PersistenceError, match="closed"):
        await store.ping()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
async def test_r24_a_disk_that_takes_nothing_is_unhealthy_until_it_does(path, event, monkeypatch, code):
    store = JsonFilePersistence(path)
    await store.record_event(event(1))
    real = os.write

    def write(fd, data):
        if len(data) > 1000:
            raise OSError(code, os.strerror(code))
        return real(fd, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(PersistenceError, match=f"no record can be written to .*{os.strerror(code)}"):
            await store.ping()
    assert not store.healthy
    assert not list(path.parent.glob(".*tmp*"))
    await store.ping()
    assert store.healthy
    await store.aclose()


async def test_r24_a_full_disk_is_found(small_disk, event):
    store = JsonFilePersistence(small_disk / "facts")
    await store.record_event(event(1))
    await store.ping()
    (small_disk / "ballast").write_bytes(bytes(200 * 1024))
    with pytest.raises(PersistenceError, match="No space left"):
        await store.ping()
    await store.aclose()


async def test_r24_a_read_only_disk_is_found(small_disk, event):
    store = JsonFilePersistence(small_disk / "facts")
    await store.record_event(event(1))
    await store.aclose()
    _remount(small_disk)
    for path in (small_disk / "facts", small_disk / "new", small_disk / "sub" / "new"):
        with pytest.raises(PersistenceError, match="Read-only file system"):
            await JsonFilePersistence(path).ping()


def _remount(folder):
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


@pytest.mark.parametrize("make", [JsonFilePersistence, RotatingFilePersistence])
async def test_r24_a_folder_that_takes_no_file_is_enough_for_files_that_are_there(
    path, event, make, monkeypatch
):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("papyra_json._write.probe.create_file", refuse)  # as root is never refused
    store = make(path)
    with pytest.raises(PersistenceError, match=r"Permission denied\. Check the owner and mode"):
        await store.ping()
    await store.record_event(event(1))
    await store.ping()
    await store.aclose()


async def test_r24_a_folder_that_cannot_be_made_is_found(path, monkeypatch):
    path.touch()
    with pytest.raises(PersistenceError, match=r"Not a directory\. Check the owner and mode"):
        await JsonFilePersistence(path / "sub" / "facts").ping()
    monkeypatch.setattr(os, "access", lambda *_: False)  # as root may do all
    with pytest.raises(PersistenceError, match=r"Permission denied\. Check the owner and mode"):
        await JsonFilePersistence(path.parent / "sub" / "facts").ping()


async def test_r24_a_file_of_another_kind_is_named(path):
    path.parent.joinpath("facts.ndjson.lock").mkdir()
    with pytest.raises(PersistenceError, match="is a folder, but a store must be a regular file"):
        await JsonFilePersistence(path).ping()
