"""Local actors that watch actors of other nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra_contrib.cluster._errors import ClusterUnavailable, NodeGone, NodeUnreachable
from papyra_contrib.cluster._remote.refs import RemoteRef
from papyra_contrib.cluster._wire import frames as wire

if TYPE_CHECKING:
    from papyra import ActorRef
    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._membership import Membership
    from papyra_contrib.cluster._remote.refs import Target
    from papyra_contrib.cluster._transport import NodeId

__all__ = ["Watches"]


class Watches:
    """Watches of remote actors. Each watcher is notified once: its actor has ended, or the node is down."""

    def __init__(self, membership: Membership, local: LocalSystem, join_timeout: float) -> None:
        self._membership = membership
        self._local = local
        self._join_timeout = join_timeout
        self._by_target: dict[tuple[NodeId, int], tuple[Target, dict[int, ActorRef[Any, Any]]]] = {}

    def watch(self, watcher: ActorRef[Any, Any], target: Target) -> None:
        """Notify ``watcher`` of the end of ``target``, at once if it has ended already."""
        if target.ended is not None:
            self._local.tell_terminated(watcher, RemoteRef(target), target.ended)
            return
        number = watcher.address.actor_id
        if not self._local.on_end(watcher, (self, target), lambda _: self._drop(number, target)):
            return
        key = (target.peer, target.id)
        _, watchers = self._by_target.setdefault(key, (target, {}))
        watchers[number] = watcher
        self._ask_for(target)

    def _ask_for(self, target: Target) -> None:
        session = self._membership.now("watch an actor")
        session.send_watch(target.peer, wire.WATCH, target.id)
        if not session.replica.is_member(target.peer):
            self._local.background.spawn(lambda: self._find(target), f"papyra cluster looks for {target}")

    async def _find(self, target: Target) -> None:
        try:
            session = await self._membership.session_ready(self._join_timeout)
            await session.link_to(target)
            session.send_watch(target.peer, wire.WATCH, target.id)
        except NodeGone:
            self.terminated(target.peer, target.id, "node_down")
        except (ClusterUnavailable, NodeUnreachable):
            pass  # the list of watches is sent again once the node is known

    def unwatch(self, watcher: ActorRef[Any, Any], target: Target) -> None:
        """Undo `watch`, even if the notice is in the mailbox already."""
        self._local.off_end(watcher, (self, target))
        self._local.remove_terminated(watcher, RemoteRef(target))
        self._drop(watcher.address.actor_id, target)

    def _drop(self, number: int, target: Target) -> None:
        key = (target.peer, target.id)
        _, watchers = self._by_target.get(key, (target, {}))
        watchers.pop(number, None)
        if not watchers and self._by_target.pop(key, None) is not None:
            session = self._membership.session
            if session is not None:
                session.send_watch(target.peer, wire.UNWATCH, target.id)

    def numbers(self, peer: NodeId) -> list[int]:
        """Return the actors of ``peer`` that are watched here."""
        return [number for node, number in self._by_target if node == peer]

    def peers(self) -> list[NodeId]:
        """Return the nodes whose actors are watched, each once."""
        return list(dict.fromkeys(peer for peer, _ in self._by_target))

    def terminated(self, peer: NodeId, number: int, reason: str) -> None:
        """Notify the watchers of an actor that has ended."""
        watched = self._by_target.pop((peer, number), None)
        if watched is None:
            return
        target, watchers = watched
        for watcher in watchers.values():
            self._local.off_end(watcher, (self, target))
            self._local.tell_terminated(watcher, RemoteRef(target), reason)

    def peer_down(self, peer: NodeId) -> None:
        """Notify the watchers of every actor of a node that is down."""
        for number in self.numbers(peer):
            self.terminated(peer, number, "node_down")
