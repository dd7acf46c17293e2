"""R31: damage costs no more than itself."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence

from .._loops import one_loop
from ._records import numbers

BOM = b"\xef\xbb\xbf"
QUARANTINE = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)
REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)


def bare(line: bytes) -> bytes:
    return line.removesuffix(b"\n")


CONTENTS = {
    "mark": (lambda line: BOM + line(1) + line(2), [1, 2]),
    "mark within": (lambda line: line(1) + BOM + line(2) + line(3), [1, 2, 3]),
    "nuls before": (lambda line: line(1) + bytes(600) + line(2) + line(3), [1, 2, 3]),
    "nuls between": (lambda line: bare(line(1)) + bytes(600) + line(2), [1, 2]),
    "nuls after": (lambda line: line(1) + bare(line(2)) + bytes(7) + b"\n" + line(3), [1, 2, 3]),
    "three in a line": (
        lambda line: bare(line(1)) + b"\0" + bare(line(2)) + b"\0" + bare(line(3)) + b"\0\n",
        [1, 2, 3],
    ),
    "a torn one before": (lambda line: line(1) + line(2)[:40] + bytes(9) + line(3), [1, 3]),
    "a long hole": (lambda line: line(1) + bytes(20_000_000) + line(2) + line(3), [1, 2, 3]),
    "at the end": (lambda line: line(1) + bare(line(2)) + bytes(5000), [1, 2]),
}


@one_loop
@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("config", [QUARANTINE, REPAIR], ids=["quarantine", "repair"])
async def test_r31_a_mark_or_a_run_of_nuls_takes_no_whole_record_with_it(path, line, event, name, config):
    make, expected = CONTENTS[name]
    path.write_bytes(make(line))
    store = JsonFilePersistence(path)
    assert await numbers(store) == expected
    report = await store.scan()
    damage = [one for one in report.anomalies if one.type != "sequence_gap"]
    assert damage
    assert all(one.offset is not None for one in damage)
    await store.recover(config)
    assert path.read_bytes() == b"".join(line(number) for number in expected)
    assert (await store.scan()).anomalies == ()
    again = await store.recover(config)
    assert not again.repaired_files
    await store.record_event(event(9))
    assert await numbers(store) == [*expected, 9]
    await store.aclose()


@one_loop
@pytest.mark.parametrize("name", CONTENTS)
async def test_r31_a_writer_and_a_compaction_keep_them_too(path, line, event, name):
    make, expected = CONTENTS[name]
    path.write_bytes(make(line))
    store = JsonFilePersistence(path, RetentionPolicy(max_records=2))
    await store.record_event(event(9))
    wanted = [*expected, 9][-2:]
    assert await numbers(store) == wanted
    dry = await store.compact(dry_run=True)
    report = await store.compact()
    assert (report.before_records, report.after_records) == (len(expected) + 1, 2)
    assert report.after_bytes == path.stat().st_size == dry.after_bytes
    assert await numbers(store) == wanted
    await store.aclose()


@one_loop
async def test_r31_a_hole_is_quarantined_as_a_hole(path, line):
    with path.open("wb") as file:
        file.write(line(1))
        file.seek(64 * 2**20, os.SEEK_CUR)
        file.write(line(2))
    store = JsonFilePersistence(path)
    report = await store.recover(QUARANTINE)
    (aside,) = map(Path, report.quarantined_files)
    assert aside.stat().st_size == 64 * 2**20
    assert aside.stat().st_blocks * 512 < 2**20
    assert await numbers(store) == [1, 2]
    await store.aclose()


@pytest.fixture
def unreadable(path, line, monkeypatch):
    """Let the disk fail for one page of a file of 199 records."""
    page = (8192, 12288)
    path.write_bytes(b"".join(line(number) for number in range(1, 200)))
    inode, real = path.stat().st_ino, os.pread

    def pread(fd, size, offset):
        if os.fstat(fd).st_ino == inode and offset < page[1] and offset + size > page[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, size, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", pread)
        yield page


async def test_r31_an_unreadable_block_is_passed_over_with_its_offset(path, line, unreadable):
    lines = [line(number) for number in range(1, 200)]
    ends = [sum(map(len, lines[: number + 1])) for number in range(len(lines))]
    lost = [
        n + 1 for n, end in enumerate(ends) if end > unreadable[0] and end - len(lines[n]) < unreadable[1]
    ]
    expected = [number for number in range(1, 200) if number not in lost]
    store = JsonFilePersistence(path)
    assert await numbers(store) == expected
    found = [one for one in (await store.scan()).anomalies if one.type == "unreadable_file"]
    assert [one.offset for one in found] == [unreadable[0]]
    assert "4096 bytes from 8192 on can't be read" in found[0].detail
    await store.aclose()


async def test_r31_a_recovery_keeps_a_file_with_an_unreadable_block_as_a_whole(path, unreadable):
    content = path.read_bytes()
    store = JsonFilePersistence(path)
    before = await numbers(store)
    report = await store.recover(REPAIR)
    (aside,) = map(Path, report.quarantined_files)
    assert aside.read_bytes() == content  # the disk can read it again
    assert await numbers(store) == before
    assert (await store.scan()).anomalies == ()
    await store.aclose()


async def test_r31_a_disk_that_is_gone_is_an_error(path, line, monkeypatch):
    path.write_bytes(b"".join(line(number) for number in range(1, 60_000)))

    def pread(fd, size, offset):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = JsonFilePersistence(path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", pread)
        with pytest.raises(PersistenceError, match="Input/output error"):
            await store.scan()
    await store.aclose()
