"""Damage in compressed files is reported and repaired, and confined to the block it is in."""

from __future__ import annotations

import errno
import gzip
import zlib

import pytest

from papyra.persistence import Query, RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistedRecord, PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import RotatingFilePersistence
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance.operations import recover, scan
from papyra_json._read.query import newest
from papyra_json._record.decode import MAX_LINE_BYTES
from papyra_json._segment.codec import codec_for

from ._compressed import pack

QUARANTINE = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)


async def test_damage_to_lines_is_reported_where_it_was_before_they_were_packed(path, line):
    lines = [line(number) for number in range(1, 3001)]
    lines[2000] = lines[2000].replace(b"local:2001", b"local:2oo1")
    pack(path.with_name("facts.ndjson.1.gz"), b"".join(lines))
    path.write_bytes(line(3001))
    store = RotatingFilePersistence(path)
    (anomaly,) = (await store.scan()).anomalies
    assert (anomaly.type, anomaly.line, anomaly.offset) == ("crc_mismatch", 2001, sum(map(len, lines[:2000])))
    report = await store.recover(QUARANTINE)
    packed = path.with_name("facts.ndjson.1.gz")
    assert report.repaired_files == (str(packed),)
    assert gzip.decompress(packed.read_bytes()) == b"".join(lines[:2000] + lines[2001:])
    (kept,) = path.parent.glob("*quarantine*")
    assert kept.read_bytes() == lines[2000]
    assert not (await store.scan()).has_anomalies


def _read(files: FileSet) -> list[PersistedRecord]:
    return newest(files, Query(), RetentionPolicy(), 0.0, lambda: None)


def _damaged(content: bytes) -> list[bytes]:
    """Damage bytes in many ways: flipped, blanked, cut out, cut off, appended to."""
    step = max(1, len(content) // 40)
    flipped = [
        content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :] for at in range(0, len(content), step)
    ]
    blank = [content[:at] + bytes(100) + content[at + 100 :] for at in range(40, len(content), 4 * step)]
    without = [content[:at] + content[at + 150 :] for at in range(40, len(content), 4 * step)]
    cut = [content[:at] for at in range(60, len(content), 4 * step)]
    return [*flipped, *blank, *without, *cut, content + b"garbage"]


@pytest.mark.parametrize("foreign", [False, True])
def test_of_a_damaged_file_all_is_read_that_can_be(path, line, event, foreign):
    lines = [line(number) for number in range(1, 101)]
    packed = path.with_name("facts.ndjson.1.gz")
    pack(packed, b"".join(lines), step=2000)
    whole = gzip.compress(b"".join(lines)) if foreign else packed.read_bytes()
    path.write_bytes(line(101))
    files = FileSet(path, 5)
    saved = []
    for content in _damaged(whole):
        packed.write_bytes(content)
        if not content.startswith(b"\x1f\x8b"):
            continue  # a plain file of garbage; test_promise_07_recover is about those
        before = path.parent / "before"
        before.write_bytes(content)
        events = _read(files)
        assert events == [event(one.payload["number"]) for one in events], "nothing that was never written"
        saved.append(len(events))
        anomalies = scan(files, "rotating", Work()).anomalies
        harmless = content != whole and len(events) == 101 and not anomalies
        assert harmless or any(one.path == str(packed) for one in anomalies), content.hex()
        report = recover(files, "rotating", QUARANTINE.mode, None, Work())
        assert _read(files) == events
        assert scan(files, "rotating", Work()).anomalies == ()
        assert (recover(files, "rotating", QUARANTINE.mode, None, Work())).repaired_files == ()
        if not harmless:
            aside = [file.read_bytes() for file in path.parent.glob("*quarantine*") if file.is_file()]
            assert content in aside, "every byte is kept"
            assert report.quarantined_files
        for file in path.parent.glob("*quarantine*"):
            file.unlink()
    assert min(saved) >= 1
    if not foreign:
        assert sorted(saved)[len(saved) // 4] > 75, "damage costs at most the two blocks it lies in"


def _broken_head(content: bytes) -> bytes:
    return content[:30] + bytes([content[30] ^ 1]) + content[31:]


@pytest.mark.parametrize(
    "join",
    [
        lambda ours, foreign: ours + foreign,
        lambda ours, foreign: foreign + ours,
        lambda ours, foreign: foreign + bytes(5000) + ours,
        lambda ours, foreign: _broken_head(ours) + foreign,
    ],
    ids=["appended", "before", "padded", "head"],
)
def test_content_that_any_tool_can_read_is_not_damage(path, line, event, join):
    lines = [line(number) for number in range(1, 101)]
    packed = path.with_name("facts.ndjson.1.gz")
    pack(packed, b"".join(lines), step=2000)
    content = join(packed.read_bytes(), gzip.compress(b"".join(lines)))
    packed.write_bytes(content)
    path.write_bytes(line(101))
    files = FileSet(path, 5)
    expected = [event(number) for number in [*range(1, 101), *range(1, 101), 101]]
    assert _read(files) == expected
    assert {one.type for one in scan(files, "rotating", Work()).anomalies} == {"sequence_gap"}
    recover(files, "rotating", PersistenceRecoveryMode.REPAIR, None, Work())
    assert _read(files) == expected
    assert packed.read_bytes() == content


def test_two_broken_heads_cost_their_blocks_and_no_other(path, line):
    lines = [line(number) for number in range(1, 101)]
    packed = path.with_name("facts.ndjson.1.gz")
    pack(packed, b"".join(lines), step=2000)
    content, magic = bytearray(packed.read_bytes()), codec_for("gzip").block_magic
    at = 0
    for _ in range(2):
        at = content.index(magic, at + 1)
        content[at + len(magic)] ^= 1
        content[at + 60 : at + 80] = bytes(20)  # without this, any tool could read the block
    packed.write_bytes(content)
    path.write_bytes(line(101))
    lost = {*range(1, 102)} - {one.payload["number"] for one in _read(FileSet(path, 5))}
    assert lost == {*range(min(lost), max(lost) + 1)}
    assert 20 <= len(lost) <= 28


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "no")]
)
def test_the_beginning_of_a_foreign_file_that_the_disk_cannot_read_is_kept(path, line, monkeypatch, error):
    lines = [line(number) for number in range(1, 2001)]
    path.with_name("facts.ndjson.1.gz").write_bytes(gzip.compress(b"".join(lines)))
    path.write_bytes(line(2001))
    real = gzip.GzipFile.read1

    def read1(self, size=-1):
        if self.tell():
            raise error
        return real(self, min(size, 4096))

    monkeypatch.setattr(gzip.GzipFile, "read1", read1)
    files = FileSet(path, 5)
    if error.errno != errno.EIO:
        with pytest.raises(PermissionError):
            _read(files)
        return
    numbers = [one.payload["number"] for one in _read(files)]
    assert numbers == [*range(1, len(numbers)), 2001]
    assert 10 < len(numbers) < 100
    anomalies = scan(files, "rotating", Work()).anomalies
    assert any("Input/output error" in one.detail for one in anomalies), anomalies


def test_in_a_damaged_foreign_file_a_line_without_end_is_passed_over(path, line):
    content = gzip.compress(line(1) + b"x" * (MAX_LINE_BYTES + 2**19) + b"\n" + line(2) + line(3), 1)
    path.with_name("facts.ndjson.1.gz").write_bytes(content[:-4])
    path.write_bytes(line(4))
    assert [one.payload["number"] for one in _read(FileSet(path, 5))] == [1, 2, 3, 4]


def test_packed_lines_that_ran_together_are_parted(path, line):
    packed = path.with_name("facts.ndjson.1.gz")
    pack(packed, line(1)[:-1] + bytes(600) + line(2) + line(3)[:-1])
    path.write_bytes(line(4))
    files = FileSet(path, 5)
    recover(files, "rotating", PersistenceRecoveryMode.REPAIR, None, Work())
    assert gzip.decompress(packed.read_bytes()) == line(1) + line(2) + line(3)
    assert [one.payload["number"] for one in _read(files)] == [1, 2, 3, 4]
    assert scan(files, "rotating", Work()).anomalies == ()


def test_a_foreign_file_is_searched_for_times_as_a_whole(path, line, event):
    path.with_name("facts.ndjson.1.gz").write_bytes(gzip.compress(b"".join(map(line, range(1, 101)))))
    path.write_bytes(line(101))
    query: Query[PersistedRecord] = Query(since=event(40).timestamp, until=event(42).timestamp)
    found = newest(FileSet(path, 5), query, RetentionPolicy(), 0.0, lambda: None)
    assert found == [event(40), event(41), event(42)]


async def test_recovery_and_compaction_pack_only_what_changed(path, line, event, monkeypatch):
    lines = [line(number) for number in range(1, 20_001)]
    lines[9000] = b"garbage\n"
    packed = path.with_name("facts.ndjson.1.gz")
    pack(packed, b"".join(lines))
    path.write_bytes(line(20_001))
    policy = RetentionPolicy(max_records=15_001)
    store = RotatingFilePersistence(path, retention_policy=policy)
    wanted = b"".join(lines[5000 - 1 : 9000] + lines[9001:])
    made: list[int] = []
    real = zlib.compressobj

    def compressobj(*arguments):
        made.append(len(made))
        return real(*arguments)

    monkeypatch.setattr(zlib, "compressobj", compressobj)
    report = await store.compact()
    assert len(made) == 2  # blocks of thirteen: where the kept ones begin, and where the garbage was
    assert (report.before_records, report.after_records) == (20_000, 15_001)
    assert gzip.decompress(packed.read_bytes()) == wanted
    assert report.before_bytes - report.after_bytes == sum(map(len, lines)) - len(wanted)
    assert not (await store.scan()).has_anomalies
    assert len(await store.list_events(since=event(19_000).timestamp)) == 1002
