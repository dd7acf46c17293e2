"""Opening: arguments, URLs, and errors that say what to do."""

from __future__ import annotations

import os

import pytest

from papyra.exceptions import BackendURLError, PersistenceError
from papyra.persistence import RetentionPolicy, open_backend
from papyra_json import JsonFilePersistence, RotatingFilePersistence


@pytest.mark.parametrize("make", [JsonFilePersistence, RotatingFilePersistence])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"durability": "maybe"}, "'os', 'interval', 'always', not 'maybe'"),
        ({"fsync_interval": 0}, "above 0, not 0"),
        ({"fsync_interval": float("nan")}, "above 0, not nan"),
        ({"fsync_interval": float("inf")}, "above 0, not inf"),
        ({"fsync_interval": "1"}, "above 0, not '1'"),
        ({"fsync_interval": True}, "above 0, not True"),
    ],
)
def test_bad_arguments_are_explained(path, make, arguments, text):
    with pytest.raises(ValueError, match=text):
        make(path, **arguments)


@pytest.mark.parametrize("name", ["max_bytes", "max_files"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_bad_limits_are_explained(path, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1"):
        RotatingFilePersistence(path, **{name: value})


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_a_path_must_name_a_file(text):
    with pytest.raises(ValueError, match="path must name a file"):
        JsonFilePersistence(text)


@pytest.mark.parametrize("make", [JsonFilePersistence, RotatingFilePersistence])
def test_a_folder_is_refused_with_a_better_path(tmp_path, make):
    with pytest.raises(PersistenceError, match=r"is a folder.*Name a file in it, as in .*papyra\.ndjson"):
        make(tmp_path)
    with pytest.raises(PersistenceError, match="is a folder"):
        make(f"{tmp_path}/new/")


def test_urls_set_every_option(tmp_path):
    store = open_backend(f"json:{tmp_path}/a%20b.ndjson?max_records=5&durability=always&fsync_interval=250ms")
    assert isinstance(store, JsonFilePersistence)
    assert store.path == tmp_path / "a b.ndjson"
    assert store.retention == RetentionPolicy(max_records=5)
    rotating = open_backend(
        f"rotating:{tmp_path}/r?max_bytes=1MiB&max_files=3&max_age_seconds=7d&durability=interval"
    )
    assert isinstance(rotating, RotatingFilePersistence)
    assert rotating.retention == RetentionPolicy(max_age_seconds=7 * 86400)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("json:", "path must name a file"),
        ("rotating:", "path must name a file"),
        (
            "json:x?max_files=3",
            "no option 'max_files'; its options are: durability, fsync_interval, max_age_seconds",
        ),
        ("json:x?durability=maybe", "expected one of os, interval, always"),
        ("json:x?fsync_interval=0", "above 0"),
        ("rotating:x?max_bytes=0", "max_bytes must be a whole number of at least 1"),
        ("rotating:x?max_files=0", "max_files must be a whole number of at least 1"),
        ("rotating:x?max_bytes=many", "expected bytes"),
    ],
)
def test_bad_urls_are_explained(url, text):
    with pytest.raises(BackendURLError, match=text):
        open_backend(url)


def test_opening_touches_nothing(tmp_path):
    JsonFilePersistence(tmp_path / "a" / "b.ndjson")
    RotatingFilePersistence(tmp_path / "c.ndjson")
    assert list(tmp_path.iterdir()) == []


async def test_a_relative_path_is_that_of_the_opening(tmp_path, monkeypatch, event):
    monkeypatch.chdir(tmp_path)
    store = JsonFilePersistence("facts.ndjson")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    await store.record_event(event(1))
    await store.aclose()
    assert (tmp_path / "facts.ndjson").exists()


async def test_a_closed_store_says_so(path, event):
    store = JsonFilePersistence(path)
    assert (store.closed, store.healthy) == (False, True)
    await store.aclose()
    assert store.closed
    with pytest.raises(PersistenceError, match=r"facts\.ndjson is closed. Open a new one"):
        await store.record_event(event(1))


async def test_a_fork_must_open_its_own(path, event, start):
    process = start(
        """
        async def main():
            store = JsonFilePersistence(path)
            await store.record_event(event(1))
            if os.fork() == 0:
                try:
                    await store.record_event(event(2))
                except Exception as error:
                    os.write(1, str(error).encode())
                os._exit(0)
            os.wait()
            await store.record_event(event(3))
            await store.aclose()
        anyio.run(main)
        """,
        path,
    )
    output, _ = process.communicate(timeout=120)
    assert "opened before this process was forked. Open the store again" in output
    assert [found.payload["number"] for found in await JsonFilePersistence(path).list_events()] == [1, 3]


FORBIDDEN = """
import anyio._backends._asyncio, orjson, tempfile  # before the rights to read them may be gone

async def main(path):
    store = JsonFilePersistence(path)
    for call in (store.list_events, store.scan, lambda: store.record_event(event(1)), store.compact):
        try:
            say(await call())
        except Exception as error:
            say(type(error).__name__, error)
    await store.aclose()

async def fill(path):
    store = JsonFilePersistence(path)
    await store.record_event(event(1))
    await store.aclose()

with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o755)
    for name in ("mine/facts", "facts", "readable"):
        anyio.run(fill, f"{folder}/{name}")
    os.chmod(f"{folder}/readable", 0o644)
    for name in ("mine/facts", "facts", "readable"):
        if os.fork() == 0:
            os.setgid(65534)
            os.setuid(65534)
            anyio.run(main, f"{folder}/{name}")
            os._exit(0)
        os.wait()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")
def test_what_may_not_be_read_or_written_is_explained(path, start):
    output, _ = start(FORBIDDEN, path).communicate(timeout=120)
    lines = output.splitlines()
    assert len(lines) == 12
    for line in lines[:4]:  # the folder may not be entered
        assert line.startswith("PersistenceError")
        assert "Permission denied" in line
    assert "can't be read" in lines[4]
    assert "Check its owner and mode" in lines[4]
    assert "can't be read" in lines[5]  # the only file of the store, so there is nothing to report on
    assert "a record could not be written" in lines[6]
    assert "PersistenceError" in lines[7]
    assert lines[8].startswith("[PersistedEvent(")  # nothing but the file need be readable
    assert lines[9] == "PersistenceScanReport(backend='json', anomalies=())"
    assert "could not be written" in lines[10]
    assert "could not be compacted" in lines[11]
