"""Lifecycle events: frozen, plain data, safe to keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra.persistence.models import JSONValue

__all__ = [
    "ActorCrashed",
    "ActorEvent",
    "ActorRestarted",
    "ActorStarted",
    "ActorStopped",
    "NodeDown",
    "NodeUp",
]


@dataclass(frozen=True, slots=True)
class ActorEvent:
    """Something that happened to an actor.

    ``address`` is ``{"system": str, "actor_id": int}``, ``payload`` the rest as JSON, ``timestamp`` Unix
    time.
    """

    address: dict[str, str | int]
    payload: dict[str, JSONValue] = field(default_factory=dict[str, "JSONValue"])
    timestamp: float = 0.0

    @property
    def reason(self) -> str | None:
        """Why it happened, if the event says so."""
        reason = self.payload.get("reason")
        return reason if isinstance(reason, str) else None


@dataclass(frozen=True, slots=True)
class ActorStarted(ActorEvent):
    """The first ``on_start`` of the actor has returned."""


@dataclass(frozen=True, slots=True)
class ActorRestarted(ActorEvent):
    """A new instance took over after a failure, and its ``on_start`` has returned."""


@dataclass(frozen=True, slots=True)
class ActorStopped(ActorEvent):
    """``on_stop`` has run. The reason is ``stopped``, ``failed``, ``restart_limit`` or ``shutdown``.

    Not to be mixed up with the exception `papyra.ActorStopped`.
    """


@dataclass(frozen=True, slots=True)
class ActorCrashed(ActorEvent):
    """The actor's code raised an exception; ``payload["error"]`` is its type and text."""

    @property
    def error(self) -> str:
        """The type and the text of the exception, as in ``ValueError: no change``."""
        return str(self.payload.get("error", ""))


@dataclass(frozen=True, slots=True)
class NodeUp(ActorEvent):
    """A node of the cluster is up. The address is the system's own, with the number 0.

    ``payload`` has ``node`` and ``incarnation``.
    """


@dataclass(frozen=True, slots=True)
class NodeDown(ActorEvent):
    """A node of the cluster is gone for good, under this incarnation.

    ``payload`` has ``node``, ``incarnation`` and ``reason``: ``left`` (it said so), ``expired`` (its lease
    ran out) or ``lost`` (this very node lost its lease).
    """
