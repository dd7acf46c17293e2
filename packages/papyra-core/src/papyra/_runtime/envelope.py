"""Mailbox items other than plain messages: asks, calls of a proxy, and the signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra._runtime.cell import Cell
    from papyra._runtime.observation.attached_instrument import Marks
    from papyra._runtime.wait_graph import Branch
    from papyra.actor import Actor

__all__ = ["SIGNAL", "Asker", "Envelope", "Source"]


class Asker(Protocol):
    """What a reply wakes: a `Waiter` of the event loop, a thread, another node."""

    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...


class Source(Protocol):
    """What puts envelopes of the runtime's own into a mailbox: a timer, background work."""

    @property
    def keeps_drain_open(self) -> bool:
        """Whether an actor that stops handles the envelope, if it is queued already."""
        ...


class Envelope:
    """An ask, a proxy's call or the signal, as a mailbox item.

    The reply is written into the envelope, and ``waiter`` only wakes the asker: asyncio would report an
    exception in a future that nobody awaits as never retrieved.

    An envelope with a ``source`` is the runtime's own: a tick, the result of background work. It needs no
    room and is never a dead letter. ``debtor`` is the cell that took the envelope to answer it later.
    """

    __slots__ = (
        "asker",
        "call",
        "debtor",
        "error",
        "expects_reply",
        "marks",
        "message",
        "replied",
        "source",
        "value",
        "waiter",
    )

    def __init__(self, message: object, *, expects_reply: bool = True) -> None:
        self.message = message
        self.expects_reply = expects_reply
        self.call: Callable[[Actor], Awaitable[Any]] | None = None
        self.waiter: Asker | None = None
        self.marks: Marks | None = None
        self.asker: Cell | Branch | None = None
        self.source: Source | None = None
        self.debtor: Cell | None = None
        self.replied = False
        self.value: Any = None
        self.error: BaseException | None = None

    def reply(self, value: object, error: BaseException | None = None) -> None:
        """Give the asker its answer, if it still waits for one."""
        if self.replied:
            return
        self.replied = True
        if (
            self.expects_reply
        ):  # else nobody would take it, and an error refers to the frames that have this envelope
            self.value = value
            self.error = error
        if self.asker is not None:
            self.asker.waits_for = self.asker.wait = None
        if self.debtor is not None:
            self._release_debtor()
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def is_awaited(self) -> bool:
        """Return whether an asker still waits for the reply."""
        return self.expects_reply and not self.replied

    def abandon(self) -> None:
        """Note that the asker waits no more.

        A late reply is dropped, and a message that still waits is skipped.
        """
        self.replied = True
        self.waiter = None
        self.asker = None
        if self.debtor is not None:
            self._release_debtor()

    def _release_debtor(self) -> None:
        debtor, self.debtor = self.debtor, None
        if debtor is not None and debtor.resources is not None:
            debtor.resources.repaid(self)

    def fail(self, error: BaseException) -> None:
        """Let the ask raise ``error``."""
        self.reply(None, error)


SIGNAL: Final = Envelope(None, expects_reply=False)
"""The first item in the mailbox of a cell that has something other than messages to do."""
