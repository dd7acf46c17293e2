"""The values in the registry: members, services, claims, and the fence of a claim."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from papyra_contrib.cluster._transport import NodeId

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "WIRE_VERSIONS",
    "Claim",
    "Fence",
    "Member",
    "NameLost",
    "claim_value",
    "member_value",
    "read_claim",
]

WIRE_VERSIONS = (1, 1)
"""The oldest and the newest wire version that this code speaks."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node that is up, as it describes itself. ``since`` is Unix time in seconds."""

    node: str
    incarnation: str
    since: float
    host: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    """Orders the holders of a name: a later one has a greater fence, even if the registry was lost.

    A holder has one fence, until it gives the name up or its node loses its lease.
    ``str`` has a fixed width and the same order. Give it to a resource that refuses writes with a smaller
    fence.
    """

    epoch: int
    revision: int

    def __str__(self) -> str:
        return f"{self.epoch:014d}-{self.revision:019d}"


@dataclass(frozen=True, slots=True)
class NameLost:
    """Sent to an actor: its node was cut off, and another actor has its name now."""

    name: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a name: the node, the actor's number on it, and the revision of the first claim.

    The number is 0 until the actor is spawned.
    """

    holder: NodeId
    actor_id: int
    revision: int


def member_value(me: NodeId, since: float, host: str, pid: int, version: str) -> bytes:
    """Write the value of a node's lease."""
    value = {
        "inc": me.incarnation,
        "since": since,
        "host": host,
        "pid": pid,
        "papyra": version,
        "wire": list(WIRE_VERSIONS),
    }
    return json.dumps(value).encode()


def read_member(node: str, value: bytes) -> tuple[Member, tuple[int, int]] | None:
    """Read the value of a node's lease, or return None if it is invalid."""
    fields = _mapping(value)
    try:
        low, high = cast("list[int]", fields["wire"])
        member = Member(
            node,
            str(fields["inc"]),
            float(fields["since"]),
            str(fields.get("host", "")),
            int(fields.get("pid", 0)),
            str(fields.get("papyra", "")),
        )
        return member, (int(low), int(high))
    except (KeyError, TypeError, ValueError):
        return None  # any member may write there: ignore an invalid value


def service_value(me: NodeId) -> bytes:
    """Write the value of a service."""
    return json.dumps({"inc": me.incarnation}).encode()


def read_incarnation(value: bytes) -> str:
    """Read the incarnation in the value of a service or lease; empty if there is none."""
    return str(_mapping(value).get("inc", ""))


def claim_value(me: NodeId, actor_id: int, first_revision: int = 0) -> bytes:
    """Write the value of a claim. A second write of the same claim has the revision of the first."""
    value = {"node": me.node, "inc": me.incarnation, "id": actor_id}
    if first_revision:
        value["rev"] = first_revision
    return json.dumps(value).encode()


def read_claim(value: bytes, revision: int) -> Claim | None:
    """Read the value of a claim, or return None if it is invalid."""
    fields = _mapping(value)
    try:
        holder = NodeId(str(fields["node"]), str(fields["inc"]))
        return Claim(holder, int(fields["id"]), int(fields.get("rev", revision)))
    except (KeyError, TypeError, ValueError):
        return None  # as in `read_member`


def _mapping(value: bytes) -> Mapping[str, Any]:
    try:
        loaded: object = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else {}
