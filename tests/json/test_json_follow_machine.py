"""Following against a model: whatever is done to the files, each record comes once, in order, and none is
left out.
"""

from __future__ import annotations

import shutil

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, precondition, rule

from papyra.persistence import RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import PersistedEvent, PersistenceRecoveryMode
from papyra_json._fileset.lock import SetLock
from papyra_json._maintenance.operations import compact, recover
from papyra_json._read.follow import follow

from ._machine import JUNK, FileMachine, how_long, numbers_in

THEN = st.sampled_from(["", "record", "look", "record and look"])


def _number(record: object) -> int:
    assert isinstance(record, PersistedEvent)
    return int(record.actor_address.removeprefix("local:"))


class FollowedStore(FileMachine):
    """Two writers, a follower, and all that befalls files.

    Every record has a number of its own, counting up.
    """

    @initialize(max_bytes=st.sampled_from([None, 400, 1500]), max_files=st.sampled_from([2, 5, 100]))
    def begin(self, max_bytes, max_files):
        self.open_set(max_bytes, 1 if max_bytes is None else max_files)
        self.followed: list[int] = []
        self.blocks = None

    def teardown(self):
        if hasattr(self, "folder"):
            self.look()
            if self.blocks is not None:
                self.blocks.close()
        super().teardown()

    # -- the follower

    @precondition(lambda self: self.blocks is None)
    @rule(limit=st.integers(0, 20))
    def start_to_follow(self, limit):
        self.blocks = follow(self.files, limit, lambda _: True, RetentionPolicy(), 0.0, Work())
        first = list(map(_number, next(self.blocks)))
        there = self._readable()
        assert first == there[len(there) - min(limit, len(there)) :]
        self.since = self.count

    @precondition(lambda self: self.blocks is not None)
    @rule()
    def look(self):
        if self.blocks is None:
            return
        while block := next(self.blocks):
            self.followed += map(_number, block)
        assert self.followed == sorted(set(self.followed))
        new = {number for number in self._readable() if number >= self.since}
        assert new <= set(self.followed)

    def _readable(self) -> list[int]:
        numbers: list[int] = []
        for path in self.files.present():
            *lines, torn = path.read_bytes().split(b"\n")
            numbers += numbers_in(lines if path == self.files.base else [*lines, torn])
        return numbers

    def _then(self, then: str) -> None:
        """Go on after a change with what shows whether it was understood."""
        if "record" in then:
            self.record(0, 2)
        if "look" in then:
            self.look()

    # -- what Papyra does

    @rule(writer=st.integers(0, 1), many=st.integers(1, 6))
    def record(self, writer, many):
        self.append(writer, many)

    @rule(
        mode=st.sampled_from([PersistenceRecoveryMode.REPAIR, PersistenceRecoveryMode.QUARANTINE]), then=THEN
    )
    def recover(self, mode, then):
        recover(self.files, "json", mode, None, Work())
        self._then(then)

    @rule(keep=st.none() | st.integers(0, 30), then=THEN)
    def compact(self, keep, then):
        compact(self.files, "json", RetentionPolicy(max_records=keep), 0.0, Work(), dry_run=False)
        self._then(then)

    # -- what others do

    @rule(then=THEN)
    def replace_all(self, then):
        """Replace each file by a copy, as an unneeded compaction might."""
        lock = SetLock(self.files.base)
        with lock.exclusive():
            for path in self.files.present():
                copy = path.with_name("copy")
                shutil.copyfile(path, copy)
                copy.replace(path)
        lock.close()
        self._then(then)

    @precondition(lambda self: self.files.base.exists())
    @rule(cut=st.integers(1, 300), then=THEN)
    def tear(self, cut, then):
        content = self.files.base.read_bytes()
        self.files.base.write_bytes(content[: max(0, len(content) - cut)])
        self._then(then)

    @precondition(lambda self: self.files.base.exists())
    @rule(junk=JUNK, then=THEN)
    def add_junk(self, junk, then):
        with self.files.base.open("ab") as file:
            file.write(junk)
        self._then(then)

    @rule(data=st.data(), then=THEN)
    def corrupt(self, data, then):
        present = [path for path in self.files.present() if path.stat().st_size]
        if present:
            path = data.draw(st.sampled_from(present))
            content = bytearray(path.read_bytes())
            content[data.draw(st.integers(0, len(content) - 1))] = 0xFF
            path.write_bytes(bytes(content))
        self._then(then)

    @precondition(lambda self: self.files.base.exists())
    @rule(then=THEN)
    def move_away(self, then):
        self.files.base.replace(self.folder / f"old-{self.count}")
        self._then(then)

    @precondition(lambda self: self.files.base.exists())
    @rule(look=st.booleans(), then=THEN)
    def move_away_and_back(self, look, then):
        self.files.base.replace(self.folder / "away")
        if look:
            self.look()
        (self.folder / "away").replace(self.files.base)
        self._then(then)

    @precondition(lambda self: self.files.base.exists())
    @rule(then=THEN)
    def delete(self, then):
        self.files.base.unlink()
        self._then(then)

    @precondition(lambda self: self.files.base.exists())
    @rule(then=THEN)
    def copy_and_truncate(self, then):
        with self.files.base.open("r+b") as file:
            file.truncate(0)
        self._then(then)

    @rule(then=THEN)
    def shift(self, then):
        """Rotate as logrotate does, which knows no lock."""
        for number in range(self.files.max_files - 1, 0, -1):
            if self.files.member(number - 1).exists():
                self.files.member(number - 1).replace(self.files.member(number))
        self._then(then)


FollowedStore.TestCase.settings = how_long(30, 40)
TestFollowedStore = FollowedStore.TestCase


@pytest.mark.sweep
class TestFollowedStoreForLong(FollowedStore.TestCase):
    settings = how_long(250, 40)
