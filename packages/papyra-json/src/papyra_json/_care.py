"""Scan, recover and compact a set of files: each is a walk, and what is made of its findings.

A scan opens the files under the shared lock, so that no batch is half written and no rotation half done, and then reads
them without it: what it saw is what stood there at that moment. Recovery and compaction do the same, then take
the lock alone, read what was appended meanwhile, and hold it until the files are replaced; so writers wait for
the copying, but not for the reading and checking of all records.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.models import (
    CompactionReport,
    PersistenceAnomaly,
    PersistenceAnomalyType,
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra_json._lock import Notes, SetLock
from papyra_json._plan import keep_newest, keep_valid
from papyra_json._quarantine import move_aside
from papyra_json._rewrite import forget_jumps, note_jumps, quarantine_invalid, rewrite
from papyra_json._walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset import FileSet, Snapshot
    from papyra_json._plan import Kept

__all__ = ["compact", "recover", "scan"]


def scan(files: FileSet, name: str, checkpoint: Callable[[], None]) -> PersistenceScanReport:
    """Report all damage and change nothing; a set that is not there yet is in order."""
    with closing(SetLock(files.base, checkpoint)) as lock:
        held, anomalies = _scan(files, lock, checkpoint)
        if anomalies and not held and lock.path.exists():
            # The first writer came meanwhile: what looked like damage may have been its batch, half written.
            held, anomalies = _scan(files, lock, checkpoint)
    return PersistenceScanReport(name, anomalies)


def _scan(
    files: FileSet, lock: SetLock, checkpoint: Callable[[], None]
) -> tuple[bool, tuple[PersistenceAnomaly, ...]]:
    snapshot, notes = _snapshot(files, lock)
    with snapshot:
        unexpected = files.unexpected()
        walk = _walked(snapshot, Walk(notes or Notes(), checkpoint=checkpoint))
        return notes is not None, (*_odd_files(files, snapshot, unexpected), *walk.anomalies)


def _odd_files(files: FileSet, snapshot: Snapshot, unexpected: list[Path]) -> list[PersistenceAnomaly]:
    return [
        *(
            PersistenceAnomaly(
                PersistenceAnomalyType.UNEXPECTED_FILE,
                str(path),
                f"not read, for its number is not one of the {files.max_files} files of the set",
            )
            for path in unexpected
        ),
        *(
            PersistenceAnomaly(PersistenceAnomalyType.UNREADABLE_FILE, str(path), str(error))
            for path, error in snapshot.failed
        ),
    ]


def recover(
    files: FileSet,
    name: str,
    mode: PersistenceRecoveryMode,
    folder: Path | None,
    checkpoint: Callable[[], None],
) -> PersistenceRecoveryReport:
    """Drop what is no valid record; with ``QUARANTINE``, after a copy of it is safe.

    Files that do not belong to the set are moved to the quarantine in both modes, for they may hold records. So
    is the content of a file without any record: nothing shows that it is ours to drop.
    """
    if not files.present() and not files.unexpected():
        return PersistenceRecoveryReport(name, PersistenceScanReport(name))
    quarantined: list[Path] = []
    with (
        closing(SetLock(files.base, checkpoint)) as lock,
        _surveyed(files, lock, float("-inf"), checkpoint) as (snapshot, walk),
    ):
        unexpected = files.unexpected()
        odd = _odd_files(files, snapshot, unexpected)
        plan = keep_valid(walk)
        every = mode is PersistenceRecoveryMode.QUARANTINE
        quarantined += quarantine_invalid([kept for kept in plan if every or not kept.records], folder)
        checkpoint()
        note_jumps(lock, walk, plan, all_jumps=True)
        repaired = rewrite(files, plan)
        forget_jumps(lock, walk, plan)
        for path in (
            *unexpected,
            *(path for path, error in snapshot.failed if isinstance(error, PersistenceError)),
        ):
            quarantined.append(move_aside(path, folder))
            repaired.append(path)
    report = PersistenceScanReport(name, (*odd, *walk.anomalies))
    return PersistenceRecoveryReport(name, report, _texts(repaired), _texts(quarantined))


def compact(
    files: FileSet,
    name: str,
    policy: RetentionPolicy,
    now: float,
    checkpoint: Callable[[], None],
    *,
    dry_run: bool,
) -> CompactionReport:
    """Make ``policy`` physical as of the Unix time ``now``; what is no valid record goes to the quarantine."""
    if not files.present():
        return CompactionReport(name, 0, 0, 0, 0)
    oldest = policy.oldest_kept(now)
    with closing(SetLock(files.base, checkpoint)) as lock:
        if dry_run:
            snapshot, _ = _snapshot(files, lock)
            with snapshot.raise_failure():
                return _plan(_walked(snapshot, Walk(Notes(), oldest, checkpoint)), policy, name)[0]
        with _surveyed(files, lock, oldest, checkpoint) as (snapshot, walk):
            snapshot.raise_failure()
            report, plan = _plan(walk, policy, name)
            quarantine_invalid(plan)
            checkpoint()
            note_jumps(lock, walk, plan, all_jumps=False)
            rewrite(files, plan)
            forget_jumps(lock, walk, plan)
            return report


def _snapshot(files: FileSet, lock: SetLock) -> tuple[Snapshot, Notes | None]:
    """Open the files, with the notes about them if there was a lock to hold."""
    with lock.shared() as held:
        return (files.open_all(), lock.read_notes()) if held else (files.open_unlocked(), None)


@contextmanager
def _surveyed(
    files: FileSet, lock: SetLock, oldest: float, checkpoint: Callable[[], None]
) -> Generator[tuple[Snapshot, Walk]]:
    """Walk over the files, and give them with the lock held alone, so that they stay as the walk has found them."""
    early, notes = _snapshot(files, lock)
    with early:
        walk = _walked(early, Walk(notes or Notes(), oldest, checkpoint))
        with lock.exclusive(), files.open_all() as snapshot:
            files.remove_temporaries()
            if not walk.resume(snapshot.files):
                walk = _walked(snapshot, Walk(lock.read_notes(), oldest, checkpoint))
            yield snapshot, walk


def _walked(snapshot: Snapshot, walk: Walk) -> Walk:
    for file in snapshot.files:
        walk.add(file)
    return walk


def _plan(walk: Walk, policy: RetentionPolicy, name: str) -> tuple[CompactionReport, list[Kept]]:
    plan = keep_newest(walk, policy)
    report = CompactionReport(
        name,
        before_records=sum(file.records for file in walk.files),
        after_records=sum(kept.records for kept in plan),
        before_bytes=sum(file.file.size for file in walk.files),
        after_bytes=sum(kept.size for kept in plan),
    )
    return report, plan


def _texts(paths: list[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)
