"""The errors of a cluster. Those of core (`NotClustered`, `UnknownTransport`) are re-exported."""

from __future__ import annotations

from typing import Final

from papyra.exceptions import (
    ActorNameTaken,
    ActorStopped,
    AskTimeout,
    NotClustered,
    PapyraError,
    UnknownTransport,
)

__all__ = [
    "NOT_A_MEMBER",
    "ActorNameTaken",
    "ActorStopped",
    "AskTimeout",
    "ClusterUnavailable",
    "Conflict",
    "MessageRejected",
    "NodeGone",
    "NodeNameTaken",
    "NodeUnreachable",
    "NotClustered",
    "RemoteFailure",
    "TransportError",
    "UnknownTransport",
    "not_joined",
]

NOT_A_MEMBER: Final = "this node is not a member of the cluster now; it rejoins automatically"


class NodeGone(ActorStopped):
    """The actor's node is down, and this incarnation of it never comes back.

    It is unknown whether a message was handled.
    """

    def __init__(self, actor: object = None, what: str = "is on a node that is gone for good") -> None:
        super().__init__(actor, what)


class NodeUnreachable(PapyraError, ConnectionError):
    """The message was not delivered, and may be sent again: nobody listens there, or no holder is known."""


class MessageRejected(PapyraError, ValueError):
    """The message or its reply can't be sent to another node.

    ``code`` is ``unregistered`` (its type has no wire name), ``unknown_type`` (the other node does not know
    the name), ``invalid``, ``too_large``, ``not_exported`` (no reference to the actor was ever sent) or
    ``overload`` (too many messages wait for the actor already).
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class RemoteFailure(PapyraError):
    """The actor raised an exception that has no wire name; ``type_name`` is its class, the text its own."""

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(f"{type_name}: {text}" if text else type_name)
        self.type_name = type_name


class ClusterUnavailable(PapyraError, ConnectionError):
    """The registry of the cluster can't be reached, or does not answer in time."""


def not_joined(action: str) -> ClusterUnavailable:
    """Make the error of an action that needs a node of the cluster."""
    return ClusterUnavailable(f"can't {action}: this node has not joined the cluster, or has left it")


class NodeNameTaken(PapyraError, ValueError):
    """A living node of the cluster has this name."""

    def __init__(self, node: str, holder: str) -> None:
        super().__init__(
            f"a node named {node!r} is up already ({holder}); give this system another system_id, or stop that node"
        )
        self.node = node


class TransportError(PapyraError, ConnectionError):
    """A request to the registry got no answer: it is unknown whether it was done."""


class Conflict(PapyraError, ValueError):
    """The key is not at the revision that the request expected. Nothing was changed."""
