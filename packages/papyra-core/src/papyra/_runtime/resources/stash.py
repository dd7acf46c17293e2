"""Messages that an actor sets aside until it can handle them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from papyra._runtime.resources import resources
from papyra._runtime.resources.answering import take
from papyra.exceptions import StashOverflow

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell

__all__ = ["stash", "stashed", "unstash_all"]


def stash(cell: Cell, message: object) -> None:
    """Set the message that is being handled aside. The asker of an ask keeps waiting."""
    mine = resources(cell)
    capacity: int | None = getattr(cell.actor, "stash_capacity", None)
    if capacity is not None and stashed(cell) >= capacity:
        raise StashOverflow(cell, capacity)
    envelope = take(cell, "stash")
    if mine.stash is None:
        mine.stash = deque()
    if envelope is None:
        mine.stash.append(message)
        return
    if envelope.call is None:  # a proxy's call is repeated as it is
        envelope.message = message
    mine.stash.append(envelope)


def unstash_all(cell: Cell) -> int:
    """Put the stash at the front of the mailbox, oldest first. Return the number of messages."""
    return cell.resources.put_stash_back() if cell.resources is not None else 0


def stashed(cell: Cell) -> int:
    """Count the messages in the stash."""
    mine = cell.resources
    return len(mine.stash) if mine is not None and mine.stash is not None else 0
