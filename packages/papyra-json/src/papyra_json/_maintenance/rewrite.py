"""Carry out a plan: replace the files of a set by the parts of them that stay."""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import identity, sync_folder, write_all
from papyra_json._fileset.quarantine import link_aside, quarantine
from papyra_json._fileset.time_index import Entry, check_at, entry_for
from papyra_json._fs.files import copy_ranges, replacing
from papyra_json._record.decode import sequence_of
from papyra_json._record.lines import forward
from papyra_json._segment.segment import Segment
from papyra_json._segment.writer import Packer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from papyra_json._fileset.lock import SetLock
    from papyra_json._fileset.names import FileSet
    from papyra_json._maintenance.plan import Kept
    from papyra_json._maintenance.scanner import Scanner

__all__ = ["forget_gaps", "note_gaps", "note_times", "quarantining", "replace", "rewrite"]


@contextmanager
def quarantining(
    plan: Sequence[Kept], folder: Path | None = None, advance: Callable[[int], None] = lambda _: None
) -> Generator[list[Path]]:
    """Copy the invalid bytes of each file to a quarantine file; yield the files made.

    A file with bytes that the disk can't read is kept as a whole, under a second name: they may be readable
    again. If the block fails, the copies are removed of the files that it has not changed, because these
    still hold the bytes.
    """
    made: dict[Path, Segment] = {}
    try:
        for kept in plan:
            file, lost = kept.scan.file, kept.scan.lost
            if lost is not None:
                linked = link_aside(file.path, folder) if file.unreadable else None
                made[linked or quarantine(file.path, *lost, folder, advance)] = file
        yield list(made)
    except BaseException:
        for copy, file in made.items():
            with suppress(OSError):
                if identity(file.path.lstat()) == file.identity:
                    copy.unlink()
        raise


def note_gaps(lock: SetLock, scanner: Scanner, plan: Sequence[Kept], *, all_gaps: bool) -> None:
    """Note the gaps in ``seq`` that ``plan`` makes, and with ``all_gaps`` the existing ones too.

    Call it before the files change: a note too many hides nothing, and a missing one is a false alarm.
    """
    notes = lock.read_notes()
    before = (notes.last_seq, list(notes.gaps))
    for gap in scanner.gaps:
        if all_gaps or gap.made:
            notes.note_gap(gap.before, gap.after)
    kept_seq = scanner.kept_seq if any(kept.records for kept in plan) else 0
    if scanner.last_seq > kept_seq:  # the newest number is dropped, and must not be given out again
        notes.last_seq = max(notes.last_seq, scanner.last_seq)
        if kept_seq:
            notes.note_gap(kept_seq, notes.last_seq + 1)
    if before != (notes.last_seq, notes.gaps):
        lock.write_notes(notes)


def forget_gaps(lock: SetLock, scanner: Scanner, plan: Sequence[Kept]) -> None:
    """Drop the notes of gaps that no remaining record shows.

    Call it after the whole set has changed, because until then the old files may come back. If the notes
    can't be written, some are left over.
    """
    lowest = _lowest_sequence(scanner, plan)
    with suppress(OSError):
        notes = lock.read_notes()
        gaps = [gap for gap in notes.gaps if gap[1] >= lowest]
        if gaps != notes.gaps:
            notes.gaps = gaps
            lock.write_notes(notes)


def note_times(lock: SetLock, plan: Sequence[Kept], entries: Sequence[Entry]) -> None:
    """Note the times of the files that were replaced or that the scan has learned.

    ``entries`` are the previous notes. The times of some records bound the times of the remaining ones. If
    they can't be noted, readers have to read more.
    """
    number = max((entry.number for entry in entries), default=0)
    for kept in plan:
        file, times, end = kept.scan.file, kept.scan.times, kept.size
        entry = entry_for(file, file.size, entries) if times is None and file.packed is None else None
        if entry is not None and not kept.unchanged:
            times, end = entry.times, sum(max(0, min(stop, entry.end) - start) for start, stop in kept.ranges)
        if times is None or not end:
            continue
        number += entry is None
        with suppress(OSError, PersistenceError), closing(Segment.open(file.path)) as new:
            own = number if entry is None else entry.number
            lock.write_entry(Entry(own, end, check_at(new, end), times))


def _lowest_sequence(scanner: Scanner, plan: Sequence[Kept]) -> int:
    """Return a number that no remaining record is below.

    Numbers count up from the first, except where a gap goes back.
    """
    return min([_first_sequence(plan), *(gap.after for gap in scanner.gaps if gap.after < gap.before)])


def _first_sequence(plan: Sequence[Kept]) -> int:
    """Return the number of the first remaining record; 0 if it has none."""
    for kept in plan:
        for start, end in kept.ranges:
            for _, _, lines in forward(kept.scan.file, start, end):
                return sequence_of(lines[0]) or 0
    return 0


def rewrite(files: FileSet, plan: Sequence[Kept], advance: Callable[[int], None]) -> None:
    """Replace each file that changes, oldest first. For the holder of the lock.

    A crash in between leaves the younger files unchanged: more than the plan keeps, never less. Files that
    keep nothing are removed, except the base.
    """
    for kept in plan:
        path = kept.scan.file.path
        if kept.unchanged:
            continue
        if kept.ranges or path == files.base:
            replace(kept, advance)
        else:
            path.unlink()
            sync_folder(path.parent)


def replace(kept: Kept, advance: Callable[[int], None] = lambda _: None) -> None:
    """Replace one file by the part of it that stays."""
    source = kept.scan.file
    with replacing(source.path, source.fd) as target:
        if source.packed is not None:
            packer = Packer(target, source.packed.codec)
            if packer.copy(source.packed, kept.ranges, advance) < kept.size:
                packer.write(b"\n")
            packer.finish()
        elif copy_ranges(source, target, kept.ranges, advance) < kept.size:
            write_all(target, b"\n")
