"""Tracebacks of exceptions that are raised more than once.

Each time that an exception object is raised again, Python puts the new frames before those of the last time.
An actor that keeps an error and raises it for each message would have a traceback, and the frames that it
holds, that grows with every message. So what is there twice is cut: a piece from one call of the runtime to
the next, with the same lines as an earlier piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra._runtime.containment.frames import RUNTIME_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType

__all__ = ["cut_repeats", "last_place", "traceback_of"]

_TRACEBACK: Any = vars(BaseException)["__traceback__"]  # a class of the user may have another one
traceback_of: Callable[[BaseException], TracebackType | None] = _TRACEBACK.__get__
_SET: Callable[[BaseException, TracebackType], None] = _TRACEBACK.__set__

WALKED_ENTRIES = 10_000
"""Entries of a traceback that are looked at: one of a deep recursion may have a million."""


def cut_repeats(error: BaseException) -> None:
    """Cut from the traceback of ``error`` what an earlier piece of it shows already."""
    entries: list[TracebackType] = []
    entry: TracebackType | None = traceback_of(error)
    while entry is not None and len(entries) < WALKED_ENTRIES:
        entries.append(entry)
        entry = entry.tb_next
    starts = [number for number, each in enumerate(entries) if _begins_piece(entries, number, each)]
    if len(starts) < 2:
        return
    seen: set[tuple[tuple[int, int], ...]] = set()
    kept: list[TracebackType] = entries[: starts[0]]
    for start, end in zip(starts, [*starts[1:], len(entries)], strict=True):
        piece = entries[start:end]
        lines = tuple((id(each.tb_frame.f_code), each.tb_lineno) for each in piece)
        if lines not in seen:
            seen.add(lines)
            kept.extend(piece)
    if len(kept) == len(entries):
        return
    for each, following in zip(kept, [*kept[1:], entry], strict=True):
        if each.tb_next is not following:
            each.tb_next = following
    _SET(error, kept[0])


def last_place(error: BaseException) -> tuple[CodeType | None, int]:
    """Return the code and the line in which ``error`` was raised."""
    entry: TracebackType | None = traceback_of(error)
    if entry is None:
        return None, 0
    for _ in range(WALKED_ENTRIES):
        if entry.tb_next is None:
            break
        entry = entry.tb_next
    return entry.tb_frame.f_code, entry.tb_lineno


def _begins_piece(entries: list[TracebackType], number: int, entry: TracebackType) -> bool:
    return _is_ours(entry) and (number == 0 or not _is_ours(entries[number - 1]))


def _is_ours(entry: TracebackType) -> bool:
    return entry.tb_frame.f_code.co_filename.startswith(RUNTIME_FOLDER)
