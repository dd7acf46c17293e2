"""Scan, recover and compact a set of files.

A scan opens the files under the shared lock, so that no batch is half written and no rotation half done, and
then reads them without it: it sees the set as of that moment. Recovery and compaction do the same, then take
the exclusive lock, read the records appended meanwhile, and hold the lock until the files are replaced. So
writers wait for the copying, but not for the reading and checking of all records.
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
from papyra_json._fileset.lock import SetLock
from papyra_json._fileset.quarantine import move_aside, next_name
from papyra_json._fileset.rotation import close_holes, remove_temporaries
from papyra_json._fileset.snapshot import Snapshot, open_locked, open_shared
from papyra_json._fileset.time_index import read_table
from papyra_json._maintenance.plan import keep_newest, keep_valid
from papyra_json._maintenance.rewrite import forget_gaps, note_gaps, note_times, quarantining, rewrite
from papyra_json._maintenance.scanner import Scanner
from papyra_json._segment.codec import UnreadableHere

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from papyra.persistence.blocking import Work
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset.names import FileSet
    from papyra_json._maintenance.plan import Kept

__all__ = ["compact", "recover", "scan"]


def scan(files: FileSet, name: str, work: Work) -> PersistenceScanReport:
    """Report all damage and change nothing; a set that does not exist yet is in order."""
    with closing(SetLock(files.base, work.check)) as lock:
        locked, anomalies = _scan(files, lock, work)
        if anomalies and not locked and lock.path.exists():
            # The first writer came meanwhile: its batch, half written, may have looked like damage.
            locked, anomalies = _scan(files, lock, work)
    return PersistenceScanReport(name, anomalies)


def _scan(files: FileSet, lock: SetLock, work: Work) -> tuple[bool, tuple[PersistenceAnomaly, ...]]:
    with open_shared(files, lock, list_unexpected=True) as snapshot:
        if not snapshot.files and all(isinstance(error, OSError) for _, error in snapshot.failed):
            snapshot.raise_failure()  # nothing of the store can be read, so nothing can be said about it
        work.left(_size(snapshot))
        scanner = _scanned(snapshot, Scanner(snapshot.notes, advance=work.advance))
        return snapshot.locked, (*_unreadable_files(snapshot), *scanner.anomalies)


def _unreadable_files(snapshot: Snapshot) -> list[PersistenceAnomaly]:
    return [
        *(
            PersistenceAnomaly(
                PersistenceAnomalyType.UNEXPECTED_FILE,
                str(path),
                f"not read, because it is not one of the {snapshot.fileset.max_files} files of the set",
            )
            for path in snapshot.unexpected
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
    """Drop invalid lines; with ``QUARANTINE``, after a copy of them is safe.

    Files that do not belong to the set are moved to the quarantine in both modes, because they may hold
    records. So is the content of a file without any record: nothing shows that it is ours.
    """
    with closing(SetLock(files.base, work.check)) as lock:
        if not _exists(files, lock):
            return PersistenceRecoveryReport(name, PersistenceScanReport(name))
        with _surveyed(files, lock, float("-inf"), work, dry_run=dry_run) as (snapshot, scanner):
            refused = [
                path
                for path, error in snapshot.failed
                if isinstance(error, PersistenceError) and not isinstance(error, UnreadableHere)
            ]
            aside = [*snapshot.unexpected, *refused]
            plan = keep_valid(scanner)
            every = mode is PersistenceRecoveryMode.QUARANTINE
            dropped = [
                kept
                for kept in plan
                if kept.scan.lost and (every or not kept.records or kept.scan.file.unreadable)
            ]
            repaired = [*(kept.scan.file.path for kept in plan if not kept.unchanged), *aside]
            if dry_run:
                quarantined = [next_name(kept.scan.file.path, folder) for kept in dropped]
                quarantined += [next_name(path, folder) / path.name for path in aside]
            else:
                with quarantining(dropped, folder, work.advance) as quarantined:
                    _rewrite(snapshot.fileset, lock, scanner, plan, work, all_gaps=True)
                quarantined += [move_aside(path, folder) for path in aside]
            report = PersistenceScanReport(name, (*_unreadable_files(snapshot), *scanner.anomalies))
    return PersistenceRecoveryReport(name, report, _texts(repaired), _texts(quarantined))


def compact(
    files: FileSet,
    name: str,
    policy: RetentionPolicy,
    now: float,
    work: Work,
    *,
    dry_run: bool,
    max_files: int | None = None,
) -> CompactionReport:
    """Apply ``policy`` as of the Unix time ``now``; invalid lines go to the quarantine.

    With ``max_files`` only the newest files stay, and the set has that size from now on.
    """
    oldest = policy.oldest_kept(now)
    with closing(SetLock(files.base, work.check)) as lock:
        if not _exists(files, lock):
            return CompactionReport(name, 0, 0, 0, 0)
        with _surveyed(files, lock, oldest, work, dry_run=dry_run, learn_times=not dry_run) as (
            snapshot,
            scanner,
        ):
            snapshot.raise_failure()
            plan = keep_newest(scanner, policy, max_files)
            quarantined: list[Path] = []
            if not dry_run:
                with quarantining(plan, advance=work.advance) as quarantined:
                    _rewrite(snapshot.fileset, lock, scanner, plan, work, all_gaps=False)
                if max_files is not None:
                    _resize(snapshot.fileset, lock, max_files)
            return CompactionReport(
                name,
                before_records=sum(scan.records for scan in scanner.files),
                after_records=sum(kept.records for kept in plan),
                before_bytes=sum(scan.file.size for scan in scanner.files),
                after_bytes=sum(kept.size for kept in plan),
                invalid_records=sum(
                    scan.lines - scan.records for scan in scanner.files if scan.lines > scan.records
                ),
                quarantined_files=_texts(quarantined),
            )


def _exists(files: FileSet, lock: SetLock) -> bool:
    """Return whether there is any file, so that no lock file is created for nothing."""
    with open_shared(files, lock, list_unexpected=True) as snapshot:
        return bool(snapshot.files or snapshot.failed or snapshot.unexpected)


def _resize(files: FileSet, lock: SetLock, max_files: int) -> None:
    close_holes(files)
    notes = lock.read_notes()
    notes.max_files = max_files
    lock.write_notes(notes)


@contextmanager
def _surveyed(
    files: FileSet, lock: SetLock, oldest: float, work: Work, *, dry_run: bool, learn_times: bool = False
) -> Generator[tuple[Snapshot, Scanner]]:
    """Scan the files, and yield them with the exclusive lock held. They stay as the scan has found them.

    With ``dry_run`` they are as of one moment, nothing is held, and no lock file is created.
    """
    with open_shared(files, lock, list_unexpected=True) as early:
        work.left(_size(early) * (1 if dry_run else 2))  # to be read, and perhaps to be copied
        known = read_table(early.table) if learn_times else None
        scanner = _scanned(early, Scanner(early.notes, oldest, work.advance, known))
        if dry_run:
            yield early, scanner
            return
        with lock.exclusive(), open_locked(files, lock, list_unexpected=True) as snapshot:
            remove_temporaries(files)
            size = _size(snapshot)
            work.left(size + max(0, size - _size(early)))
            if not scanner.resume(snapshot.files):
                work.left(2 * size)
                scanner = _scanned(snapshot, Scanner(snapshot.notes, oldest, work.advance, known))
            yield snapshot, scanner


def _rewrite(
    files: FileSet, lock: SetLock, scanner: Scanner, plan: Sequence[Kept], work: Work, *, all_gaps: bool
) -> None:
    work.check()
    work.left(sum(kept.size for kept in plan if not kept.unchanged))
    note_gaps(lock, scanner, plan, all_gaps=all_gaps)
    entries = lock.read_table()
    rewrite(files, plan, work.advance)
    forget_gaps(lock, scanner, plan)
    note_times(lock, plan, entries)


def _size(snapshot: Snapshot) -> int:
    return sum(file.size for file in snapshot.files)


def _scanned(snapshot: Snapshot, scanner: Scanner) -> Scanner:
    for file in snapshot.files:
        scanner.add(file)
    return scanner


def _texts(paths: list[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)
