"""One incarnation of this node: its transport, its lease, its links and its replica of the registry."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from papyra_contrib.cluster._errors import (
    NOT_A_MEMBER,
    ActorStopped,
    ClusterUnavailable,
    NodeGone,
    NodeUnreachable,
    TransportError,
)
from papyra_contrib.cluster._links.early_frames import EarlyFrames
from papyra_contrib.cluster._links.flusher import Flusher
from papyra_contrib.cluster._links.link import Link
from papyra_contrib.cluster._links.receiver import Receiver
from papyra_contrib.cluster._registry.joining import claim_membership
from papyra_contrib.cluster._registry.keys import node_key
from papyra_contrib.cluster._registry.members import WIRE_VERSIONS, read_incarnation
from papyra_contrib.cluster._registry.replica import Replica
from papyra_contrib.cluster._remote.asks import PendingAsks
from papyra_contrib.cluster._remote.exports import Exports
from papyra_contrib.cluster._transport import Change, Lease, NodeId, Transport, not_open
from papyra_contrib.cluster._verifier import Verifier
from papyra_contrib.cluster._wire import frames as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._registry.replica import EndedIncarnations
    from papyra_contrib.cluster._remote.refs import Target
    from papyra_contrib.cluster._wire.values import WireValues

    class Owner(Protocol):
        """The cluster, as a session calls it."""

        def member_up(self, peer: NodeId) -> None: ...
        def member_down(self, peer: NodeId, reason: str) -> None: ...
        def services_changed(self, names: Iterable[str]) -> None: ...
        def name_changed(self, name: str) -> None: ...
        def target_ended(self, link: Link, number: int, reason: str) -> None: ...
        def deliver_broadcast(self, key: str, message: object) -> None: ...
        def watched_numbers(self, peer: NodeId) -> list[int]: ...
        def let_go(self, session: Session, reason: str) -> None: ...
        def tidy(self) -> None: ...


__all__ = ["Session"]

_logger = logging.getLogger("papyra")

TICK_SECONDS: Final = 0.25
WATCH_LIST_SECONDS: Final = 10.0
SENDS_BEFORE_YIELD: Final = 200


class Session:
    """A membership from join to end. To join again, the node opens another session.

    It is the host of its transport.
    """

    def __init__(
        self,
        owner: Owner,
        local: LocalSystem,
        transport: Transport,
        node: str,
        ended: EndedIncarnations,
    ) -> None:
        self._owner = owner
        self._local = local
        self._background = local.background
        self.transport = transport
        self.me = NodeId(node, transport.new_incarnation())
        self.replica = Replica(self, local.background.time, ended)
        self.asks = PendingAsks()
        self.exports = Exports(local, self._send_terminated)
        self.links: dict[NodeId, Link] = {}
        self.lease: Lease | None = None
        self.joined = False
        self.closed = False
        self.late = 0
        self.values: WireValues
        self._receiver: Receiver
        self._changed = anyio.Event()
        self._early = EarlyFrames(local.background)
        self._flusher = Flusher(local.background, transport)
        self._verifier = Verifier(self, local.background)
        self._next_watch_list = 0.0
        self._broadcasts = 0
        self._sends = 0

    # -- join and end

    def prepare(
        self, values: WireValues, extract: Callable[[str], AbstractContextManager[object]] | None
    ) -> None:
        """Set the parts that need a complete cluster."""
        self.values = values
        self._receiver = Receiver(self._local, self.exports, self.asks, values, self._owner, extract)

    async def join(self, seconds: float, former: str | None) -> None:
        """Become a member, or raise and leave nothing behind.

        ``former`` is the previous incarnation of this node.
        """
        try:
            with anyio.fail_after(seconds):
                await self.transport.open(self.me, self)
            self.values.max_bytes = min(
                self.values.max_bytes, self.transport.max_frame - wire.MAX_HEADER_BYTES
            )
            self.lease = await claim_membership(self.transport, self.me, seconds, former)
            with anyio.fail_after(seconds):
                await self.until(lambda: self.replica.is_synced and self.replica.is_member(self.me))
            if self.closed:
                raise ClusterUnavailable("the lease was lost while this node joined; it tries again")
        except TimeoutError as error:
            await self._abandon()
            raise not_open(self.transport, seconds) from error
        except BaseException:
            await self._abandon()
            raise
        self.joined = True
        self._background.spawn(self._flusher.run, "papyra cluster sends")
        self._background.after(TICK_SECONDS, self._tick)

    async def _abandon(self) -> None:
        self.closed = True
        with anyio.CancelScope(shield=True):
            await self.transport.aclose()

    def end(self, error: Callable[[object], Exception]) -> None:
        """End every link and ask at once: this node is not a member any more."""
        self.closed = True
        self.joined = False
        for link in self.links.values():
            link.counters.unknown += link.out.close(error(link.peer))
            link.inbound.close()
        self.asks.fail(lambda _: True, lambda ask: error(ask.target))
        self.exports.close()
        self._flusher.close()
        self._note()

    async def leave(self) -> None:
        """Send what is queued, and end the membership."""
        for link in self.links.values():
            link.out.flush()
        self.end(lambda target: NodeGone(target, "can't be reached: this node has left the cluster"))
        with anyio.CancelScope(shield=True):
            await self.transport.aclose()

    def is_valid(self) -> bool:
        """Whether this node is a member beyond doubt."""
        return not self.closed and self.lease is not None and self.lease.valid()

    # -- the host of the transport

    def on_frame(self, peer: NodeId, frame: bytes) -> None:
        """Handle a message, if this node is a member beyond doubt and the peer is one."""
        if not self.is_valid() or peer == self.me:
            return
        if self.replica.is_member(peer):
            self._receiver.receive(self.link(peer), frame)
        elif peer in self.replica.ended:
            self.late += 1
        else:
            self._early.keep(peer, frame)

    def on_unreachable(self, ask: int) -> None:
        """Fail an ask that reached nobody."""
        pending = self.asks.find(ask)
        if pending is not None:
            text = f"{pending.target} was not reached: nobody listens there; try again"
            pending.answer(None, NodeUnreachable(text))

    def on_change(self, change: Change) -> None:
        """Apply a change of the registry to the replica."""
        if self.closed:
            return
        self.replica.apply(change)
        self._note()

    def on_lost(self, reason: str) -> None:
        """Give up the membership: the lease is lost."""
        if not self.closed:
            self._owner.let_go(self, reason)

    # -- the listener of the replica

    def member_up(self, peer: NodeId) -> None:
        """Handle the messages that came from the node before the registry showed it."""
        self._owner.member_up(peer)
        for frame in self._early.take(peer):
            self.on_frame(peer, frame)

    def member_down(self, peer: NodeId, reason: str) -> None:
        """End the link to a node that is down. If it is this node, give up the membership."""
        if peer == self.me:
            self.on_lost(reason)
            return
        link = self.links.pop(peer, None)
        if link is not None:
            link.counters.unknown += link.out.close(NodeGone(peer))
        self.asks.fail(lambda ask: ask.peer == peer, lambda ask: NodeGone(ask.target))
        self.exports.forget(peer)
        self._owner.member_down(peer, reason)

    def fail_asks_to(self, peer: NodeId, number: int) -> None:
        """Fail the asks that were sent to an actor that has ended."""
        self.asks.fail(
            lambda ask: ask.peer == peer and ask.target.id == number and ask.number > 0,
            lambda ask: ActorStopped(ask.target, "stopped before it replied"),
        )

    def services_changed(self, names: Iterable[str]) -> None:
        """Report to the cluster that services have changed."""
        self._owner.services_changed(names)

    def name_changed(self, name: str) -> None:
        """Report to the cluster that the claim of a name has changed."""
        self._owner.name_changed(name)

    def synced(self) -> None:
        """Compare the watches again: messages under way while the registry was away are lost."""
        self._next_watch_list = 0.0

    def doubt(self, key: str) -> None:
        """Ask the leader for a key."""
        self._verifier.doubt(key)

    # -- links

    def link(self, peer: NodeId) -> Link:
        """Return the link to a member."""
        link = self.links.get(peer)
        if link is None:
            link = self.links[peer] = Link(
                peer,
                self.transport,
                self._local,
                self._flusher.soon,
                self._send_credit,
                self._receiver.fail,
                self._pause,
            )
        return link

    def ready_link(self, target: Target) -> Link | None:
        """Return the link to a target's node if a message can go at once and the event loop is not late."""
        link = self.links.get(target.peer)
        self._sends += 1
        if (
            link is None
            or not link.is_compatible
            or link.out.error is not None
            or self._sends >= SENDS_BEFORE_YIELD
        ):
            return None
        return link if self.transport.has_room() and link.out.open_for(target.id) else None

    async def link_to(self, target: Target) -> Link:
        """Return the link to a target's node; an incarnation that is not known yet is asked for."""
        peer = target.peer
        if peer in self.replica.ended:
            raise NodeGone(target)
        if not self.replica.is_member(peer):
            await self._look_for(peer)
        low, high = self.replica.wire.get(peer.node, WIRE_VERSIONS)
        if low > WIRE_VERSIONS[1] or high < WIRE_VERSIONS[0]:
            raise NodeUnreachable(
                f"{target} can't be reached: its node speaks the wire versions {low} to {high}, this one "
                f"{WIRE_VERSIONS[0]} to {WIRE_VERSIONS[1]}; bring both to versions of Papyra with one in common"
            )
        link = self.link(peer)
        link.is_compatible = True
        return link

    async def _look_for(self, peer: NodeId) -> None:
        key = node_key(peer.node)
        try:
            entry = await self.transport.get(key)
        except TransportError as error:
            raise NodeUnreachable(f"{peer} is not known here, and the registry does not answer") from error
        if entry is not None:
            self.on_change(entry)
        if self.closed:
            raise NodeUnreachable(NOT_A_MEMBER)
        if not self.replica.is_member(peer):
            if entry is None or read_incarnation(entry.value) != peer.incarnation:
                self.replica.ended.add(peer, "expired")
            raise NodeGone(peer)

    async def before_send(self, link: Link, target: Target) -> None:
        """Wait for the window and the outbox, and yield to the event loop from time to time.

        The order of the senders to one target is kept.
        """
        self._sends += 1
        if self._sends >= SENDS_BEFORE_YIELD or not self.transport.has_room():
            self._pause(link, target.id)
        if not link.out.open_for(target.id):
            await link.out.admit(target.id)

    def _pause(self, link: Link, target: int) -> None:
        """Let senders to ``target`` wait until what was sent so far is on its way."""
        self._sends = 0  # this pause yields to the event loop
        if link.out.pause(target):
            self._flusher.resume_later(link, target)

    def publish(self, key: str, type_name: str, body: bytes) -> None:
        """Send a broadcast to every node."""
        self._broadcasts += 1
        self.transport.publish(
            wire.encode(wire.BROADCAST, key, body, seq=self._broadcasts, type_name=type_name)
        )

    def send_watch(self, peer: NodeId, kind: str, number: int) -> None:
        """Tell an actor's node that it is watched here, or is not any more."""
        if self.replica.is_member(peer) and not self.closed:
            self.link(peer).out.add(wire.encode(kind, 0, str(number).encode()))

    def _send_terminated(self, peer: NodeId, number: int, reason: str) -> None:
        if self.replica.is_member(peer) and not self.closed:
            self.link(peer).out.add(wire.encode(wire.TERMINATED, number, type_name=reason))

    def _send_credit(self, link: Link, target: int, number: int) -> None:
        link.out.add(wire.encode(wire.CREDIT, target, seq=number))

    # -- periodic work

    def _tick(self) -> None:
        if self.closed:
            return
        if self.is_valid():
            for link in self.links.values():
                if not link.out.idle:
                    link.out.probe()
            for node in self.replica.overdue(self.transport.lease_seconds, self.me.node):
                self.doubt(node_key(node))
            if self._background.time() >= self._next_watch_list:
                self._next_watch_list = self._background.time() + WATCH_LIST_SECONDS
                self._send_watch_lists()
                self._verifier.clear_leftovers()
                self._owner.tidy()
        self._background.after(TICK_SECONDS, self._tick)

    def _send_watch_lists(self) -> None:
        for node, member in self.replica.members.items():
            peer = NodeId(node, member.incarnation)
            numbers = self._owner.watched_numbers(peer)
            if numbers:
                body = " ".join(map(str, numbers)).encode()
                self.link(peer).out.add(wire.encode(wire.WATCH, 0, body, corr=1))

    def _note(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a state of the registry, or for the end of the session."""
        while not condition() and not self.closed:
            await self._changed.wait()

    def panel(self) -> dict[str, Any]:
        """Return a summary of this incarnation, as plain data."""
        return {
            "node": self.me.node,
            "incarnation": self.me.incarnation,
            "members": [
                asdict(member)
                for member in sorted(
                    self.replica.members.values(), key=lambda member: (member.since, member.node)
                )
            ],
            "lease_seconds_left": round(self.lease.seconds_left(), 3) if self.lease is not None else 0.0,
            "reconnects": self.transport.reconnects,
            "asks": len(self.asks),
            "exported": len(self.exports),
            "late": self.late + self._early.late,
            "peers": {str(peer): link.panel() for peer, link in self.links.items()},
        }
