"""A set under a power cut, a kill, a full disk or a failing sync at any step of any work, and what must be
left of it.

The disk is one in memory that keeps only what was synced. A number says which record it is, and counts up
with every attempt, so that what is found can be checked without the code under test.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from zlib import crc32

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from papyra.persistence import Query, RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistedEvent, PersistenceRecoveryMode
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance.operations import compact, recover, scan
from papyra_json._read.query import newest
from papyra_json._record.encode import encode
from papyra_json._write.appender import Appender

from ._disk import FOLDER, Died, Disk
from ._records import bare_event

LEVELS = st.sampled_from(["os", "interval", "always"])
_MEMBER = re.compile(r"facts(\.\d+)?")
FATES = st.none() | st.one_of(
    st.tuples(st.sampled_from(["kill", "power"]), st.integers(0, 30)),  # the number of calls until then
    st.tuples(st.just("full"), st.integers(0, 1000)),  # the bytes that still fit
    st.tuples(st.just("failing"), st.integers(1, 4)),  # how many of the next syncs
)


def _excuses(fate: tuple[str, int] | None) -> bool:
    return fate is not None and fate[0] in ("full", "failing")


class PoweredStore(RuleBasedStateMachine):
    """Two writers of any level, in processes of their own, and others that compact and recover their set."""

    @initialize(
        levels=st.tuples(LEVELS, LEVELS),
        shape=st.sampled_from([(None, 1), (400, 500), (1500, 500), (400, 3)]),
    )
    def begin(self, levels, shape):
        self.patch = pytest.MonkeyPatch()
        self.disk = Disk()
        self.disk.install(self.patch)
        self.levels = levels
        self.max_bytes, self.max_files = shape
        self.files = FileSet(Path(FOLDER, "facts"), self.max_files)
        self.count = 0  # of attempted records
        self.there: list[int] = []  # what readers must see
        self.synced: set[int] = set()  # what a power cut must leave
        self.unsynced: list[list[int]] = [[], []]  # what each writer's next sync is to bring to the disk
        self.failed: set[int] = set()  # of what a caller heard that it is not stored
        self.damaged = False
        self.writers = [self._writer(0), self._writer(1)]

    def _writer(self, number: int) -> Appender:
        level = self.levels[number]
        return Appender(
            self.files, sync_each=level == "always", sync_later=level == "interval", max_bytes=self.max_bytes
        )

    def teardown(self):
        if hasattr(self, "patch"):
            self.patch.undo()

    # -- work, to its end or not

    @rule(writer=st.integers(0, 1), many=st.integers(1, 6), fate=FATES)
    def record(self, writer, many, fate):
        numbers = list(range(self.count, self.count + many))
        self.count += many
        appender = self.writers[writer]
        lines = encode([bare_event(number) for number in numbers], appender.next_seq)
        done = self._until(fate, lambda: appender.append(lines), self.there, writer)
        if done is not None:
            self._acknowledged(writer, numbers[: done.records])
            if appender.healthy:  # a file that can't be synced can't be cut for good either
                self.failed.update(numbers[done.records :])
            assert done.records == many or done.error is not None
            assert done.error is None or _excuses(fate), done.error
            if done.records and not self.damaged:
                assert scan(self.files, "json", Work()).anomalies == ()

    def _acknowledged(self, writer: int, numbers: list[int]) -> None:
        self.there += numbers
        if self.levels[writer] == "always":
            self.synced.update(numbers)
        elif self.levels[writer] == "interval":
            self.unsynced[writer] += numbers

    @rule(writer=st.integers(0, 1), fate=FATES)
    def sync(self, writer, fate):
        appender = self.writers[writer]

        def work() -> bool:
            try:
                appender.sync()
            except Exception:
                assert _excuses(fate)
                return False
            return True

        if self._until(fate, work, self.there, writer):
            self.synced.update(set(self.unsynced[writer]) & set(self.there))
            self.unsynced[writer] = []

    @rule(keep=st.none() | st.integers(0, 30), fate=FATES)
    def compact(self, keep, fate):
        before = self.there
        kept = before if keep is None else before[len(before) - min(keep, len(before)) :]
        self.synced &= set(kept)
        policy = RetentionPolicy(max_records=keep)

        def work():
            try:
                return compact(self.files, "json", policy, 0.0, Work(), dry_run=False)
            except Exception:
                assert _excuses(fate)
                self._check_kept(kept)  # some files may be done

        report = self._until(fate, work, kept)
        if report is not None:
            assert (report.before_records, report.after_records) == (len(before), len(kept))
            self.there = kept
            if report.removed_records and self.max_files == 1:
                self.synced.update(kept)  # in a file that was replaced, and so synced

    @rule(
        mode=st.sampled_from([PersistenceRecoveryMode.REPAIR, PersistenceRecoveryMode.QUARANTINE]), fate=FATES
    )
    def recover(self, mode, fate):
        def work() -> bool:
            try:
                recover(self.files, "json", mode, None, Work())
            except Exception:
                assert _excuses(fate)
                return False
            return True

        if self._until(fate, work, self.there):
            assert scan(self.files, "json", Work()).anomalies == ()
            self.damaged = False

    @rule(seed=st.integers(0, 2**32))
    def lose_power(self, seed):
        self.disk.chance = random.Random(seed)
        self._power_returns()

    # -- the ends of processes

    def _until(self, fate, work, promised, writer=None):
        """Do some work; None if its process - one of a writer, or of its own - dies in the middle of it."""
        kind, count = fate or ("none", 0)
        self.disk.chance = random.Random(f"{kind}{count}{self.count}")
        self.disk.calls_left = count if kind in ("kill", "power") else None
        self.disk.room = count if kind == "full" else None
        self.disk.failing_syncs = count if kind == "failing" else 0
        try:
            return work()
        except Died:
            if kind == "power":
                self._power_returns()
            else:
                self._check_kill(promised, writer)
            return None
        finally:
            self.disk.calls_left = self.disk.room = None
            self.disk.failing_syncs = 0

    def _check_kill(self, promised, writer) -> None:
        self.disk.kill()
        if self.max_files < 10:  # the oldest may go
            promised = promised[len(promised) - len(set(promised) & set(self._plainly())) :]
        self._check_kept(promised)
        if writer is not None:
            self.writers[writer] = self._writer(writer)
            self.unsynced[writer] = []

    def _power_returns(self) -> None:
        if self.max_files < 10:
            self.synced &= set(self._plainly())  # the others were rotated away
        self.disk.cut_power()
        acknowledged = self._place_behind(max(self.synced, default=-1))
        self._check_kept(self.synced)
        self.synced = set(self.there)  # it has proved to be on the disk
        self.writers = [self._writer(0), self._writer(1)]
        self.unsynced = [[], []]
        self._check_the_next_append_succeeds(acknowledged)

    def _check_kept(self, promised) -> None:
        found = self._plainly()
        missing = set(promised) - set(found)
        assert not missing, f"lost {sorted(missing)} of {sorted(promised)}"
        self.there = found

    def _check_the_next_append_succeeds(self, acknowledged: tuple[int, int]) -> None:
        number, self.count = self.count, self.count + 1
        done = self.writers[0].append(encode([bare_event(number)], self.writers[0].next_seq))
        assert (done.records, done.error) == (1, None)
        self._acknowledged(0, [number])
        left = scan(self.files, "json", Work()).anomalies
        if self.levels == ("always", "always") and not self.damaged:
            assert all(self._place(one.path, one.offset) >= acknowledged for one in left), left
        self.damaged = self.damaged or bool(left)

    # -- what holds after each step

    @invariant()
    def readers_see_what_is_there(self):
        if not hasattr(self, "patch"):
            return
        found = self._plainly()
        if self.max_files < 10:
            assert len(list(filter(_MEMBER.fullmatch, self.disk.names))) <= self.max_files
            self.there = self.there[len(self.there) - len(found) :]
        assert found == self.there
        assert len(found) == len(set(found))
        if "os" not in self.levels:  # which does not promise that what failed stays away after a power cut
            assert found == sorted(found)
            assert self.failed.isdisjoint(found)
        query = Query(PersistedEvent)
        shown = newest(self.files, query, RetentionPolicy(), 0.0, Work().check)
        assert shown == [bare_event(number) for number in found]

    # -- the test's own reading of the files: no code under test in it

    def _plainly(self) -> list[int]:
        return [number for number, _ in self._lines()]

    def _place_behind(self, wanted: int) -> tuple[int, int]:
        """Return where a record ends: in which file, the oldest lowest, and at which byte."""
        return next((place for number, place in self._lines() if number == wanted), (-1000, 0))

    def _lines(self) -> list[tuple[int, tuple[int, int]]]:
        """Read the numbers of the records by comparing whole lines, and where each ends."""
        found: list[tuple[int, tuple[int, int]]] = []
        for name in sorted(filter(_MEMBER.fullmatch, self.disk.names), key=self._place):
            offset = 0
            for line in bytes(self.disk.names[name].data).replace(b"\0", b"\n").split(b"\n"):
                body, _, crc = line.rpartition(b',"crc":"')
                offset += len(line) + 1
                if body and crc == b'%08x"}' % crc32(body):
                    number = int(body.split(b'"local:')[1].partition(b'"')[0])
                    found.append((number, self._place(name, offset)))
        return found

    @staticmethod
    def _place(path: str, offset: int | None = 0) -> tuple[int, int]:
        digits = path.rpartition("facts")[2].removeprefix(".")
        return -int(digits or 0), offset or 0
