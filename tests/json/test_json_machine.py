"""The engine against a model: any order of recording, closing, tearing, corrupting, compacting and
recovering.
"""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, invariant, precondition, rule

from papyra.persistence import Query, RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistedEvent, PersistenceRecoveryMode
from papyra_json._maintenance.operations import compact, recover, scan
from papyra_json._read.query import newest

from ._machine import JUNK, FileMachine, how_long, numbers_in
from ._records import bare_event


def _go_on() -> None:
    pass


class FileStore(FileMachine):
    """Two writers and a reader of one set, without threads: the model is the list of what must be there."""

    @initialize(max_bytes=st.sampled_from([None, 400, 2000]))
    def begin(self, max_bytes):
        self.open_set(max_bytes, 1 if max_bytes is None else 500)
        self.model: list[int] = []
        self.damaged = False

    @rule(writer=st.integers(0, 1), many=st.integers(1, 6))
    def record(self, writer, many):
        self.model += self.append(writer, many)

    @precondition(lambda self: self.files.base.exists() and self.model)
    @rule(cut=st.integers(1, 300))
    def tear(self, cut):
        """Cut bytes off the end, as a power loss would; records that lost a byte are gone."""
        content = self.files.base.read_bytes()
        content = content[: max(0, len(content) - cut)]
        self._write(self.files.base, content)

    @rule(junk=JUNK)
    def add_junk(self, junk):
        if self.files.base.exists():
            self._write(self.files.base, self.files.base.read_bytes() + junk)

    @rule(data=st.data())
    def corrupt(self, data):
        present = [path for path in self.files.present() if path.stat().st_size]
        if not present:
            return
        path = data.draw(st.sampled_from(present))
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        self._write(path, bytes(content))

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.damaged = True
        # What must still be there are the lines that nobody touched: the test's own reading of the files.
        self.model = [number for file in self.files.present() for number in _plainly(file.read_bytes())]

    @rule(mode=st.sampled_from([PersistenceRecoveryMode.REPAIR, PersistenceRecoveryMode.QUARANTINE]))
    def recover(self, mode):
        before = self._valid_lines()
        recover(self.files, "json", mode, None, Work())
        assert self._bytes() == b"".join(before)
        assert scan(self.files, "json", Work()).anomalies == ()
        self.damaged = False
        if mode is PersistenceRecoveryMode.QUARANTINE:
            assert recover(self.files, "json", mode, None, Work()).quarantined_files == ()

    @rule(keep=st.none() | st.integers(0, 30), dry_run=st.booleans())
    def compact(self, keep, dry_run):
        policy = RetentionPolicy(max_records=keep)
        kept = self.model if keep is None else self.model[len(self.model) - min(keep, len(self.model)) :]
        report = compact(self.files, "json", policy, 0.0, Work(), dry_run=dry_run)
        assert (report.before_records, report.after_records) == (len(self.model), len(kept))
        if not dry_run:
            self.model = kept
            assert report.after_bytes == len(self._bytes())
            left = {one.type.value for one in scan(self.files, "json", Work()).anomalies}
            assert left <= ({"sequence_gap"} if self.damaged else set())

    @invariant()
    def reads_show_the_model(self):
        if not hasattr(self, "folder"):
            return
        found = newest(self.files, Query(PersistedEvent), RetentionPolicy(), 0.0, _go_on)
        assert found == [bare_event(number) for number in self.model]
        last = newest(self.files, Query(PersistedEvent, 3), RetentionPolicy(), 0.0, _go_on)
        assert last == found[-3:]

    @invariant()
    def an_undamaged_set_scans_clean(self):
        if hasattr(self, "folder") and not self.damaged:
            assert scan(self.files, "json", Work()).anomalies == ()

    def _bytes(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.files.present())

    def _valid_lines(self) -> list[bytes]:
        lines: list[bytes] = []
        for path in self.files.present():
            for line in path.read_bytes().replace(b"\0", b"\n").split(b"\n"):
                lines += [line + b"\n"] if _plainly(line) else []
        return lines


def _plainly(content: bytes) -> list[int]:
    return numbers_in(content.replace(b"\0", b"\n").split(b"\n"))


FileStore.TestCase.settings = how_long(30, 30)
TestFileStore = FileStore.TestCase


@pytest.mark.sweep
class TestFileStoreForLong(FileStore.TestCase):
    settings = how_long(250, 30)
