"""Work that may be interrupted, the files before it, and the files that must be there after it, wherever it
ended.

The files are read here by comparing whole lines, without the code under test.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from papyra.exceptions import PersistenceError
from papyra.persistence import RetentionPolicy
from papyra.persistence.blocking import Work
from papyra.persistence.models import (
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
)
from papyra_json import JsonFilePersistence, RotatingFilePersistence
from papyra_json._file_persistence import FilePersistence
from papyra_json._maintenance.operations import compact, recover, scan
from papyra_json._record.encode import encode
from papyra_json._write.appender import Appender

from ._records import make_event, numbered_line

UNKNOWN, DONE, FAILED = 0, 1, 2

GARBAGE, BROKEN, TORN = b"garbage\n", numbered_line(5).replace(b"Started", b"Stopped"), b'{"torn'
STRANGER = numbered_line(90)


def _lines(*numbers: int) -> bytes:
    return b"".join(map(numbered_line, numbers))


@dataclass(frozen=True)
class Scenario:
    """Files, a store that is opened on them, and the calls of it."""

    files: dict[str, bytes] = field(default_factory=dict)
    there: tuple[int, ...] = ()  # records in them that are valid
    records: tuple[int, ...] = ()  # that are recorded, one call each
    keep: int | None = None  # how many a compaction keeps
    mode: PersistenceRecoveryMode | None = None
    least: int | None = None  # of records must be left, where the oldest may go
    max_files: int = 1
    max_bytes: int = 10**6
    durability: str = "os"
    dropped: tuple[bytes, ...] = ()  # bytes that must be found in the quarantine

    def store(self, path: Path) -> FilePersistence:
        policy = RetentionPolicy(max_records=self.keep)
        if self.max_files == 1:
            return JsonFilePersistence(path, policy, durability=self.durability)
        return RotatingFilePersistence(
            path,
            max_bytes=self.max_bytes,
            max_files=self.max_files,
            retention_policy=policy,
            durability=self.durability,
        )

    def prepare(self, path: Path) -> None:
        for name, content in self.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(name).write_bytes(content)

    async def act(self, path: Path, outcomes: MutableSequence[int]) -> None:
        """Do the work as users do, and note what each call said: 1 for done, 2 for failed; 0 is for who died
        in between.
        """
        store = self.store(path)
        for count, number in enumerate(self.records):
            try:
                await store.record_event(make_event(number))
            except PersistenceError:
                outcomes[count] = FAILED
            else:
                outcomes[count] = DONE
        if self.keep is not None:
            await store.compact()
        if self.mode is not None:
            await store.recover(PersistenceRecoveryConfig(self.mode, path.parent / "aside"))
        await store.aclose()

    def work(self, path: Path, outcomes: MutableSequence[int]) -> None:
        """Do the same without threads and event loop, which take ten times as long to start."""
        files = self.store(path).files
        appender = Appender(
            files, sync_each=self.durability == "always", sync_later=False, max_bytes=self.max_bytes
        )
        for count, number in enumerate(self.records):
            done = appender.append(encode([make_event(number)], appender.next_seq))
            outcomes[count] = DONE if done.records else FAILED
        appender.close()
        self.operations(path)

    def operations(self, path: Path) -> PersistenceRecoveryReport | None:
        files = self.store(path).files
        if self.keep is not None:
            compact(files, "json", RetentionPolicy(max_records=self.keep), 0.0, Work(), dry_run=False)
        if self.mode is not None:
            return recover(files, "json", self.mode, path.parent / "aside", Work())
        return None

    # -- after it has ended anywhere

    def check(self, path: Path, outcomes: Sequence[int]) -> None:
        """Check what is there, finish what was interrupted, and go on from there."""
        found = self._check_records(path, outcomes)
        self.operations(path)
        again = self.operations(path)
        assert again is None or not (again.scan.anomalies or again.repaired_files or again.quarantined_files)
        if self.keep is not None:
            found = found[-self.keep :]
        if self.keep is not None or self.mode is not None:
            assert set_bytes(path, self.max_files) == _lines(*found), (
                "valid lines are to stay byte for byte, and nothing else"
            )
        files = self.store(path).files
        appender = Appender(files, sync_each=False, sync_later=False, max_bytes=self.max_bytes)
        done = appender.append(encode([make_event(99)], appender.next_seq))
        appender.close()
        assert (done.records, done.error) == (1, None), done
        assert scan(files, "json", Work()).anomalies == ()
        assert plain_numbers(path, self.max_files)[-1] == 99
        assert len(members(path, 10)) <= self.max_files
        assert not list(path.parent.glob(".*.tmp-*"))
        aside = [one.read_bytes() for one in path.parent.rglob("*") if _in_quarantine(one)]
        for piece in self.dropped:
            assert any(piece in one for one in aside), (piece, aside)

    def _check_records(self, path: Path, outcomes: Sequence[int]) -> list[int]:
        """All that is there or was acknowledged, in order; of the call in which the process died, perhaps."""
        found = plain_numbers(path, self.max_files)
        told = [*zip(self.records, outcomes, strict=False)]
        wanted = [*self.there, *(number for number, outcome in told if outcome == DONE)]
        perhaps = [number for number, outcome in told if outcome == UNKNOWN][:1]
        if found[-1:] == perhaps:
            wanted += perhaps
        if self.keep is not None:
            assert len(found) >= self.keep
            wanted = wanted[-len(found) :]
        if self.least:
            assert len(found) >= self.least
            wanted = wanted[-len(found) :]
        assert found == wanted, (found, wanted)
        return found


def _in_quarantine(path: Path) -> bool:
    return ("quarantine" in path.name or "quarantine" in path.parent.name) and path.is_file()


def members(path: Path, max_files: int) -> list[Path]:
    """Return the files of a set, oldest first."""
    names = [path.name, *(f"{path.name}.{number}" for number in range(1, max_files))]
    return [path.with_name(name) for name in reversed(names) if path.with_name(name).exists()]


def set_bytes(path: Path, max_files: int) -> bytes:
    return b"".join(one.read_bytes() for one in members(path, max_files))


def plain_numbers(path: Path, max_files: int) -> list[int]:
    """Return the numbers of the whole lines; no line may hold more than one record."""
    numbers: list[int] = []
    for line in b"\n".join(one.read_bytes() for one in members(path, max_files)).split(b"\n"):
        assert line.count(b'{"kind"') <= 1, f"records were fused: {line!r}"
        body, _, crc = line.rpartition(b',"crc":"')
        if body and crc == b'%08x"}' % crc32(body):
            numbers.append(int(body.split(b'"number":')[1].partition(b"}")[0]))
    return numbers


_FULL_SET = {"facts.2": _lines(1, 2, 3), "facts.1": _lines(4, 5, 6), "facts": _lines(7, 8, 9)}
_DAMAGED_SET = {
    "facts.2": _lines(1, 2) + GARBAGE + _lines(3)[:-1],
    "facts.1": _lines(4) + BROKEN + _lines(6),
    "facts": _lines(7, 8) + TORN,
}
_DAMAGED = {"there": (1, 2, 3, 4, 6, 7, 8), "max_files": 4, "dropped": (GARBAGE, BROKEN, TORN)}
_REPAIR, _QUARANTINE = PersistenceRecoveryMode.REPAIR, PersistenceRecoveryMode.QUARANTINE

SCENARIOS = {
    "first record": Scenario(records=(1, 2, 3)),
    "first record, synced": Scenario(records=(1, 2), durability="always"),
    "append": Scenario({"facts": _lines(1, 2, 3)}, (1, 2, 3), records=(4, 5, 6)),
    "torn tail": Scenario({"facts": _lines(1, 2) + TORN}, (1, 2), records=(3, 4), dropped=(TORN,)),
    "no newline": Scenario({"facts": _lines(1, 2)[:-1]}, (1, 2), records=(3,)),
    "rotation": Scenario(
        _FULL_SET, tuple(range(1, 10)), records=tuple(range(10, 15)), least=6, max_files=3, max_bytes=len(_lines(1, 2, 3)) + 9
    ),
    "rotation, synced": Scenario(
        {"facts": _lines(1, 2)}, (1, 2), records=(3, 4), max_files=3, max_bytes=len(_lines(1, 2)) + 9, durability="always"
    ),
    "compact a set": Scenario(_DAMAGED_SET, keep=3, **_DAMAGED),
    "compact a file": Scenario(
        {"facts": _lines(1, 2) + GARBAGE + _lines(3, 4)}, (1, 2, 3, 4), keep=3, dropped=(GARBAGE,)
    ),
    "repair a set": Scenario(_DAMAGED_SET | {"facts.7": STRANGER}, mode=_REPAIR, **_DAMAGED | {"dropped": (STRANGER,)}),
    "quarantine of a set": Scenario(
        _DAMAGED_SET | {"facts.7": STRANGER},
        mode=_QUARANTINE,
        **_DAMAGED | {"dropped": (GARBAGE, BROKEN, TORN, STRANGER)},
    ),
}  # fmt: skip
