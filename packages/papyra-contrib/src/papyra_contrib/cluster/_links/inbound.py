"""The receiving half of a link.

A frame that comes twice or late is dropped, and a full mailbox parks its messages.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from papyra_contrib.cluster._errors import ActorStopped, MessageRejected
from papyra_contrib.cluster._wire.frames import ASK

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra import ActorRef
    from papyra.cluster import LocalSystem, Mail
    from papyra_contrib.cluster._links.counters import Counters
    from papyra_contrib.cluster._wire.frames import Frame

__all__ = ["Inbound"]

_logger = logging.getLogger("papyra")

MAX_PARKED_MESSAGES: Final = 256
MAX_PARKED_BYTES: Final = 64 * 1024 * 1024
LOG_SECONDS: Final = 10.0


class Inbound:
    """Receives from one peer.

    ``credit(target, number)`` reports messages that are in the mailbox, ``fail(frame, error)`` one that can't
    be delivered.
    """

    def __init__(
        self,
        peer: object,
        local: LocalSystem,
        counters: Counters,
        credit: Callable[[int, int], None],
        fail: Callable[[Frame, Exception], None],
    ) -> None:
        self._peer = peer
        self._local = local
        self._counters = counters
        self._credit = credit
        self._fail = fail
        self._last = 0
        self._last_broadcast = 0
        self._parked: dict[int, deque[tuple[Frame, Mail]]] = {}
        self._parked_bytes = 0
        self._next_log = 0.0
        self._unlogged = 0

    @property
    def parked(self) -> int:
        """The number of messages that wait for room in a mailbox."""
        return sum(map(len, self._parked.values()))

    def accept(self, number: int) -> bool:
        """Whether a numbered frame is new. If numbers are missing before it, count them as lost."""
        if number <= self._last:
            self._counters.duplicate += 1
            return False
        if number > self._last + 1:
            self._note_lost(number - self._last - 1)
        self._last = number
        return True

    def accept_broadcast(self, number: int) -> bool:
        """Whether a broadcast is new; gaps are not counted, because nobody waits for one."""
        if number <= self._last_broadcast:
            self._counters.duplicate += 1
            return False
        self._last_broadcast = number
        return True

    def probed(self, target: int, last: int) -> int:
        """Note the last number that was sent. Return the last one before those that wait for ``target``."""
        if last > self._last:
            self._note_lost(last - self._last)
            self._last = last
        queue = self._parked.get(target)
        return queue[0][0].seq - 1 if queue else last

    def _note_lost(self, number: int) -> None:
        self._counters.lost += number
        self._unlogged += number
        now = self._local.background.time()
        if now >= self._next_log:
            _logger.warning("%d messages from %s were lost on the way", self._unlogged, self._peer)
            self._next_log = now + LOG_SECONDS
            self._unlogged = 0

    def deliver(self, ref: ActorRef[Any, Any], target: int, frame: Frame, mail: Mail) -> None:
        """Put a message in the mailbox, or park it behind those that wait for room there."""
        queue = self._parked.get(target)
        if queue is None:
            try:
                if self._local.offer(ref, mail):
                    if frame.wants_credit:
                        self._credit(target, frame.seq)
                    return
            except ActorStopped as error:
                self._fail(frame, error)
                return
            queue = self._parked[target] = deque()
            self._local.background.spawn(lambda: self._feed(ref, target), f"papyra cluster feeds {ref!r}")
        elif len(queue) >= MAX_PARKED_MESSAGES or self._parked_bytes + len(frame.body) > MAX_PARKED_BYTES:
            self._counters.rejected += 1
            self._local.refuse(ref, mail.message, expects_reply=frame.kind == ASK)
            self._fail(frame, MessageRejected("overload", f"too many messages wait for {ref!r} already"))
            return
        queue.append((frame, mail))
        self._parked_bytes += len(frame.body)

    async def _feed(self, ref: ActorRef[Any, Any], target: int) -> None:
        queue = self._parked.get(target)
        while queue:
            frame, mail = queue[0]  # `close` leaves it there
            try:
                await self._local.deliver(ref, mail)
            except ActorStopped as error:
                self._fail(frame, error)
            queue.popleft()
            self._parked_bytes -= len(frame.body)
            if frame.wants_credit:
                self._credit(target, frame.seq)
        if self._parked.get(target) is queue:
            del self._parked[target]

    def close(self) -> None:
        """Make dead letters of the parked messages.

        This node is not a member any more, or the peer is gone.
        """
        parked, self._parked = self._parked, {}
        for target, queue in parked.items():
            ref = self._local.find(target)
            while len(queue) > 1:  # its feeder is still delivering the first one
                frame, mail = queue.pop()
                self._local.refuse(ref, mail.message, expects_reply=frame.kind == ASK)
