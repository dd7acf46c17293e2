"""A reply that an actor owes: it answers later, and handles other messages meanwhile."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Never, cast

from papyra._runtime.containment.stack_guard import need_frames
from papyra._runtime.containment.thread_guard import check_thread
from papyra._runtime.containment.user_values import describe, is_a
from papyra.exceptions import ReplyDropped
from papyra.typing import R

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.envelope import Envelope

__all__ = ["Reply"]


class Reply(Generic[R]):
    """The duty to answer an ask, as `ActorContext.reply_later` hands it out.

    The first `send` or `fail` counts, from whatever task on the event loop. A handle that is dropped
    unanswered answers `ReplyDropped`, so an ask never hangs. Until it answers, the asker waits for this
    actor, and a stop of this actor is not over. A restart and a stop past its time-out answer `ActorStopped`.
    """

    __slots__ = ("__weakref__", "_cell", "_done", "_envelope")

    def __init__(self, cell: Cell, envelope: Envelope | None) -> None:
        self._cell = cell
        self._envelope = envelope
        self._done = False

    def send(self, value: R) -> bool:  # type: ignore[misc]  # R is covariant, as in `ActorRef`: a handle of R is made by the actor that replies R
        """Answer with ``value``. Return False if nobody waits any more."""
        return self._settle(value, None)

    def fail(self, error: BaseException) -> bool:
        """Let the ask raise ``error``, which does not count as a failure of the actor.

        Return False if nobody waits any more.
        """
        if not is_a(error, BaseException):  # one that lies about its class would fail the asker
            raise TypeError(f"fail() takes an exception, such as ValueError('...'), not {describe(error)}")
        return self._settle(None, error)

    @property
    def done(self) -> bool:
        """Whether the handle has answered."""
        return self._done

    @property
    def later(self) -> Never:
        """What ``receive`` returns in place of a reply: ``return handle.later``."""
        return cast("Never", None)  # type: ignore[misc]  # it does return: a value of this type fits every reply

    def _settle(self, value: object, error: BaseException | None) -> bool:
        check_thread(self._cell.rt, "reply")
        need_frames()  # before anything changes: an error half-way would leave the asker without a reply
        envelope, self._envelope = self._envelope, None
        self._done = True
        if envelope is None or not envelope.is_awaited():
            return False
        envelope.reply(value, error)
        return True

    def __del__(self) -> None:
        envelope = self._envelope
        if envelope is None or envelope.replied:
            return
        cell = self._cell
        # Any thread may collect this object, and it may do so in the middle of the runtime's own steps.
        with suppress(RuntimeError):  # the event loop has ended, and the asker with it
            cell.rt.loop.from_thread(lambda: envelope.reply(None, ReplyDropped(cell)))

    def __repr__(self) -> str:
        return f"<Reply of actor {self._cell}{', done' if self._done else ''}>"
