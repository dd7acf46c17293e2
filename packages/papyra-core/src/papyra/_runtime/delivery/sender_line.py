"""The senders that wait for room in one mailbox, first come, first served.

Any of them may be cancelled or time out, so each is found, moved and removed in O(1).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra._runtime._eventloop import Waiter
    from papyra.exceptions import PapyraError

__all__ = ["Sender", "SenderLine"]


class Sender:
    """A sender that waits for room.

    It sends when it is woken, so a sender that is cancelled has sent nothing.
    """

    __slots__ = ("error", "granted", "item", "sent", "waiter")

    def __init__(self, item: object, waiter: Waiter) -> None:
        self.item = item
        self.waiter = waiter
        self.granted = False
        self.sent = False
        self.error: PapyraError | None = None

    def fail(self, error: PapyraError) -> None:
        """Let the sender raise ``error``."""
        self.error = error
        if not self.waiter.done():
            self.waiter.set_result(None)


class SenderLine:
    """The senders of one mailbox: those that were granted a slot and have not sent yet, and all others."""

    __slots__ = ("granted", "waiting")

    def __init__(self) -> None:
        # Not dicts: the first key of a dict takes long to find when many before it were removed.
        self.granted: OrderedDict[Sender, None] = OrderedDict()
        self.waiting: OrderedDict[Sender, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.granted) + len(self.waiting)

    def grant_next(self) -> bool:
        """Give a slot to the sender that has waited longest. Return False if it has stopped waiting."""
        sender = next(iter(self.waiting))
        waits = not sender.waiter.done()  # if done, its time-out or a cancellation has woken it
        if waits:
            sender.waiter.set_result(None)  # first: if it raises, nothing has changed
            sender.granted = True
            self.granted[sender] = None
        del self.waiting[sender]
        return waits

    def remove(self, sender: Sender) -> None:
        """Remove a sender, and the slot that it may have."""
        self.granted.pop(sender, None)
        self.waiting.pop(sender, None)
