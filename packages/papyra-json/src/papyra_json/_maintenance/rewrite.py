"""Make a plan true: replace the files of a set by what is to stay of them."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra_json._fileset.quarantine import quarantine
from papyra_json._fileset.time_index import Entry, check_at, entry_for
from papyra_json._fs.files import copy_ranges, replacing, write_all
from papyra_json._fs.posix import sync_folder
from papyra_json._record.decode import sequence_of
from papyra_json._record.lines import forward
from papyra_json._segment.segment import Segment
from papyra_json._segment.writer import Packer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from papyra_json._fileset.lock import SetLock
    from papyra_json._fileset.names import FileSet
    from papyra_json._maintenance.plan import Kept
    from papyra_json._maintenance.scanner import Scanner

__all__ = ["forget_gaps", "note_gaps", "note_times", "quarantine_invalid", "replace", "rewrite"]


def quarantine_invalid(
    plan: Sequence[Kept], folder: Path | None = None, advance: Callable[[int], None] = lambda _: None
) -> list[Path]:
    """Copy what is no valid record of each file to a quarantine file; return the files made."""
    return [
        quarantine(kept.walk.file.path, *lost, folder, advance) for kept in plan if (lost := kept.walk.lost)
    ]


def note_gaps(lock: SetLock, walk: Scanner, plan: Sequence[Kept], *, all_jumps: bool) -> None:
    """Note the gaps in ``seq`` that ``plan`` is about to make (and, with ``all_jumps``, those that are there).

    Before the files change, for a note too many hides nothing that is there, and one too few is a false alarm.
    """
    notes = lock.read_notes()
    before = (notes.last_seq, list(notes.gaps))
    for gap in walk.gaps:
        if all_jumps or gap.made:
            notes.note_gap(gap.before, gap.after)
    kept_seq = walk.kept_seq if any(kept.records for kept in plan) else 0
    if walk.last_seq > kept_seq:  # the newest number is about to go, and must not be given out again
        notes.last_seq = max(notes.last_seq, walk.last_seq)
        if kept_seq:
            notes.note_gap(kept_seq, notes.last_seq + 1)
    if before != (notes.last_seq, notes.gaps):
        lock.write_notes(notes)


def forget_gaps(lock: SetLock, walk: Scanner, plan: Sequence[Kept]) -> None:
    """Drop the notes of gaps that no record is left to show.

    After the whole set has changed, for until then the old files may still stand. If the notes can't be
    written, there are some too many.
    """
    lowest = _lowest_sequence(walk, plan)
    with suppress(OSError):
        notes = lock.read_notes()
        gaps = [gap for gap in notes.gaps if gap[1] >= lowest]
        if gaps != notes.gaps:
            notes.gaps = gaps
            lock.write_notes(notes)


def note_times(lock: SetLock, plan: Sequence[Kept], entries: Sequence[Entry]) -> None:
    """Note the times in the files that were replaced, or that the walk has learnt; ``entries`` were those before.

    What bounds the times of some records bounds those of which some were dropped. If it can't be noted, readers will
    have to read more.
    """
    number = max((entry.number for entry in entries), default=0)
    for kept in plan:
        file, times, end = kept.walk.file, kept.walk.times, kept.size
        entry = entry_for(file, file.size, entries) if times is None and file.packed is None else None
        if entry is not None and not kept.unchanged:
            times, end = entry.times, sum(max(0, min(stop, entry.end) - start) for start, stop in kept.ranges)
        if times is None or not end:
            continue
        number += entry is None
        with suppress(OSError, PersistenceError), closing(Segment.open(file.path)) as new:
            own = number if entry is None else entry.number
            lock.write_entry(Entry(own, end, check_at(new, end), times))


def _lowest_sequence(walk: Scanner, plan: Sequence[Kept]) -> int:
    """Return a number that no record that stays is below.

    Numbers count up from the first one on, but for the gaps that go back.
    """
    return min([_first_sequence(plan), *(gap.after for gap in walk.gaps if gap.after < gap.before)])


def _first_sequence(plan: Sequence[Kept]) -> int:
    """Return the number of the first record that stays; 0 if it has none."""
    for kept in plan:
        for start, end in kept.ranges:
            for _, _, lines in forward(kept.walk.file, start, end):
                return sequence_of(lines[0]) or 0
    return 0


def rewrite(files: FileSet, plan: Sequence[Kept], advance: Callable[[int], None]) -> None:
    """Replace each file that changes, oldest first. For the lock's holder.

    A crash in between leaves the younger files as they were: more than the plan keeps, never less. Files
    that keep nothing are removed, all but the base.
    """
    for kept in plan:
        path = kept.walk.file.path
        if kept.unchanged:
            continue
        if kept.ranges or path == files.base:
            replace(kept, advance)
        else:
            path.unlink()
            sync_folder(str(path.parent))


def replace(kept: Kept, advance: Callable[[int], None] = lambda _: None) -> None:
    """Replace one file by what is kept of it."""
    source = kept.walk.file
    with replacing(source.path, source.fd) as target:
        if source.packed is not None:
            packer = Packer(target, source.packed.codec)
            if packer.copy(source.packed, kept.ranges, advance) < kept.size:
                packer.write(b"\n")
            packer.finish()
        elif copy_ranges(source, target, kept.ranges, advance) < kept.size:
            write_all(target, b"\n")
