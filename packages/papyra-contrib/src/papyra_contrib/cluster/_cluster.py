"""The cluster as a program sees it, and as the runtime calls it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from papyra_contrib.cluster._claims import Claims
from papyra_contrib.cluster._discovery import open_codec, open_transport
from papyra_contrib.cluster._errors import NOT_A_MEMBER, ClusterUnavailable, not_joined
from papyra_contrib.cluster._links.receiver import deliver_to
from papyra_contrib.cluster._membership import Membership
from papyra_contrib.cluster._ref_table import RefTable
from papyra_contrib.cluster._registrar import Registrar
from papyra_contrib.cluster._registry.keys import escape, unescape
from papyra_contrib.cluster._remote.refs import NameTarget, Target
from papyra_contrib.cluster._sending import Sending
from papyra_contrib.cluster._services import Services
from papyra_contrib.cluster._session import Session
from papyra_contrib.cluster._singleton import Singletons
from papyra_contrib.cluster._watches import Watches
from papyra_contrib.cluster._wire.values import WireValues
from papyra_contrib.receptionist import Receptionist, ServiceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from papyra import ActorRef, ActorSystem, Receives
    from papyra.address import ActorAddress
    from papyra.cluster import LocalSystem
    from papyra.supervision import SupervisionPolicy
    from papyra_contrib.cluster._links.link import Link
    from papyra_contrib.cluster._registry.members import Fence, Member
    from papyra_contrib.cluster._transport import NodeId, Transport
    from papyra_contrib.receptionist._key import M, R

__all__ = ["Cluster"]

MIN_LEASE_SECONDS: Final = 2
MAX_LEASE_SECONDS: Final = 120


class Cluster(Receptionist):
    """A node's cluster: give it, or its URL, to ``ActorSystem(system_id=..., cluster=...)``.

    Seconds and bytes. ``lease`` is how long the others wait for a node that is silent (whole seconds, 2 to
    120; None takes that of the cluster, or makes it 3, and 12 with replicas). ``ask_timeout`` holds for asks
    without a time-out, ``join_timeout`` for the start and each request to the registry. A node whose event
    loop is blocked for longer than ``stall`` lets go. ``trace`` is a pair of functions: ``inject()`` returns
    a traceparent or None, and ``extract(traceparent)`` a context manager, in which the message is received.
    Nothing is opened before `ActorSystem.start`.
    """

    def __init__(
        self,
        url: str,
        *,
        lease: int | None = None,
        ask_timeout: float = 30.0,
        join_timeout: float = 10.0,
        stall: float = 30.0,
        max_message: int = 1_000_000,
        codec: str = "msgspec",
        trace: tuple[Callable[[], str | None], Callable[[str], AbstractContextManager[object]]] | None = None,
    ) -> None:
        super().__init__()
        if lease is not None and not (type(lease) is int and MIN_LEASE_SECONDS <= lease <= MAX_LEASE_SECONDS):
            raise ValueError(
                f"lease must be whole seconds from {MIN_LEASE_SECONDS} to {MAX_LEASE_SECONDS}, not {lease!r}"
            )
        for option, value in (("ask_timeout", ask_timeout), ("join_timeout", join_timeout), ("stall", stall)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{option} must be a number of seconds above 0, not {value!r}")
        if type(max_message) is not int or max_message < 1:
            raise ValueError(f"max_message must be at least 1 byte, not {max_message!r}")
        self._make_transport: Callable[[], Transport] = open_transport(url, lease=lease, stall=stall)
        self.ask_timeout = ask_timeout
        self._join_timeout = join_timeout
        self._max_message = max_message
        self._codec = open_codec(codec)
        self._inject = trace[0] if trace is not None else None
        self._extract = trace[1] if trace is not None else None
        self._settling = False
        self._membership: Membership | None = None
        self._local: LocalSystem
        self._refs: RefTable
        self._sending: Sending
        self._services: Services
        self._claims: Claims
        self._singletons: Singletons
        self._watches: Watches

    # -- members

    @property
    def me(self) -> Member:
        """The node of this system as a member of the cluster.

        Raises `ClusterUnavailable` while it is not one, as between a lost lease and the next join.
        """
        session = self._now("say who this node is")
        member = session.replica.members.get(session.me.node)
        if member is None:
            raise ClusterUnavailable(NOT_A_MEMBER)
        return member

    def members(self) -> tuple[Member, ...]:
        """Return all nodes that are up, this one among them, the oldest first."""
        members = self._session.replica.members.values() if self._session is not None else ()
        return tuple(sorted(members, key=lambda member: (member.since, member.node)))

    @property
    def _session(self) -> Session | None:
        return self._membership.session if self._membership is not None else None

    def _now(self, action: str) -> Session:
        if self._membership is None:
            raise not_joined(action)
        return self._membership.now(action)

    # -- services: the receptionist

    async def register(self, key: ServiceKey[M, R], ref: ActorRef[M, R]) -> None:
        """Offer the local actor ``ref`` under the service ``key``, on every node.

        The service ends with the actor or the node.
        """
        self._now("register a service")
        await self._services.register(key.name, self._refs.local(ref))

    async def withdraw(self, key: ServiceKey[M, R], ref: ActorRef[M, R]) -> None:
        """Stop offering ``ref`` under ``key``. The actor keeps running."""
        self._now("withdraw a service")
        await self._services.withdraw(key.name, self._refs.local(ref))

    def find(self, key: ServiceKey[M, R]) -> tuple[ActorRef[M, R], ...]:
        """Return the actors under ``key``. What this node knows of them is at most a beat old."""
        session = self._session
        if session is None:
            return ()
        services = session.replica.find(key.name)
        refs = [self._refs.ref(service.holder, service.actor_id) for service in services]
        return tuple(ref for ref in refs if ref.is_alive())

    async def broadcast(self, key: ServiceKey[M, R], message: M) -> int:
        """Send ``message`` to all actors under ``key``, and return how many of them this node knows.

        One publish reaches all nodes, at most once and without back-pressure: a message to a full mailbox
        becomes a dead letter.
        """
        session = self._now("broadcast")
        type_name, body = session.values.dump(message)
        count = len(self.find(key))
        if not session.transport.has_room():
            await session.transport.room()
        await anyio.lowlevel.checkpoint()
        session.publish(escape(key.name), type_name, body)
        self.deliver_broadcast(escape(key.name), session.values.load(type_name, body))
        return count

    # -- names

    async def claim(self, name: str | ServiceKey[M, R], ref: ActorRef[M, R]) -> Fence:
        """Give the local actor ``ref`` a name that nobody else in the cluster has, and return its fence.

        `ActorNameTaken` names the holder. The name is gone with the actor and the node. If the node was cut
        off, and somebody else has the name when it is back, the actor gets a `NameLost`; if it has the name
        again, it has a greater fence. An actor that claims a name of its own gets the fence that it has now.
        """
        self._now("claim a name")
        return await self._claims.claim(_name(name), self._refs.local(ref))

    async def release(self, name: str | ServiceKey[Any, Any]) -> None:
        """Give up a name of this node. Does nothing if this node does not have it."""
        self._now("release a name")
        await self._claims.release(_name(name))

    def lookup(self, name: str | ServiceKey[M, R]) -> ActorRef[M, R] | None:
        """Return the actor that has a name, as this node knows it; a key only says its types."""
        return self._sending.holder_now(_name(name)) if self._session is not None else None

    # -- singletons

    async def singleton(
        self,
        name: str,
        factory: Callable[[Fence], Receives[M, R]],
        *,
        policy: SupervisionPolicy | None = None,
        mailbox_capacity: int = 1024,
    ) -> ActorRef[M, R]:
        """Become a candidate: exactly one of all candidates runs ``factory(fence)``.

        Returns a reference to the actor that runs when a message is sent. There is only one while leases are
        kept; a resource outside the cluster that it writes to must check its fence.
        """
        self._now("run a singleton")
        self._singletons.apply(name, factory, policy, mailbox_capacity)
        await anyio.lowlevel.checkpoint()
        return self._refs.late(name)

    async def resign(self, name: str) -> None:
        """Stop being a candidate, after the actor if it runs here. Does nothing if this node is not one."""
        self._now("resign")
        await self._singletons.resign(name)

    def role(self, key: ServiceKey[M, R]) -> ActorRef[M, R]:
        """Return a reference to the actor that holds the key's name when a message is sent.

        For nodes that are not candidates.
        """
        self._now("find a role")
        return self._refs.late(key.name)

    # -- references and watches; the last three for the runtime

    def address(self, ref: ActorRef[Any, Any]) -> ActorAddress:
        """Return the cluster-wide address of an actor, and let other nodes reach it."""
        self._now("make an address")
        return self._refs.address(ref)

    def resolve(self, address: ActorAddress) -> ActorRef[Any, Any] | None:
        """Return the reference to a cluster-wide address."""
        return self._refs.resolve(address)

    def watch(self, watcher: ActorRef[Any, Any], watched: object) -> bool:
        """Watch an actor of another node."""
        if isinstance(watched, Target):
            self._watches.watch(watcher, watched)
        elif isinstance(watched, NameTarget):
            raise ValueError(f"{watched} can't be watched: it is another actor after each hand-over")
        else:
            return False
        return True

    def unwatch(self, watcher: ActorRef[Any, Any], watched: object) -> bool:
        """Undo `watch`."""
        if isinstance(watched, Target):
            self._watches.unwatch(watcher, watched)
        return isinstance(watched, Target)

    # -- life, called by the runtime

    async def open(self, local: LocalSystem) -> None:
        """Join the cluster."""
        if self._membership is not None:
            raise RuntimeError("a Cluster serves one ActorSystem, once; make a new one")
        self._local = local
        self._membership = membership = Membership(self, local, self._new_session, self._join_timeout)
        registrar = Registrar(membership, self._join_timeout)
        self._services = Services(membership, registrar, local, self._join_timeout)
        self._claims = Claims(membership, registrar, local)
        self._singletons = Singletons(membership, registrar, local, self._claims)
        self._watches = Watches(membership, local, self._join_timeout)
        self._sending = Sending(membership, local, self._ref_to, self.ask_timeout, self._inject)
        self._refs = RefTable(membership, local, self._sending)
        try:
            await membership.join()
        except BaseException:
            self._membership = None
            raise

    def _ref_to(self, peer: NodeId, number: int) -> ActorRef[Any, Any]:
        return self._refs.ref(peer, number)

    def _new_session(self) -> Session:
        assert self._membership is not None  # noqa: S101 - it calls this
        session = Session(
            self, self._local, self._make_transport(), self._local.system.system_id, self._membership.ended
        )
        session.prepare(WireValues(self._codec, self._refs, self._max_message), self._extract)
        return session

    async def leave(self) -> None:
        """Withdraw services, names and singletons."""
        self._end()
        if self._membership is None:
            return
        self._membership.leaving = True
        async with anyio.create_task_group() as group:
            group.start_soon(self._singletons.resign_all)
            if self._session is not None and self._session.joined:
                group.start_soon(self._services.withdraw_all)
                group.start_soon(self._claims.release_all)

    async def close(self) -> None:
        """End the membership, after the actors have stopped."""
        self._end()
        if self._membership is not None:
            await self._membership.close()
            self._local.background.close()

    def panel(self) -> dict[str, Any]:
        """Return a summary for operators, as plain data."""
        return self._session.panel() if self._session is not None else {}

    # -- called by the membership

    def lease_lost(self, session: Session) -> None:
        """Stop the singletons, and notify the watchers: this node can see no other node."""
        self._singletons.let_go(session.transport.lease_seconds / 12)  # half of the margin
        for peer in self._watches.peers():
            self._watches.peer_down(peer)
        self.services_changed(self._services.names())

    async def singletons_stopped(self) -> None:
        """Wait until no singleton runs on this node."""
        await self._singletons.stopped()

    async def settle(self) -> None:
        """Make the registry show what this node has: after a join, and after requests without an answer."""
        session = self._session
        if session is None or not session.joined or self._settling:
            return
        self._settling = True
        try:
            with suppress(ClusterUnavailable):  # the registry is away: tried again in ten seconds
                await self._services.settle(session)
                await self._claims.settle(session, self._singletons.busy())
        finally:
            self._settling = False

    # -- called by a session

    def let_go(self, session: Session, reason: str) -> None:
        """Pass on that the lease is lost."""
        if self._membership is not None:
            self._membership.let_go(session, reason)

    def tidy(self) -> None:
        """Compare the registry with what this node has, every ten seconds."""
        self._in_background(self.settle, "compares its services and names")

    def member_up(self, peer: NodeId) -> None:
        """Record that a node is up."""
        if self._membership is not None:
            self._membership.record_up(peer)

    def member_down(self, peer: NodeId, reason: str) -> None:
        """Notify the watchers of the node's actors, and record that it is down."""
        self._refs.peer_down(peer)
        self._watches.peer_down(peer)
        if self._membership is not None:
            self._membership.record_down(peer, reason)

    def services_changed(self, names: Iterable[str]) -> None:
        """Wake the iterators and subscribers of these services."""
        for name in names:
            self._changed(name)
            if any(service == name for service, _ in self._couriers) and not self._ended:
                self._in_background(partial(self._inform, name), f"sends the listing of {name!r}")

    def name_changed(self, name: str) -> None:
        """Wake the callers that wait for a holder of the name."""
        self._sending.name_changed(name)
        self._singletons.name_changed(name)

    def target_ended(self, link: Link, number: int, reason: str) -> None:
        """Take note of the end of a remote actor."""
        self._refs.ended(link.peer, number, reason)
        if self._session is not None:
            self._session.fail_asks_to(link.peer, number)
        link.out.drop_target(number)
        self._watches.terminated(link.peer, number, reason)

    def deliver_broadcast(self, key: str, message: object) -> None:
        """Deliver a broadcast to the actors of this node."""
        deliver_to(self._local, self._services.refs(unescape(key)), message)

    def watched_numbers(self, peer: NodeId) -> list[int]:
        """Return the actors of a node that are watched here."""
        return self._watches.numbers(peer)

    # -- helpers

    def _in_background(self, make: Callable[[], Any], what: str) -> None:
        self._local.background.spawn(make, f"papyra cluster {what}")

    def _system_of_couriers(self) -> ActorSystem:
        return self._local.system


def _name(name: str | ServiceKey[Any, Any]) -> str:
    return name.name if isinstance(name, ServiceKey) else name
