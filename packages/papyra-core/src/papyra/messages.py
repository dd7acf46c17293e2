"""What travels besides the messages of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from papyra.ref import ActorRef

__all__ = ["ActorTerminated", "DeadLetter"]


@dataclass(frozen=True, slots=True)
class ActorTerminated:
    """Tell a watcher that the actor ``ref`` has stopped, and why (``stopped failed restart_limit shutdown``)."""

    ref: ActorRef[Any, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was not handled: its ``target`` had stopped, was stopping, or stopped before its turn."""

    target: ActorRef[Any, Any]
    message: object
    expects_reply: bool = False
    timestamp: float = 0.0
