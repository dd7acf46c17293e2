"""Damage to a file, wherever it is.

It is reported at its place, and all that is whole is kept byte for byte.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from papyra.persistence import Query, RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistenceRecoveryMode
from papyra_json import JsonFilePersistence
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance.operations import recover, scan
from papyra_json._read.query import newest
from papyra_json._record import lines as _reading
from papyra_json._record.encode import encode
from papyra_json._write.appender import Appender

from ._records import make_event, numbered_line

REPAIR, QUARANTINE = PersistenceRecoveryMode.REPAIR, PersistenceRecoveryMode.QUARANTINE
PUBLISHED = (Path(__file__).parent / "data" / "published.ndjson").read_bytes().splitlines(keepends=True)


@pytest.fixture
def path(quick_disk, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # thousands, and none of them matters here
    return quick_disk / "facts"


def _check(path, content: bytes, originals: list[bytes], mode=REPAIR) -> None:
    """Check what a scan and a recovery make of a file of which only some lines are as they were written."""
    for left in path.parent.iterdir():
        left.unlink()
    files = FileSet(path)
    path.write_bytes(content)
    whole, invalid = _plainly(content, set(originals))
    found = scan(files, "json", Work()).anomalies
    places = [(one.line, one.offset) for one in found if one.type != "sequence_gap"]
    assert places == invalid
    assert {one.path for one in found} <= {str(path)}
    assert len(newest(files, Query(), RetentionPolicy(), 0.0, Work().check)) == len(whole)
    report = recover(files, "json", mode, None, Work())
    assert path.read_bytes() == b"".join(whole)
    again = recover(files, "json", mode, None, Work())
    assert not again.scan.anomalies
    assert not again.repaired_files + again.quarantined_files
    for aside in report.quarantined_files:
        assert sorted(Path(aside).read_bytes()) == sorted(_rest(content, whole))


def _plainly(content: bytes, originals: set[bytes]) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Return the lines that are whole, and number and offset of those that are not, or lack their newline."""
    whole: list[bytes] = []
    invalid: list[tuple[int, int]] = []
    offset = 0
    for number, text in enumerate(content.split(b"\n"), 1):
        line = text + b"\n"
        ended = offset + len(text) < len(content)
        if line in originals:
            whole.append(line)
        if (line not in originals or not ended) and (text or ended):
            invalid.append((number, offset))
        offset += len(line)
    return whole, invalid


def _rest(content: bytes, whole: list[bytes]) -> bytes:
    for line in whole:
        content = content.replace(line if line in content else line[:-1], b"", 1)
    return content


def _records(*texts: str) -> list[bytes]:
    return encode([make_event(number, payload={"x": text}) for number, text in enumerate(texts, 1)], 1)


LINES = [*PUBLISHED[:1], *_records("one", "zwölf", "three")]


def test_faults_cut_at_every_byte(path):
    content = b"".join(LINES)
    for cut in range(len(content) + 1):
        _check(path, content[:cut], LINES)
        kept = path.read_bytes()
        appender = Appender(FileSet(path), sync_each=False, sync_later=False)
        assert appender.append(encode([make_event(9)], appender.next_seq)).records == 1
        appender.close()
        assert path.read_bytes().startswith(kept)
        assert b'"local:9"' in path.read_bytes()[len(kept) :]
        assert scan(FileSet(path), "json", Work()).anomalies == ()


def test_faults_a_bit_flips_in_any_byte(path):
    lines = _records("one", "zwölf", "three", "four")
    content = b"".join(lines)
    chance = random.Random(1)
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << chance.randrange(8)
        _check(path, bytes(flipped), lines, chance.choice([REPAIR, QUARANTINE]))


@pytest.mark.parametrize("page", [b"\0" * 512, b"\xff" * 512, b"{" * 512, b"\n" * 512, b"\xc3" * 100, b""])
def test_faults_a_page_is_lost(path, page):
    """Overwritten with what a disk may leave there, or not there any more."""
    lines = [*PUBLISHED[:10], *_records(*("é" * size for size in range(5, 60, 4)))]
    content = b"".join(lines)
    for start in range(0, len(content), 512):
        end = start + (len(page) or 512)
        _check(path, content[:start] + page + content[end:], lines, QUARANTINE)


@pytest.mark.parametrize(
    "foreign",
    [
        b"# a comment\n", b"[1, 2]\n", b'"text"\n', b"{}\n", b"null\n", b"\n", b"\r\n", b"\xef\xbb\xbf\n",
        b'{"level": "info", "message": "from another program"}\n', b"[" * 100_000 + b"]" * 100_000 + b"\n",
        PUBLISHED[0][:-2] + b', "deep": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001 + b"\n", b"\xc3\n",
        "half of é".encode()[:-1] + b"\n", PUBLISHED[0][:-1] + PUBLISHED[1], LINES[1][:-1] + LINES[2], b"y" * 300_000 + b"\n",
    ],
)  # fmt: skip
def test_faults_foreign_lines(path, foreign):
    for at in range(len(LINES) + 1):
        content = [*LINES[:at], foreign, *LINES[at:]]
        _check(path, b"".join(content), LINES, QUARANTINE)
        _check(path, b"".join(content)[:-1], LINES, QUARANTINE)


@pytest.mark.parametrize("seed", range(30))
def test_faults_any_damage(path, seed):
    """Several of them at once: bytes changed, lost, moved, doubled."""
    chance = random.Random(seed)
    lines = _records(*("x" * chance.randrange(90) for _ in range(30)))
    content = bytearray(b"".join(lines))
    for _ in range(chance.randint(1, 5)):
        start, end = sorted(chance.randrange(len(content)) for _ in range(2))
        end = min(end, start + chance.choice([1, 10, 600]))
        piece = content[start:end]
        match chance.randrange(4):
            case 0:
                content[start:end] = chance.randbytes(len(piece))
            case 1:
                del content[start:end]
            case 2:
                content[start:start] = piece
            case _:
                del content[start:end]
                content += piece
    _check(path, bytes(content), lines, QUARANTINE)


HUGE = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

async def main():
    repair = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)
    store = JsonFilePersistence(path)
    before = peak()
    for one in (await store.scan()).anomalies:
        say(one.type, one.line, one.offset)
    say([one.payload["number"] for one in await store.list_events(limit=1)])
    say([one.payload["number"] for one in await store.list_events()])
    await store.recover(repair)
    await store.record_event(event(5))
    say([one.payload["number"] for one in await store.list_events()], (await store.scan()).anomalies)
    await store.aclose()
    say((peak() - before) // 1024)
anyio.run(main)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to measure memory with")
@pytest.mark.parametrize("size", [2**27, pytest.param(2**30, marks=pytest.mark.sweep)])
def test_faults_lines_of_a_gigabyte(path, start, size):
    """NULs of a hole: one in the middle, and a quarter as many at the end."""
    first, second = b"".join(map(numbered_line, (1, 2))), b"".join(map(numbered_line, (3, 4)))
    with path.open("wb") as file:
        file.write(first)
        file.seek(size, os.SEEK_CUR)
        file.write(b"\n" + second)
        file.truncate(file.tell() + size // 4)
    output, _ = start(HUGE, path).communicate(timeout=600)
    *said, grown = output.splitlines()
    assert said == [
        f"corrupt_line 3 {len(first)}",
        f"torn_tail 6 {len(first) + size + 1 + len(second)}",
        "[4]",
        "[1, 2, 3, 4]",
        "[1, 2, 3, 4, 5] ()",
    ]
    assert int(grown) < 80  # MiB, of which the longest line that may be a record takes 16
    assert path.stat().st_size < 2000


@pytest.mark.parametrize("nest", [lambda inner: {"a": inner}, lambda inner: [inner]])
async def test_faults_payloads_of_any_depth_are_stored_as_something(path, nest):
    deep = {}
    for _ in range(100_000):
        deep = nest(deep)
    store = JsonFilePersistence(path)
    await store.record_batch([make_event(1, payload={"deep": deep, "flat": 1}), make_event(2)])
    found = await store.list_events()
    assert "RecursionError" in found[0].payload["deep"]
    assert (found[0].payload["flat"], found[1]) == (1, make_event(2))
    assert not (await store.scan()).has_anomalies
    await store.aclose()


class _Bytes(bytes):
    def read_at(self, size: int, offset: int) -> bytes:
        return self[offset : offset + size]


def test_faults_lines_are_the_same_from_both_ends(monkeypatch):
    for seed in range(1000):
        chance = random.Random(seed)
        monkeypatch.setattr(_reading, "BLOCK_BYTES", chance.choice([1, 3, 8, 64]))
        monkeypatch.setattr(_reading, "FIRST_BLOCK_BYTES", chance.choice([1, 2, 8]))
        pieces = [b"\n", b"a", b"bb" * chance.randrange(20), b"\n\n"]
        content = _Bytes(b"".join(chance.choices(pieces, k=chance.randrange(40))))
        lines, offset = [], 0
        for line in content.splitlines(keepends=True):
            lines.append((offset, line.removesuffix(b"\n"), line.endswith(b"\n")))
            offset += len(line)
        assert list(_reading.backward(content, len(content)))[::-1] == lines
        found = [line for _, _, block in _reading.forward(content, 0, len(content)) for line in block]
        assert found == [line for _, line, _ in lines]
