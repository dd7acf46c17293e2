"""A subscribed actor, and the events that wait for room in its mailbox."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio

from papyra import MailboxFull

if TYPE_CHECKING:
    from collections.abc import Hashable

    from papyra import ActorRef

__all__ = ["Missed", "Overflow", "Subscriber"]

Overflow = Literal["drop_newest", "drop_oldest", "wait"]

FIRST_PAUSE_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Missed:
    """Sent to a subscriber before the next event.

    ``count`` events were dropped because its mailbox was full.
    """

    count: int


class Subscriber:
    """An actor with at least one subscription.

    ``overflow`` and ``buffer`` hold for all of its subscriptions; the latest call of ``subscribe`` decides.
    """

    __slots__ = ("buffer", "is_pumped", "missed", "outbox", "overflow", "ref", "subscriptions")

    def __init__(self, ref: ActorRef[Any, Any]) -> None:
        self.subscriptions: dict[tuple[type, Hashable], None] = {}  # by class and topic
        self.ref = ref
        self.overflow: Overflow = "drop_newest"
        self.buffer = 0
        self.missed = 0
        self.outbox: deque[object] = deque()
        self.is_pumped = False

    def offer(self, event: object) -> bool:
        """Deliver an event without waiting. Return whether a pump has to deliver the outbox."""
        if self.overflow == "drop_oldest":
            return self._offer_newest(event)
        if self.ref.pending() >= self.buffer or not self._put_after_missed(event):
            self.missed += 1
        return False

    def _offer_newest(self, event: object) -> bool:
        if not self.outbox and self._put_after_missed(event):
            return False
        if len(self.outbox) >= self.buffer:
            self.outbox.popleft()
            self.missed += 1  # reported before the oldest event that is left
        self.outbox.append(event)
        return not self.is_pumped

    def _put_after_missed(self, event: object) -> bool:
        """Put an event into the mailbox, behind the report of those that were dropped.

        False if it is full.
        """
        try:
            if self.missed:
                self.ref.tell_nowait(Missed(self.missed))
                self.missed = 0
            self.ref.tell_nowait(event)
        except MailboxFull:
            return False
        return True

    async def deliver(self, event: object) -> None:
        """Deliver an event once there is room, unless the actor stops meanwhile.

        It polls: `ActorRef.tell` would leave a dead letter when the actor stops.
        """
        pause = FIRST_PAUSE_SECONDS
        while self.ref.is_alive() and not self._put_after_missed(event):
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def pump(self) -> None:
        """Deliver the events in the outbox, oldest first, until it is empty or the actor has stopped."""
        pause = FIRST_PAUSE_SECONDS
        try:
            while self.outbox and self.ref.is_alive():
                if self._put_after_missed(self.outbox[0]):
                    self.outbox.popleft()
                    pause = FIRST_PAUSE_SECONDS
                else:
                    await anyio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        finally:
            self.is_pumped = False
