"""Mailbox items other than plain messages: asks, calls of a proxy, and the signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.attached import Marks
    from papyra._runtime.cell import Cell
    from papyra.actor import Actor

__all__ = ["SIGNAL", "Envelope"]


class Envelope:
    """An ask, a proxy's call or the signal, as a mailbox item.

    The reply is written into the envelope, and ``waiter`` only wakes the asker: asyncio would report an
    exception in a future that nobody awaits as never retrieved.
    """

    __slots__ = ("asker", "call", "error", "expects_reply", "marks", "message", "replied", "value", "waiter")

    def __init__(self, message: object, *, expects_reply: bool = True) -> None:
        self.message = message
        self.expects_reply = expects_reply
        self.call: Callable[[Actor], Awaitable[Any]] | None = None
        self.waiter: Waiter | None = None
        self.asker: Cell | None = None
        self.marks: Marks | None = None
        self.replied = False
        self.value: Any = None
        self.error: BaseException | None = None

    def reply(self, value: object, error: BaseException | None = None) -> None:
        """Give the asker its answer, if it still waits for one."""
        if self.replied:
            return
        self.replied = True
        self.value = value
        self.error = error
        if self.asker is not None:
            self.asker.waits_for = self.asker.wait = None
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Let the ask raise ``error``."""
        self.reply(None, error)


SIGNAL: Final = Envelope(None, expects_reply=False)
"""The first item in the mailbox of a cell that has something other than messages to do."""
