"""Messages of the runtime: the end of a watched actor, and dead letters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from papyra.ref import ActorRef

__all__ = ["ActorTerminated", "DeadLetter"]


@dataclass(frozen=True, slots=True)
class ActorTerminated:
    """Notify a watcher that the actor ``ref`` has stopped.

    Reasons are ``stopped failed restart_limit shutdown``.
    """

    ref: ActorRef[Any, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was not handled.

    The ``reason`` is ``stopped`` (the target had stopped, was stopping, or stopped before the message's
    turn), ``unhandled`` (the target did not know what to do with it) or ``dropped`` (a full mailbox or queue
    had no room for it, and nobody could be told). The ``repr`` does not show the message, which may hold
    secrets.
    """

    target: ActorRef[Any, Any]
    message: object = field(repr=False)
    expects_reply: bool = False
    timestamp: float = 0.0
    reason: str = "stopped"
