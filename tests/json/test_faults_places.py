"""Places that can't be written, or not to the end.

Folders that are read-only, disks and files that are full.
"""

from __future__ import annotations

import contextlib
import os

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence

QUARANTINE = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)

READ_ONLY = """
from pathlib import Path
from papyra.exceptions import PersistenceError
import anyio._backends._asyncio, orjson  # before the rights to read them may be gone

async def attempt(what, call):
    before = content()
    try:
        done = await call
    except PersistenceError as error:
        say(what, "failed:", str(error).partition("[")[2])
    else:
        say(what, "done:", getattr(done, "anomalies", "") or "")
    assert content() == before or what == "record"

def content():
    return {file.name: file.read_bytes() for file in sorted(Path(path).parent.iterdir())}

async def main():
    QUARANTINE = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)
    for make in (JsonFilePersistence, RotatingFilePersistence):
        store = make(path, retention_policy=RetentionPolicy(max_records=1))
        await attempt("list", store.list_events())
        await attempt("scan", store.scan())
        await attempt("dry", store.compact(dry_run=True))
        await attempt("record", store.record_event(event(3)))
        await attempt("compact", store.compact())
        await attempt("recover", store.recover(QUARANTINE))
        await attempt("list", store.list_events())
        await store.aclose()

if sys.argv[2] == "nobody":
    os.setgid(65534)
    os.setuid(65534)
anyio.run(main)
"""


@pytest.fixture
def read_only(quick_disk, line):
    """A folder with two records, that nobody may write."""
    folder = quick_disk / "folder"
    folder.mkdir()
    (folder / "facts").write_bytes(line(1) + line(2))
    if os.geteuid() == 0:
        quick_disk.chmod(0o755)
        os.chown(folder, 65534, 65534)
        os.chown(folder / "facts", 65534, 65534)
    folder.chmod(0o555)
    yield folder / "facts"
    folder.chmod(0o755)


def _attempts(start, path) -> list[str]:
    who = "nobody" if os.geteuid() == 0 else "myself"
    process = start(READ_ONLY, path, who)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [line.strip().rstrip(":") for line in output.splitlines()]


def _denied(what: str, name: str) -> str:
    return f"{what} failed: Errno 13] Permission denied: '{name}'"


def test_faults_a_folder_that_is_read_only_can_be_read(read_only, line, start):
    lock = _denied("{}", f"{read_only}.lock")
    expected = [
        "list done",
        "scan done",
        "dry done",
        *(lock.format(one) for one in ("record", "compact", "recover")),
    ]
    assert _attempts(start, read_only) == [*expected, "list done"] * 2
    assert read_only.read_bytes() == line(1) + line(2)
    assert [file.name for file in read_only.parent.iterdir()] == ["facts"]


def _give_it_its_lock(file) -> None:
    file.parent.chmod(0o755)
    lock = file.with_name("facts.lock")
    lock.write_bytes(b"")
    if os.geteuid() == 0:
        os.chown(lock, 65534, 65534)
    file.parent.chmod(0o555)


def test_faults_with_its_lock_a_file_in_it_can_be_appended_to(read_only, line, start):
    _give_it_its_lock(read_only)
    done = _attempts(start, read_only)
    assert [one.split()[1] for one in done] == (["done"] * 4 + ["failed:", "done", "done"]) * 2
    assert read_only.read_bytes() == line(1) + line(2) + line(3) + line(3, 4)


def test_faults_a_torn_tail_in_it_stays_as_it_is(read_only, line, start):
    read_only.write_bytes(line(1) + b'{"torn')
    _give_it_its_lock(read_only)
    done = _attempts(start, read_only)
    assert [one.split()[1].rstrip(":") for one in done] == (["done"] * 3 + ["failed"] * 3 + ["done"]) * 2
    assert read_only.read_bytes() == line(1) + b'{"torn'


# -- full


async def _full(make, disk, event):
    """Make a store of about 90 KiB with damage in it on a disk that is full."""
    store = make(disk / "facts")
    await store.record_batch([event(number) for number in range(500)])
    with (disk / "facts").open("ab") as file:
        file.write(b"damage\n" * 1000)
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", 0) as file:
        while True:
            file.write(bytes(4096))
    return store


def _rotating(path, **options):
    return RotatingFilePersistence(path, max_bytes=50_000, max_files=9, **options)


@pytest.mark.parametrize("make", [JsonFilePersistence, _rotating])
@pytest.mark.parametrize("work", ["record", "compact", "recover"])
async def test_faults_on_a_full_disk_all_stays_as_it_was_until_there_is_room(small_disk, event, make, work):
    store = await _full(make, small_disk, event)
    store = make(small_disk / "facts", retention_policy=RetentionPolicy(max_records=490))
    calls = {
        "record": lambda: store.record_batch([event(number) for number in range(500, 1800)]),
        "compact": store.compact,
        "recover": lambda: store.recover(QUARANTINE),
    }
    before = _content(small_disk)
    with pytest.raises(PersistenceError, match="No space left"):
        await calls[work]()
    after = _content(small_disk)
    assert work == "record" or after == before
    assert len(await store.list_events()) == 490
    (small_disk / "ballast").unlink()
    await store.record_event(event(1000))
    await store.recover(QUARANTINE)
    assert (await store.compact()).after_records == 490
    assert [one.payload["number"] for one in await store.list_events(limit=2)] == [499, 1000]
    assert not (await store.scan()).has_anomalies
    await store.aclose()


def _content(folder) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.stat().st_size and file.name != "ballast"
    }


LIMITED = """
import resource
async def main():
    store = JsonFilePersistence(path)
    await store.record_batch([event(number) for number in range(100)])
    await store.aclose()
    store = JsonFilePersistence(path, RetentionPolicy(max_records=90))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open(path, "ab") as file:
        file.write(b"torn")
    before = open(path, "rb").read()
    for limit in (0, 1, 3, 100, 4096, len(before) // 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        for call in (store.compact, lambda: store.recover(PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR))):
            try:
                await call()
            except Exception as error:
                say(type(error).__name__, open(path, "rb").read() == before)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    await store.compact()
    say((await store.scan()).anomalies, len(await store.list_events()), sorted(os.listdir(os.path.dirname(path)))[:2])
    await store.aclose()
anyio.run(main)
"""


def test_faults_a_limit_of_file_sizes_stops_care_and_harms_nothing(path, start):
    output, _ = start(LIMITED, path).communicate(timeout=120)
    assert output.splitlines() == ["PersistenceError True"] * 12 + [
        "() 90 ['facts.ndjson', 'facts.ndjson.lock']"
    ]
