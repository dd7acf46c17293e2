"""The engine against a model: any order of recording, closing, tearing, corrupting, compacting and
recovering.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from papyra.persistence import Query, RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistedEvent, PersistenceRecoveryMode
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance.operations import compact, recover, scan
from papyra_json._read.query import newest
from papyra_json._record.encode import encode
from papyra_json._write.appender import Appender


def _event(number: int) -> PersistedEvent:
    return PersistedEvent("local", f"local:{number}", "ActorStarted", {}, 1_700_000_000.0 + number)


def _go_on() -> None:
    pass


class FileStore(RuleBasedStateMachine):
    """Two writers and a reader of one set, without threads: the model is the list of what must be there."""

    @initialize(max_bytes=st.sampled_from([None, 400, 2000]))
    def begin(self, max_bytes):
        self.folder = Path(tempfile.mkdtemp())
        self.files = FileSet(self.folder / "facts", 1 if max_bytes is None else 500)
        self.max_bytes = max_bytes
        self.model: list[int] = []
        self.count = 0
        self.damaged = False
        self.writers = [self._writer(), self._writer()]

    def _writer(self) -> Appender:
        return Appender(self.files, sync_each=False, sync_later=False, max_bytes=self.max_bytes)

    def teardown(self):
        if hasattr(self, "folder"):
            for writer in self.writers:
                writer.close()
            shutil.rmtree(self.folder)

    @rule(writer=st.integers(0, 1), many=st.integers(1, 6))
    def record(self, writer, many):
        events = [_event(number) for number in range(self.count, self.count + many)]
        done = self.writers[writer].append(encode(events, self.writers[writer].next_seq))
        assert (done.records, done.error) == (many, None)
        self.model += range(self.count, self.count + many)
        self.count += many

    @rule(writer=st.integers(0, 1))
    def reopen(self, writer):
        self.writers[writer].close()
        self.writers[writer] = self._writer()

    @precondition(lambda self: self.files.base.exists() and self.model)
    @rule(cut=st.integers(1, 300))
    def tear(self, cut):
        """Cut bytes off the end, as a power loss would; records that lost a byte are gone."""
        content = self.files.base.read_bytes()
        content = content[: max(0, len(content) - cut)]
        self._write(self.files.base, content)

    @rule(junk=st.sampled_from([b"\0", b"junk", b"junk\n", b'{"kind":"event"}\n', b"\n", b'{"kind":"ev']))
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
        assert found == [_event(number) for number in self.model]
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
    """Read the numbers of the events in a file's bytes by comparing whole lines: no code under test in it."""
    from zlib import crc32

    numbers: list[int] = []
    for line in content.replace(b"\0", b"\n").split(b"\n"):
        body, _, crc = line.rpartition(b',"crc":"')
        if body and crc == b'%08x"}' % crc32(body):
            numbers.append(int(body.split(b'"local:')[1].partition(b'"')[0]))
    return numbers


FileStore.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFileStore = FileStore.TestCase
