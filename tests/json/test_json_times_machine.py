"""Whatever is done to a set, a read with ``since`` and ``until`` finds what a read of everything finds."""

from __future__ import annotations

from contextlib import suppress
from zlib import crc32

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, invariant, rule

from papyra.persistence import Query, RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import JSONValue, PersistedAudit, PersistedEvent, PersistenceRecoveryMode
from papyra_json._fileset.snapshot import open_unlocked
from papyra_json._maintenance.compressor import Compressor
from papyra_json._maintenance.operations import compact, recover
from papyra_json._read import time_search
from papyra_json._read.query import newest
from papyra_json._record.decode import InvalidLine, decode
from papyra_json._record.encode import encode
from papyra_json._record.lines import forward, pieces
from papyra_json._record.time_range import times_of
from papyra_json._segment import writer as _packing
from papyra_json._segment.codec import codec_for
from papyra_json._write import time_tracker
from papyra_json._write.appender import Appender

from ._machine import FileMachine, how_long

STEPS = st.one_of(
    st.floats(0, 2),
    st.floats(-3, 3),
    st.sampled_from([0.0, 1e-7, -1e-7, 3600.0, -3600.0, 1e9, -1e9, 0.1, 1 / 3]),
)
SMALL = {  # so that a few records are many
    time_tracker: {"NOTE_BYTES": 400, "MAX_CATCH_UP_BYTES": 5000, "LOOK_AGAIN_BYTES": 1500},
    time_search: {"MIN_SEARCH_BYTES": 200, "PROBE_BYTES": 64, "MAX_PROBE_BYTES": 1000},
    _packing: {"BLOCK_BYTES": 500, "MAX_BLOCK_BYTES": 500},
}


class TimedStore(FileMachine):
    """Two writers whose clocks gap, foreign tools that write as they like, and all care that is taken of the
    set.
    """

    @initialize(shape=st.sampled_from([(None, 1), (1500, 4), (900, 80)]))
    def begin(self, shape):
        self.patch = pytest.MonkeyPatch()
        for module, values in SMALL.items():
            for name, value in values.items():
                self.patch.setattr(module, name, value)
        self.open_set(*shape)
        self.clock = 1_700_000_000.0
        self.backups: list[tuple[str, bytes]] = []

    def teardown(self):
        super().teardown()
        if hasattr(self, "patch"):
            self.patch.undo()

    def _tick(self, step: float) -> float:
        self.clock += step
        return self.clock

    # -- writers of ours

    @rule(writer=st.integers(0, 1), steps=st.lists(STEPS, min_size=1, max_size=8), audit=st.booleans())
    def record(self, writer, steps, audit):
        self._record(self.writers[writer], steps, audit=audit)

    @rule(writer=st.integers(0, 1), many=st.integers(10, 40), step=st.sampled_from([0.0, 0.5, 1.0]))
    def record_in_order(self, writer, many, step):
        self._record(self.writers[writer], [step] * many)

    @rule(writer=st.integers(0, 1), steps=st.lists(STEPS, min_size=1, max_size=20))
    def record_and_die_before_it_is_noted(self, writer, steps):
        with self.patch.context() as patched:
            patched.setattr(time_tracker.TimeTracker, "note", lambda *_, **__: None)
            self._record(self.writers[writer], steps)
        self.reopen(writer)

    @rule(turns=st.lists(st.lists(STEPS, min_size=1, max_size=4), min_size=3, max_size=8))
    def take_turns(self, turns):
        for turn, steps in enumerate(turns):
            self._record(self.writers[turn % 2], steps)

    def _record(self, writer: Appender, steps, *, audit=False):
        first, self.count = self.count, self.count + len(steps)
        records = [
            PersistedEvent("local", f"local:{number}", "A", _payload(number), self._tick(step))
            if number % 3 or not audit
            else PersistedAudit("local", self._tick(step), 1, 1, 0, 0, 1, (), (), number)
            for number, step in enumerate(steps, first)
        ]
        lines = encode(records, writer.next_seq)
        done = writer.append(lines, times_of(records, lines) if first % 2 else None)
        assert (done.records, done.error) == (len(lines), None)

    # -- others

    def _foreign_line(self, step: float, *, summed: bool) -> bytes:
        body = (
            f'{{ "timestamp": {self._tick(step)!r}, "kind": "event", "system_id": "f", "event_type": "X",'
            f' "actor_address": "{self.count}", "payload": {{"timestamp":1.0,"seq":1}}'
        ).encode()
        self.count += 1
        return body + (b',"crc":"%08x"}\n' % crc32(body) if summed else b" }\n")

    @rule(data=st.data(), step=STEPS, summed=st.booleans(), many=st.integers(1, 4))
    def append_foreign_lines(self, data, step, summed, many):
        present = self.files.present()
        if present:
            path = data.draw(st.sampled_from(present))
            if path.suffix != ".gz":
                with path.open("ab") as file:
                    for _ in range(many):
                        file.write(self._foreign_line(step, summed=summed))

    @rule(data=st.data())
    def back_up(self, data):
        present = self.files.present()
        if present:
            path = data.draw(st.sampled_from(present))
            self.backups.append((path.name, path.read_bytes()))

    @rule(data=st.data(), in_place=st.booleans(), elsewhere=st.booleans())
    def restore(self, data, in_place, elsewhere):
        if not self.backups:
            return
        name, content = data.draw(st.sampled_from(self.backups))
        present = self.files.present()
        if elsewhere and present:
            name = data.draw(st.sampled_from(present)).name
        if name == "facts" and content.startswith(b"\x1f\x8b"):
            return
        path = self.folder / name
        if not in_place:
            path.unlink(missing_ok=True)
        path.write_bytes(content)

    @rule(data=st.data())
    def swap(self, data):
        plain = [path for path in self.files.present() if path.suffix != ".gz"]
        if len(plain) > 1:
            one, other = data.draw(st.sampled_from(plain)), data.draw(st.sampled_from(plain))
            mine, theirs = one.read_bytes(), other.read_bytes()
            one.write_bytes(theirs)
            other.write_bytes(mine)

    @rule(what=st.sampled_from(["gone", "older", "cut"]), keep=st.integers(0, 9000))
    def spoil_the_lock_file(self, what, keep):
        lock = self.folder / "facts.lock"
        if lock.exists():
            content = lock.read_bytes()
            if what == "gone":
                lock.unlink()
            elif what == "cut":
                lock.write_bytes(content[:keep])
            else:
                content, self.lock_before = getattr(self, "lock_before", b""), content
                lock.write_bytes(content)

    @rule(data=st.data(), blank=st.booleans())
    def damage(self, data, blank):
        """Blank a byte, which no valid line has, or cut the end off."""
        present = [path for path in self.files.present() if path.stat().st_size]
        if present:
            path = data.draw(st.sampled_from(present))
            content = bytearray(path.read_bytes())
            at = data.draw(st.integers(0, len(content) - 1))
            if blank:
                content[at] = 0
            else:
                del content[at:]
            path.write_bytes(bytes(content))

    # -- care

    @rule()
    def compress(self):
        compressor = Compressor(self.files, codec_for("gzip"))
        compressor.look()
        thread = compressor._thread
        if thread is not None:
            thread.join()

    @rule(keep=st.none() | st.integers(5, 60), age=st.none() | st.floats(1, 100))
    def compact(self, keep, age):
        policy = RetentionPolicy(max_records=keep, max_age_seconds=age)
        compact(self.files, "json", policy, self.clock, Work(), dry_run=False)

    @rule()
    def recover(self):
        recover(self.files, "json", PersistenceRecoveryMode.REPAIR, None, Work())

    # -- the promise

    @invariant()
    def bounded_reads_find_what_full_reads_find(self):
        if not hasattr(self, "folder"):
            return
        everything = self._everything()
        times = sorted(record.timestamp for record, _ in everything)
        some = [times[len(times) * part // 4] for part in range(4)] if times else []
        for low in (*some, self.clock, self.clock - 1.0):
            self._check(everything, low, None, None, RetentionPolicy())
            self._check(everything, None, low, 3, RetentionPolicy())
            self._check(everything, low, low + 2.0, None, RetentionPolicy())
            self._check(everything, low, low + 2.0, None, RetentionPolicy(max_records=20))
            policy = RetentionPolicy(max_age_seconds=max(0.0, self.clock - low), max_total_bytes=4000)
            self._check(everything, low + 1.0, None, 4, policy)

    def _check(self, everything, since, until, limit, policy):
        query = Query(None, limit, since, until)
        wanted = [record for record in _kept(everything, policy, self.clock) if query.matches(record)]
        if limit is not None:
            wanted = wanted[len(wanted) - min(limit, len(wanted)) :]
        assert newest(self.files, query, policy, self.clock, lambda: None) == wanted

    def _everything(self):
        with open_unlocked(self.files) as snapshot:
            found = []
            for file in snapshot.files:
                for start, end, lines in forward(file, 0, file.size):
                    assert end - start >= len(lines[0])
                    for line in lines:
                        for _, piece in pieces(line):  # a NUL in place of a newline joins two records
                            with suppress(InvalidLine):
                                found.append((decode(piece), len(piece) + 1))
            return found


def _payload(number: int) -> dict[str, JSONValue]:
    """Some are longer than a block, and none of the times in them is that of the record."""
    return {"timestamp": 5.0, "text": "x" * 700 if number % 7 == 6 else ""}


def _kept(everything, policy, now):
    oldest = policy.oldest_kept(now)
    left = [(record, size) for record, size in everything if record.timestamp >= oldest]
    if policy.max_records is not None:
        left = left[max(0, len(left) - policy.max_records) :]
    if policy.max_total_bytes is not None:
        while left and sum(size for _, size in left) > policy.max_total_bytes:
            left = left[1:]
    return [record for record, _ in left]


TimedStore.TestCase.settings = how_long(8, 25)
TestTimedStore = TimedStore.TestCase


@pytest.mark.sweep
class TestTimedStoreForLong(TimedStore.TestCase):
    settings = how_long(80, 25)
