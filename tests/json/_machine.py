"""What the state machines over files share: two writers of one set, without threads."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from zlib import crc32

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule

from papyra_json._fileset.names import FileSet
from papyra_json._record.encode import encode
from papyra_json._write.appender import Appender

from ._records import bare_event

JUNK = st.sampled_from([b"\0", b"junk", b"junk\n", b'{"kind":"event"}\n', b"\n", b'{"kind":"ev'])


def numbers_in(lines: list[bytes]) -> list[int]:
    """Read the numbers of the events in lines by comparing whole lines: no code under test in it."""
    numbers: list[int] = []
    for line in lines:
        body, _, crc = line.rpartition(b',"crc":"')
        if body and crc == b'%08x"}' % crc32(body):
            numbers.append(int(body.split(b'"local:')[1].partition(b'"')[0]))
    return numbers


def how_long(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class FileMachine(RuleBasedStateMachine):
    """A set of files, in memory where the system allows it. Each record has the next number."""

    def open_set(self, max_bytes: int | None, max_files: int) -> None:
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.files = FileSet(self.folder / "facts", max_files)
        self.max_bytes = max_bytes
        self.count = 0
        self.writers = [self._writer(), self._writer()]

    def _writer(self) -> Appender:
        return Appender(self.files, sync_each=False, sync_later=False, max_bytes=self.max_bytes)

    def teardown(self):
        if hasattr(self, "folder"):
            for writer in self.writers:
                writer.close()
            shutil.rmtree(self.folder)

    def append(self, writer: int, many: int) -> range:
        """Record events with the next numbers."""
        new = range(self.count, self.count + many)
        appender = self.writers[writer]
        done = appender.append(encode([bare_event(number) for number in new], appender.next_seq))
        assert (done.records, done.error) == (many, None)
        self.count += many
        return new

    @rule(writer=st.integers(0, 1))
    def reopen(self, writer):
        self.writers[writer].close()
        self.writers[writer] = self._writer()
