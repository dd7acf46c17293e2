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
from papyra_json._fileset.lock import Notes, SetLock
from papyra_json._fileset.quarantine import move_aside, quarantine_name
from papyra_json._fileset.time_index import read_table
from papyra_json._maintenance.plan import keep_newest, keep_valid
from papyra_json._maintenance.rewrite import forget_gaps, note_gaps, note_times, quarantine_invalid, rewrite
from papyra_json._maintenance.scanner import Scanner
from papyra_json._segment.codec import UnreadableHere

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from papyra.persistence.blocking import Work
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset.names import FileSet, Snapshot
    from papyra_json._maintenance.plan import Kept

__all__ = ["compact", "open_shared", "recover", "scan"]


def scan(files: FileSet, name: str, work: Work) -> PersistenceScanReport:
    """Report all damage and change nothing; a set that is not there yet is in order."""
    with closing(SetLock(files.base, work.check)) as lock:
        held, anomalies = _scan(files, lock, work)
        if anomalies and not held and lock.path.exists():
            # The first writer came meanwhile: what looked like damage may have been its batch, half written.
            held, anomalies = _scan(files, lock, work)
    return PersistenceScanReport(name, anomalies)


def _scan(files: FileSet, lock: SetLock, work: Work) -> tuple[bool, tuple[PersistenceAnomaly, ...]]:
    snapshot, notes = open_shared(files, lock)
    with snapshot:
        unexpected = files.unexpected()
        work.left(_size(snapshot))
        walk = _walked(snapshot, Scanner(notes or Notes(), advance=work.advance))
        return notes is not None, (*_odd_files(files, snapshot, unexpected), *walk.anomalies)


def _odd_files(files: FileSet, snapshot: Snapshot, unexpected: list[Path]) -> list[PersistenceAnomaly]:
    return [
        *(
            PersistenceAnomaly(
                PersistenceAnomalyType.UNEXPECTED_FILE,
                str(path),
                f"not read, for it is not one of the {files.max_files} files of the set",
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
    work: Work,
    *,
    dry_run: bool = False,
) -> PersistenceRecoveryReport:
    """Drop what is no valid record; with ``QUARANTINE``, after a copy of it is safe.

    Files that do not belong to the set are moved to the quarantine in both modes, for they may hold records. So
    is the content of a file without any record: nothing shows that it is ours to drop.
    """
    if not files.present() and not files.unexpected():
        return PersistenceRecoveryReport(name, PersistenceScanReport(name))
    with (
        closing(SetLock(files.base, work.check)) as lock,
        _surveyed(files, lock, float("-inf"), work, dry_run=dry_run) as (snapshot, walk),
    ):
        unexpected = files.unexpected()
        odd = _odd_files(files, snapshot, unexpected)
        refused = [
            path
            for path, error in snapshot.failed
            if isinstance(error, PersistenceError) and not isinstance(error, UnreadableHere)
        ]
        aside = [*unexpected, *refused]
        plan = keep_valid(walk)
        every = mode is PersistenceRecoveryMode.QUARANTINE
        dropped = [kept for kept in plan if kept.walk.lost and (every or not kept.records)]
        repaired = [*(kept.walk.file.path for kept in plan if not kept.unchanged), *aside]
        if dry_run:
            quarantined = [quarantine_name(kept.walk.file.path, folder) for kept in dropped]
            quarantined += [quarantine_name(path, folder) / path.name for path in aside]
        else:
            quarantined = quarantine_invalid(dropped, folder, work.advance)
            _rewrite(files, lock, walk, plan, work, all_jumps=True)
            quarantined += [move_aside(path, folder) for path in aside]
    report = PersistenceScanReport(name, (*odd, *walk.anomalies))
    return PersistenceRecoveryReport(name, report, _texts(repaired), _texts(quarantined))


def compact(
    files: FileSet, name: str, policy: RetentionPolicy, now: float, work: Work, *, dry_run: bool
) -> CompactionReport:
    """Make ``policy`` physical as of the Unix time ``now``; what is no valid record goes to the quarantine."""
    if not files.present():
        return CompactionReport(name, 0, 0, 0, 0)
    oldest = policy.oldest_kept(now)
    with (
        closing(SetLock(files.base, work.check)) as lock,
        _surveyed(files, lock, oldest, work, dry_run=dry_run, learn_times=not dry_run) as (snapshot, walk),
    ):
        snapshot.raise_failure()
        plan = keep_newest(walk, policy)
        quarantined: list[Path] = []
        if not dry_run:
            quarantined = quarantine_invalid(plan, advance=work.advance)
            _rewrite(files, lock, walk, plan, work, all_jumps=False)
        return CompactionReport(
            name,
            before_records=sum(file.records for file in walk.files),
            after_records=sum(kept.records for kept in plan),
            before_bytes=sum(file.file.size for file in walk.files),
            after_bytes=sum(kept.size for kept in plan),
            invalid_records=sum(file.lines - file.records for file in walk.files),
            quarantined_files=_texts(quarantined),
        )


def open_shared(files: FileSet, lock: SetLock) -> tuple[Snapshot, Notes | None]:
    """Open the files, with the notes about them if there was a lock to hold."""
    with lock.shared() as held:
        return (files.open_all(), lock.read_notes()) if held else (files.open_unlocked(), None)


@contextmanager
def _surveyed(
    files: FileSet, lock: SetLock, oldest: float, work: Work, *, dry_run: bool, learn_times: bool = False
) -> Generator[tuple[Snapshot, Scanner]]:
    """Scanner over the files, and give them with the lock held alone, so that they stay as the walk has found them.

    With ``dry_run`` they are as they stood at one moment, nothing is held, and no lock file made.
    """
    early, notes = open_shared(files, lock)
    with early:
        work.left(_size(early) * (1 if dry_run else 2))  # to be read, and perhaps to be copied
        known = read_table(early.table) if learn_times else None
        walk = _walked(early, Scanner(notes or Notes(), oldest, work.advance, known))
        if dry_run:
            yield early, walk
            return
        with lock.exclusive(), files.open_all() as snapshot:
            files.remove_temporaries()
            size = _size(snapshot)
            work.left(size + max(0, size - _size(early)))
            if not walk.resume(snapshot.files):
                work.left(2 * size)
                walk = _walked(snapshot, Scanner(lock.read_notes(), oldest, work.advance, known))
            yield snapshot, walk


def _rewrite(
    files: FileSet, lock: SetLock, walk: Scanner, plan: Sequence[Kept], work: Work, *, all_jumps: bool
) -> None:
    work.check()
    work.left(sum(kept.size for kept in plan if not kept.unchanged))
    note_gaps(lock, walk, plan, all_jumps=all_jumps)
    entries = lock.read_table()
    rewrite(files, plan, work.advance)
    forget_gaps(lock, walk, plan)
    note_times(lock, plan, entries)


def _size(snapshot: Snapshot) -> int:
    return sum(file.size for file in snapshot.files)


def _walked(snapshot: Snapshot, walk: Scanner) -> Scanner:
    for file in snapshot.files:
        walk.add(file)
    return walk


def _texts(paths: list[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)
