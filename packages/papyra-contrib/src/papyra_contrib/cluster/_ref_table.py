"""Turns addresses and wire values into references, and back."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from papyra import ActorRef
from papyra.address import ActorAddress
from papyra_contrib.cluster._registry.keys import escape, unescape
from papyra_contrib.cluster._remote.refs import LateRef, RemoteRef, Target
from papyra_contrib.cluster._transport import NodeId

if TYPE_CHECKING:
    from papyra.cluster import LocalSystem
    from papyra.typing import M, R
    from papyra_contrib.cluster._membership import Membership
    from papyra_contrib.cluster._remote.refs import Sender

__all__ = ["RefTable"]


class RefTable:
    """Makes references. All references to one actor share a target.

    Codecs call `dump` and `load`.
    """

    def __init__(self, membership: Membership, local: LocalSystem, sender: Sender) -> None:
        self._membership = membership
        self._local = local
        self._sender = sender
        self.targets: weakref.WeakValueDictionary[tuple[NodeId, int], Target] = weakref.WeakValueDictionary()
        self._runtimes: weakref.WeakValueDictionary[NodeId, Any] = weakref.WeakValueDictionary()

    def ref(self, peer: NodeId, number: int) -> ActorRef[Any, Any]:
        """Return the reference to an actor of a node. For an actor of this node, it is a local one."""
        session = self._membership.session
        mine = session is not None and session.me == peer
        local = self._local.find(number) if mine else None
        if local is not None:
            return local
        target = self.targets.get((peer, number))
        if target is None:
            runtime = self._runtimes.get(peer)
            if runtime is None:
                runtime = self._runtimes[peer] = self._local.handle(str(peer))
            target = self.targets[peer, number] = Target(runtime, peer, number, self._sender)
            if mine or peer in self._membership.ended:
                target.ended = "unknown" if mine else "node_down"
        return RemoteRef(target)

    def late(self, name: str) -> LateRef[Any, Any]:
        """Return the reference to the actor that holds a name when a message is sent."""
        return LateRef(self._local.handle("late"), name, self._sender)

    def local(self, ref: ActorRef[M, R]) -> ActorRef[M, R]:
        """Return ``ref``, or raise `ValueError` if it is not an actor of this node."""
        if not isinstance(ref, ActorRef) or not self._local.owns(ref):
            raise ValueError(
                f"{ref!r} is not an actor of this node; only its own node can register or name it"
            )
        return ref

    def address(self, ref: ActorRef[Any, Any]) -> ActorAddress:
        """Return the cluster-wide address of an actor, and let other nodes reach it."""
        if isinstance(ref, RemoteRef):
            return ref.address  # pyright: ignore[reportUnknownVariableType]  # of any messages
        session = self._membership.now("make an address")
        return ActorAddress(str(session.me), session.exports.add(self.local(ref)))

    def resolve(self, address: ActorAddress) -> ActorRef[Any, Any] | None:
        """Return the reference to a cluster-wide address, or None if it is not one."""
        node, at, incarnation = address.system.partition("@")
        if not at or not node or not incarnation:
            return None
        return self.ref(NodeId(node, incarnation), address.actor_id)

    def dump(self, ref: ActorRef[Any, Any]) -> str:
        """Write a reference for the wire."""
        return f"~{escape(ref.name)}" if isinstance(ref, LateRef) else str(self.address(ref))

    def load(self, text: str) -> ActorRef[Any, Any]:
        """Read a reference from the wire; `ValueError` if it is invalid."""
        if text.startswith("~"):
            return self.late(unescape(text[1:]))
        ref = self.resolve(ActorAddress.parse(text))
        if ref is None:
            raise ValueError(f"{text[:200]!r} is not an address of a cluster")
        return ref

    def ended(self, peer: NodeId, number: int, reason: str) -> None:
        """Note that a remote actor has ended."""
        target = self.targets.get((peer, number))
        if target is not None and target.ended is None:
            target.ended = reason

    def peer_down(self, peer: NodeId) -> None:
        """Note that a node is down, and all its actors have ended."""
        for (node, _), target in list(self.targets.items()):
            if node == peer and target.ended is None:
                target.ended = "node_down"
