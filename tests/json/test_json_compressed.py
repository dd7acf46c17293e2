"""Compressed files of a set are read and named as if they were not."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from papyra.exceptions import BackendURLError, PersistenceError
from papyra.persistence import RetentionPolicy, open_backend
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_json import JsonFilePersistence, RotatingFilePersistence
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance.operations import scan

from .._loops import one_loop
from ._compressed import CODECS, HAS_ZSTD, SUFFIX, compressed, names, pack, until
from ._records import numbers

QUARANTINE = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)
REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)


@pytest.mark.parametrize("compress", CODECS)
async def test_full_files_are_compressed_and_read_as_before(path, event, compress):
    store = RotatingFilePersistence(path, max_bytes=2000, max_files=5, compress=compress)
    for first in range(0, 60, 5):
        await store.record_batch([event(number) for number in range(first, first + 5)])
    await compressed(path)
    suffix = SUFFIX[compress]
    assert names(path) == ["", ".1" + suffix, ".2" + suffix, ".3" + suffix, ".4" + suffix, ".lock"]
    found = await numbers(store)
    assert len(found) > 30
    assert found == list(range(60 - len(found), 60))
    assert [one.payload["number"] for one in await store.list_events(limit=20)] == found[-20:]
    assert not (await store.scan()).has_anomalies
    await store.aclose()
    plain = RotatingFilePersistence(
        path, max_bytes=2000
    )  # who does not compress reads and shifts them all the same
    assert await numbers(plain) == found
    await plain.record_batch([event(number) for number in range(60, 80)])
    assert names(path)[1:3] == [".1", ".2"]
    assert {".3" + suffix, ".4" + suffix} <= set(names(path))
    found = await numbers(plain)
    assert found == list(range(80 - len(found), 80))
    assert not (await plain.scan()).has_anomalies
    await plain.aclose()


async def test_what_is_compressed_is_what_was_written_to_any_tool(path, line, event):
    store = RotatingFilePersistence(path, max_bytes=10 * len(line(10)), max_files=9, compress="gzip")
    await store.record_batch([event(number) for number in range(10, 31)])
    await compressed(path)
    await store.aclose()
    read = [gzip.decompress(path.with_name(f"facts.ndjson.{number}.gz").read_bytes()) for number in (2, 1)]
    assert b"".join(read) + path.read_bytes() == b"".join(
        line(number, number - 9) for number in range(10, 31)
    )
    assert path.with_name("facts.ndjson.1.gz").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["lzma", "", True, "GZIP"])
async def test_another_compression_is_refused(path, value):
    with pytest.raises(ValueError, match=r"compress must be 'gzip', 'zstd' or None, not"):
        RotatingFilePersistence(path, compress=value)


async def test_the_url_takes_it(path, event):
    store = open_backend(f"rotating:{path}?compress=gzip&max_bytes=400")
    await store.record_batch([event(number) for number in range(5)])
    await compressed(path)
    await store.aclose()
    with pytest.raises(BackendURLError, match="compress"):
        open_backend(f"rotating:{path}?compress=zip")
    with pytest.raises(BackendURLError, match="compress"):
        open_backend(f"json:{path}?compress=gzip")


@pytest.mark.skipif(HAS_ZSTD, reason="this Python has zstd")
async def test_zstd_on_a_python_without_it_is_refused_and_its_files_are_left_alone(path, line, event):
    with pytest.raises(ValueError, match=r"needs Python 3\.14 or newer"):
        RotatingFilePersistence(path, compress="zstd")
    with pytest.raises(BackendURLError, match=r"needs Python 3\.14 or newer"):
        open_backend(f"rotating:{path}?compress=zstd")
    packed = path.with_name("facts.ndjson.1.zst")
    packed.write_bytes(b"\x28\xb5\x2f\xfd, as if by zstd")
    path.write_bytes(line(2))
    store = RotatingFilePersistence(path)
    with pytest.raises(PersistenceError, match=r"compressed with zstd, which needs Python 3\.14"):
        await store.list_events()
    (anomaly,) = (await store.scan()).anomalies
    assert (anomaly.type, anomaly.path) == ("unreadable_file", str(packed))
    for config in (REPAIR, QUARANTINE):
        assert (await store.recover(config)).repaired_files == ()
    assert packed.exists()
    await store.record_event(event(3))
    await store.aclose()


# -- what is read


@one_loop
async def test_the_newest_are_read_without_unpacking_the_rest(path, line, event, monkeypatch):
    for number in (3, 2, 1):
        first = 20_000 * (3 - number) + 1
        content = b"".join(map(line, range(first, first + 20_000)))
        pack(path.with_name(f"facts.ndjson.{number}.gz"), content)
    store = RotatingFilePersistence(path)
    unpacked: list[int] = []
    real = zlib.decompressobj

    def decompressobj(wbits):
        unpacked.append(wbits)
        return real(wbits)

    monkeypatch.setattr(zlib, "decompressobj", decompressobj)
    assert await store.list_events(limit=10) == [event(number) for number in range(59_991, 60_001)]
    assert len(unpacked) == 1  # block of the fifteen of the youngest file
    monkeypatch.undo()
    assert len(await store.list_events(limit=20_001)) == 20_001


@one_loop
@pytest.mark.parametrize("compress", CODECS)
@pytest.mark.parametrize("step", [1, 700, 10**6])
async def test_lines_of_any_length_are_whole(path, event, compress, step):
    sizes = [10, 300_000, 5, 1_000_000, 1, 8192, 262_144 - 190, 70_000, 3, 900_000, 900_000]
    events = [event(number, payload={"text": "x" * size}) for number, size in enumerate(sizes)]
    writer = JsonFilePersistence(path)
    await writer.record_batch(events)
    await writer.aclose()
    content = path.read_bytes()
    content += b'{"kind":"audit"' + b" " * 3 * 2**20 + b"}\n"  # more than a block may hold
    pack(path.with_name("facts.ndjson.1" + SUFFIX[compress]), content, compress, step)
    path.write_bytes(b"")
    store = RotatingFilePersistence(path)
    for limit in (None, 1, 4, 10, 11):
        assert await store.list_events(limit=limit) == events[-limit if limit else None :]
    (anomaly,) = (await store.scan()).anomalies
    offset = content.index(b'{"kind":"audit"')
    assert (anomaly.type, anomaly.line, anomaly.offset) == ("corrupt_line", len(sizes) + 1, offset)


async def test_a_lone_compressed_file_is_read_but_takes_no_facts(path, line, event):
    packed = path.with_name("copy.gz")
    packed.write_bytes(gzip.compress(line(1) + line(2)))
    store = JsonFilePersistence(packed)
    assert await store.list_events() == [event(1), event(2)]
    before = packed.read_bytes()
    with pytest.raises(PersistenceError, match="is compressed, so no record can be appended to it"):
        await store.record_event(event(3))
    await store.aclose()
    assert packed.read_bytes() == before


@pytest.mark.parametrize("members", [1, 3])
async def test_what_the_gzip_command_made_is_read_too(path, line, event, members):
    lines = [line(number) for number in range(1, 3001)]
    step = len(lines) // members
    parts = [b"".join(lines[start : start + step]) for start in range(0, len(lines), step)]
    path.with_name("facts.ndjson.1.gz").write_bytes(b"".join(map(gzip.compress, parts)) + bytes(512))
    path.write_bytes(line(3001))
    store = RotatingFilePersistence(path)
    assert await numbers(store) == list(range(1, 3002))
    assert not (await store.scan()).has_anomalies
    store = RotatingFilePersistence(path, retention_policy=RetentionPolicy(max_records=1000))
    await store.compact()
    assert await numbers(store) == list(range(2002, 3002))
    assert gzip.decompress(path.with_name("facts.ndjson.1.gz").read_bytes()) == b"".join(lines[2001:])


async def test_limits_in_bytes_do_not_depend_on_compression(path, event):
    policy = RetentionPolicy(max_total_bytes=3000)
    kept = []
    for compress in (None, "gzip"):
        own = path.parent / str(compress) / "facts"
        store = RotatingFilePersistence(own, max_bytes=1000, max_files=9, compress=compress)
        await store.record_batch([event(number) for number in range(40)])
        if compress:
            await compressed(own)
        await store.aclose()
        store = RotatingFilePersistence(own, max_files=9, retention_policy=policy)
        kept.append((await numbers(store), await store.compact(), await numbers(store)))
    assert kept[0] == kept[1]
    assert kept[0][0] == kept[0][2] != list(range(40))


def test_a_bomb_does_not_fill_the_memory(path):
    piece = b'{"kind":"event"' + b" " * (2**20 - 15)
    peaks = []
    for megabytes in (20, 60):
        deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = b"".join(deflate.compress(piece) for _ in range(megabytes)) + deflate.flush()
        path.with_name("facts.ndjson.1.gz").write_bytes(bomb)
        path.write_bytes(b"")
        tracemalloc.start()
        try:
            assert len(scan(FileSet(path, 5), "rotating", Work()).anomalies) == 1
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**20


# -- names


async def test_a_crash_between_the_two_renames_is_made_good(path, line, event):
    pack(path.with_name("facts.ndjson.1"), line(1) + line(2))
    path.write_bytes(line(3))
    store = RotatingFilePersistence(path, compress="gzip")
    assert await numbers(store) == [1, 2, 3]
    assert not (await store.scan()).has_anomalies
    await store.record_event(event(4))
    await compressed(path)
    assert await numbers(store) == [1, 2, 3, 4]
    assert names(path) == ["", ".1.gz", ".lock"]
    await store.aclose()


async def test_an_empty_full_file_stays_as_it_is(path, line, event):
    path.with_name("facts.ndjson.1").touch()
    path.with_name("facts.ndjson.2").write_bytes(line(1))
    path.write_bytes(line(2))
    store = RotatingFilePersistence(path, compress="gzip")
    await store.record_event(event(3))
    await until(lambda: ".2.gz" in names(path))
    await store.aclose()  # which waits for the thread
    assert names(path) == ["", ".1", ".2.gz", ".lock"]
    assert await numbers(RotatingFilePersistence(path)) == [1, 2, 3]


async def test_of_two_files_with_one_number_the_plain_one_counts(path, line, event):
    twin, plain = path.with_name("facts.ndjson.1.gz"), path.with_name("facts.ndjson.1")
    plain.write_bytes(line(1) + line(2))
    twin.write_bytes(gzip.compress(line(1)))
    path.write_bytes(line(3))
    store = RotatingFilePersistence(path, max_bytes=len(line(3)), compress="gzip")
    assert await numbers(store) == [1, 2, 3]
    (anomaly,) = (await store.scan()).anomalies
    assert (anomaly.type, anomaly.path) == ("unexpected_file", str(twin))
    await store.record_event(event(4))
    assert {".2", ".2.gz"} <= set(names(path)), "both are moved, and neither is overwritten"
    assert await numbers(store) == [1, 2, 3, 4]
    await store.recover(REPAIR)
    assert not (await store.scan()).has_anomalies
    assert ".2.gz" not in names(path)
    await store.record_event(event(5))
    await compressed(path)
    assert await numbers(store) == [1, 2, 3, 4, 5]
    await store.aclose()


async def test_r32_a_compaction_to_a_smaller_set_drops_compressed_files_too(path, event):
    store = RotatingFilePersistence(path, max_bytes=500, max_files=6, compress="gzip")
    await store.record_batch([event(number) for number in range(40)])
    await compressed(path)
    await store.aclose()
    assert len(names(path)) == 7
    others = path.with_name("facts.ndjson.9.gz")
    others.write_bytes(b"what somebody packed")
    store = RotatingFilePersistence(path, max_bytes=500, max_files=3)
    await store.record_event(event(40))
    assert len([name for name in names(path) if name not in (".lock", ".9.gz")]) == 6
    await store.compact(max_files=3)
    assert len([name for name in names(path) if name not in (".lock", ".9.gz")]) == 3
    assert others.exists()
    await store.aclose()
