"""Promise 10: only a regular file is accepted, and no name can be steered elsewhere."""

from __future__ import annotations

import os
import time

import anyio
import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence

WORDS = {"folder": "a folder", "link": "a symbolic link", "dangling": "a symbolic link", "fifo": "a FIFO"}


def _put(path, odd, victim) -> None:
    if odd == "folder":
        path.mkdir()
    elif odd == "link":
        victim.write_bytes(b"precious")
        path.symlink_to(victim)
    elif odd == "dangling":
        path.symlink_to(victim)
    else:
        os.mkfifo(path)


@pytest.mark.parametrize("odd", WORDS)
@pytest.mark.parametrize("make", [JsonFilePersistence, RotatingFilePersistence])
async def test_promise_10_in_place_of_the_file_it_is_refused(path, tmp_path, make, odd):
    _put(path, odd, tmp_path / "victim")
    with pytest.raises(PersistenceError, match=WORDS[odd]):
        make(path)


@pytest.mark.parametrize("odd", WORDS)
@pytest.mark.parametrize("make", [JsonFilePersistence, RotatingFilePersistence])
async def test_promise_10_also_when_it_comes_later(path, tmp_path, event, make, odd):
    store = make(path)
    if odd == "link":  # a store that is open already
        await store.record_event(event(0))
        path.unlink()
    _put(path, odd, tmp_path / "victim")
    with anyio.fail_after(120):
        with pytest.raises(PersistenceError, match=WORDS[odd]):
            await store.record_event(event(1))
        with pytest.raises(PersistenceError, match=WORDS[odd]):
            await store.list_events()
        with pytest.raises(PersistenceError, match=WORDS[odd]):
            await store.compact()
        assert [one.type for one in (await store.scan()).anomalies] == ["unreadable_file"]
        await store.aclose()
    assert not (tmp_path / "victim").exists() or (tmp_path / "victim").read_bytes() == b"precious"


@pytest.mark.parametrize("odd", WORDS)
async def test_promise_10_in_place_of_the_lock_file(path, tmp_path, event, odd):
    _put(path.with_name("facts.ndjson.lock"), odd, tmp_path / "victim")
    store = JsonFilePersistence(path)
    with pytest.raises(PersistenceError, match=WORDS[odd]):
        await store.record_event(event(1))
    await store.aclose()
    assert not path.exists()
    assert not (tmp_path / "victim").exists() or (tmp_path / "victim").read_bytes() == b"precious"


@pytest.mark.parametrize("odd", WORDS)
async def test_promise_10_in_place_of_a_file_of_the_set(path, tmp_path, event, odd):
    store = RotatingFilePersistence(path, max_bytes=500, max_files=3)
    await store.record_event(event(0))
    _put(path.with_name("facts.ndjson.1"), odd, tmp_path / "victim")
    await store.record_batch([event(1), event(2)])
    with pytest.raises(PersistenceError, match=f"can't be rotated: .* is {WORDS[odd]}"):
        await store.record_event(event(3))
    with pytest.raises(PersistenceError, match=WORDS[odd]):
        await store.list_events()
    report = await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR))
    assert len(report.quarantined_files) == 1
    await store.record_batch([event(number) for number in range(3, 7)])
    assert not (await store.scan()).has_anomalies
    await store.aclose()
    assert not (tmp_path / "victim").exists() or (tmp_path / "victim").read_bytes() == b"precious"


async def test_promise_10_planted_names_are_passed_over(path, line, event, monkeypatch, tmp_path):
    """A program that guesses the names of quarantine files can't have other files written or read."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(time, "strftime", lambda *_: "now")
    aside = tmp_path / "aside"
    aside.mkdir()
    for folder in (tmp_path, aside):
        (folder / "facts.ndjson.quarantine-now-1").symlink_to(victim)
        (folder / "facts.ndjson.quarantine-now-2").mkdir()
        (folder / "facts.ndjson.quarantine-now-3").symlink_to(tmp_path / "nothing")
    path.write_bytes(line(1) + b"torn")
    store = JsonFilePersistence(path)
    await store.record_event(event(2))
    path.write_bytes(path.read_bytes() + b"damage\n")
    report = await store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE, aside))
    await store.aclose()
    assert report.quarantined_files == (str(aside / "facts.ndjson.quarantine-now-4"),)
    assert (tmp_path / "facts.ndjson.quarantine-now-4").read_bytes() == b"torn"
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()


async def test_promise_10_temporary_names_cannot_be_guessed_or_planted(path, event, monkeypatch, tmp_path):
    from papyra_json._fs import files

    store = JsonFilePersistence(path, RetentionPolicy(max_records=1))
    await store.record_batch([event(1), event(2)])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "known")
    planted = tmp_path / ".facts.ndjson.tmp-known"
    planted.mkdir()  # a link would be removed as a leftover; what stays must not be used
    with pytest.raises(PersistenceError, match="could not be compacted"):
        await store.compact()
    assert list(planted.iterdir()) == []
    assert len(path.read_bytes().splitlines()) == 2
    await store.aclose()


async def test_promise_10_what_is_only_named_like_a_temporary_file_stays(path, event):
    left, folder = path.with_name(".facts.ndjson.tmp-00"), path.with_name(".facts.ndjson.tmp-01")
    left.touch()
    folder.mkdir()
    store = JsonFilePersistence(path)
    await store.record_event(event(1))
    await store.compact()
    await store.aclose()
    assert (left.exists(), folder.is_dir()) == (False, True)


async def test_promise_10_the_name_of_the_file_stays_in_its_folder(tmp_path, event):
    store = RotatingFilePersistence(tmp_path / "a+b(.*)[x]", max_bytes=200, max_files=3)
    (tmp_path / "aab()x.1").write_bytes(b"another's")
    for number in range(6):
        await store.record_event(event(number))
    await store.record_event(event(9))
    assert not (await store.scan()).has_anomalies
    await store.aclose()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "a+b(.*)[x]", "a+b(.*)[x].1", "a+b(.*)[x].2", "a+b(.*)[x].lock", "aab()x.1",
    ]  # fmt: skip
