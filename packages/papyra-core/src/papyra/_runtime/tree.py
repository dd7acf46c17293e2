"""The tree of actors as rows, with many siblings of one type folded into one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra._runtime.containment.user_values import type_name
from papyra._runtime.introspection import describe_actor
from papyra._runtime.mailbox import waiting_messages
from papyra.audit import TreeRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from papyra._runtime.cell import Cell

__all__ = ["describe_row", "rows"]


def rows(
    top: Cell, fold: int | None, max_level: int | None, actor_type: str | None
) -> Iterator[tuple[list[Cell], int]]:
    """Yield the actors of each row below ``top``, and its level: parents before children, siblings by type.

    ``fold`` siblings of a type or more are one row, and nothing below them is shown; None folds none. Nothing
    below ``max_level`` is shown, and with ``actor_type`` only rows of this type.
    """
    pending = [_entries(top, fold)]  # one iterator a level: a deep tree needs no deep recursion
    while pending:
        members = next(pending[-1], None)
        if members is None:
            pending.pop()
            continue
        level = len(pending) - 1
        if actor_type in (None, _type_of(members[0])):
            yield members, level
        if len(members) == 1 and members[0].children and (max_level is None or level < max_level):
            pending.append(_entries(members[0], fold))


def _entries(parent: Cell, fold: int | None) -> Iterator[list[Cell]]:
    """Yield the children of a cell, grouped by row."""
    groups: dict[str, list[Cell]] = {}
    for cell in list((parent.children or {}).values()):
        groups.setdefault(_type_of(cell), []).append(cell)
    for members in groups.values():
        if fold is not None and len(members) >= fold:
            yield members
        else:
            yield from ([cell] for cell in members)


def describe_row(members: list[Cell], level: int) -> TreeRow:
    """Describe a row of the tree."""
    first = members[0]
    parent = first.parent
    return TreeRow(
        level=level,
        count=len(members),
        actor_type=_type_of(first),
        waiting=sum(map(waiting_messages, members)),
        processed=sum(cell.processed for cell in members),
        parent=str(parent.address) if parent is not None and parent.parent is not None else None,
        actor=describe_actor(first) if len(members) == 1 else None,
    )


def _type_of(cell: Cell) -> str:
    return type_name(cell.actor_type) if cell.actor_type is not None else "Actor"
