"""One message to many actors at once: a full mailbox does not delay the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra._runtime.containment.stack_guard import need_frames
from papyra._runtime.delivery.sender_line import Sender
from papyra._runtime.delivery.sending import (
    WAIT_FRAMES,
    halt_send,
    line_up,
    refuses_when_full,
    settle,
    try_enqueue,
    withdraw,
    yield_to_loop,
)
from papyra._runtime.wait_graph import begin_branch, begin_fork, end_wait
from papyra.exceptions import ActorStopped, AskDeadlock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.cell import Cell
    from papyra._runtime.runtime import Runtime
    from papyra._runtime.wait_graph import Branch, Fork

__all__ = ["Broadcast"]


class _PlaceInLine:
    """The waiter of a broadcast in the line of one mailbox. When it is woken, the broadcast sends there."""

    __slots__ = ("_broadcast", "_cell", "_done", "sender")

    def __init__(self, broadcast: Broadcast, cell: Cell, item: object) -> None:
        self._broadcast = broadcast
        self._cell = cell
        self._done = False
        self.sender = Sender(item, self)  # type: ignore[arg-type]  # nobody awaits it

    def done(self) -> bool:
        return self._done

    def set_result(self, _result: None, /) -> None:
        self._broadcast.wake()  # first: if it raises, nothing has changed
        self._done = True
        self._broadcast.due.append((self._cell, self.sender))


class Broadcast:
    """Tells one message to many actors, and counts them in ``told``."""

    def __init__(self, rt: Runtime, message: object) -> None:
        self._rt = rt
        self._message = message
        self._me = rt.current_cell()
        self._left: dict[Sender, tuple[Cell, Branch | None]] = {}
        self._waiter: Waiter | None = None
        self._deadlock: AskDeadlock | None = None
        self.due: list[tuple[Cell, Sender]] = []
        self.told = 0

    async def send(self, cells: Iterable[Cell]) -> None:
        """Send to all ``cells``, and wait for room where a mailbox is full.

        An actor that has stopped is skipped. One that refuses the message leaves a dead letter. If waiting
        for one of them would be a deadlock, raise `AskDeadlock` after the message was sent to all others.
        """
        need_frames(WAIT_FRAMES)
        fork = begin_fork(self._me) if self._me is not None else None
        try:
            for cell in cells:
                item = await self._item(cell)
                if cell.stopping:
                    continue
                if try_enqueue(cell, item):
                    self.told += 1
                elif refuses_when_full(cell):
                    self._rt.history.dead_letter(cell, self._message, expects_reply=False, reason="dropped")
                else:
                    self._wait(cell, item, fork)
            await self._finish()
        finally:
            if self._me is not None:
                end_wait(self._me)
            for sender, (cell, _) in self._left.items():
                withdraw(cell, sender)
        if self._deadlock is not None:
            raise self._deadlock

    def _wait(self, cell: Cell, item: object, fork: Fork | None) -> None:
        """Wait for room in a full mailbox, in addition to the other waits."""
        sender = _PlaceInLine(self, cell, item).sender
        branch = None
        if self._me is not None and fork is not None:
            try:
                branch = begin_branch(self._me, fork, cell, sender)
            except AskDeadlock as error:
                self._deadlock = error
                return
        line_up(cell, sender)
        self._left[sender] = cell, branch

    async def _item(self, cell: Cell) -> object:
        for _ in self._rt.sends:
            return self._message
        item = halt_send(cell, self._message)
        if self._rt.must_yield:
            await yield_to_loop(self._rt)
        return item

    async def _finish(self) -> None:
        while self._left:
            if not self.due:
                self._waiter = self._rt.loop.waiter()
                await self._waiter
            due, self.due = self.due, []
            for cell, sender in due:
                self._settle(cell, sender)

    def _settle(self, cell: Cell, sender: Sender) -> None:
        branch = self._left.pop(sender)[1]
        if branch is not None:
            end_wait(branch)
        try:
            settle(cell, sender)
        except ActorStopped:
            return  # it stopped meanwhile
        except AskDeadlock as error:
            self._deadlock = error
            return
        self.told += 1

    def wake(self) -> None:
        """Wake the broadcast to send where there is room now."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
