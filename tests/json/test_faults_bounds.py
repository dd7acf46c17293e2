"""Whatever is written, and by whom: a set has at most `max_files` files of at most `max_bytes`, and the
newest records.
"""

from __future__ import annotations

import os
import random

import pytest

from papyra.persistence import Query, RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistenceRecoveryMode
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance.operations import compact, recover, scan
from papyra_json._read.query import newest
from papyra_json._record.encode import encode
from papyra_json._write.appender import Appender

from ._records import make_event
from ._scenarios import members


@pytest.mark.parametrize("seed", range(12))
def test_faults_no_workload_exceeds_the_bounds(quick_disk, monkeypatch, seed):
    chance = random.Random(seed)
    path = quick_disk / "facts"
    max_files, max_bytes = chance.randint(1, 5), chance.choice([1, 200, 700, 3000])
    files = FileSet(path, max_files)
    seen: list[int] = []
    for name in ("open", "write", "rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, _watched(getattr(os, name), lambda: seen.append(len(members(path, 8)))))

    def open_writer() -> Appender:
        sync = chance.choice([False, True])
        return Appender(files, sync_each=sync, sync_later=False, max_bytes=max_bytes)

    writers = [open_writer() for _ in range(3)]
    count, least = 0, 0
    for _ in range(40):
        writer = chance.randrange(3)
        match chance.randrange(12):
            case 0:
                compact(files, "json", RetentionPolicy(), 0.0, Work(), dry_run=False)
            case 1:
                recover(files, "json", PersistenceRecoveryMode.REPAIR, None, Work())
            case 2:
                writers[writer].close()
                writers[writer] = open_writer()
            case _:
                many = chance.choice([1, 1, 1, 2, 5, 20])
                texts = ["x" * chance.choice([0, 0, 50, 1000]) for _ in range(many)]
                events = [
                    make_event(count + number, payload={"x": text}) for number, text in enumerate(texts)
                ]
                lines = encode(events, writers[writer].next_seq)
                assert writers[writer].append(lines).records == many
                count, least = count + many, len(lines[-1])
        sizes = [(file.stat().st_size, file.read_bytes().count(b"\n")) for file in members(path, 8)]
        assert all(size <= max_bytes or lines == 1 for size, lines in sizes)
        found = newest(files, Query(), RetentionPolicy(), 0.0, Work().check)
        assert [one.timestamp - 1_700_000_000.0 for one in found] == [*range(count - len(found), count)]
        assert bool(found) == bool(count)
        # Where something had to go, the rest is all that fits: each file except the youngest is full.
        if len(found) < count:
            assert len(sizes) == max_files
            assert all(size + 1200 > max_bytes for size, _ in sizes[:-1])
    assert least == 0 or max(seen) <= max_files
    assert scan(files, "json", Work()).anomalies == ()
    for one in writers:
        one.close()


def _watched(real, look):
    def call(*arguments, **keywords):
        look()
        return real(*arguments, **keywords)

    return call
