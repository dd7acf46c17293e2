"""The cluster as a program sees it, and as the runtime calls it."""

from __future__ import annotations

import logging
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from papyra import ActorRef, AskTimeout
from papyra.address import ActorAddress
from papyra.events import NodeDown, NodeUp
from papyra_contrib.cluster import _frames as wire
from papyra_contrib.cluster._asks import PendingAsk
from papyra_contrib.cluster._claims import Claims
from papyra_contrib.cluster._errors import (
    ActorStopped,
    ClusterUnavailable,
    NodeGone,
    NodeUnreachable,
)
from papyra_contrib.cluster._keys import escape, service_key, unescape
from papyra_contrib.cluster._open import open_codec, open_transport
from papyra_contrib.cluster._port import NodeId
from papyra_contrib.cluster._receiver import deliver_to
from papyra_contrib.cluster._refs import LateRef, RemoteRef, Target
from papyra_contrib.cluster._registrar import Registrar
from papyra_contrib.cluster._replica import EndedIncarnations
from papyra_contrib.cluster._session import Session
from papyra_contrib.cluster._singleton import Candidate
from papyra_contrib.cluster._watches import Watches
from papyra_contrib.cluster._wire_values import WireValues
from papyra_contrib.receptionist import Receptionist, ServiceKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from papyra import ActorSystem, Receives
    from papyra.cluster import LocalSystem
    from papyra.supervision import SupervisionPolicy
    from papyra_contrib.cluster._link import Link
    from papyra_contrib.cluster._members import Fence, Member
    from papyra_contrib.cluster._port import Transport
    from papyra_contrib.receptionist._key import M, R

__all__ = ["Cluster"]

_logger = logging.getLogger("papyra")

MIN_LEASE_SECONDS: Final = 2
MAX_LEASE_SECONDS: Final = 120
FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 2.0


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
        for what, value in (("ask_timeout", ask_timeout), ("join_timeout", join_timeout), ("stall", stall)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{what} must be a number of seconds above 0, not {value!r}")
        if type(max_message) is not int or max_message < 1:
            raise ValueError(f"max_message must be at least 1 byte, not {max_message!r}")
        self._make_transport: Callable[[], Transport] = open_transport(url, lease=lease, stall=stall)
        self.ask_timeout = ask_timeout
        self._join_timeout = join_timeout
        self._max_message = max_message
        self._codec = open_codec(codec)
        self._inject = trace[0] if trace is not None else None
        self._extract = trace[1] if trace is not None else None
        self._ended_incarnations = EndedIncarnations()
        self._targets: weakref.WeakValueDictionary[tuple[NodeId, int], Target] = weakref.WeakValueDictionary()
        self._runtimes: weakref.WeakValueDictionary[NodeId, Any] = weakref.WeakValueDictionary()
        self._registered: dict[tuple[str, int], ActorRef[Any, Any]] = {}
        self._candidates: dict[str, Candidate] = {}
        self._claim_reasons: dict[str, str] = {}
        self._session: Session | None = None
        self._former: str | None = None
        self._ready: anyio.Event | None = None
        self._held_events: list[tuple[Any, dict[str, Any]]] | None = []
        self.leaving = False
        self.registrar = Registrar(self, join_timeout)
        self.local: LocalSystem
        self._watches: Watches
        self._claims: Claims

    # -- members

    @property
    def me(self) -> Member:
        """The member that this node is.

        `ClusterUnavailable` while it is none, as between a lost lease and the next join.
        """
        session = self._now("say who this node is")
        member = session.replica.members.get(session.me.node)
        if member is None:
            raise ClusterUnavailable("this node is not a member of the cluster now; it joins again by itself")
        return member

    def members(self) -> tuple[Member, ...]:
        """Return all nodes that are up, this one among them, the oldest first."""
        members = self._session.replica.members.values() if self._session is not None else ()
        return tuple(sorted(members, key=lambda member: (member.since, member.node)))

    # -- services: the receptionist

    async def register(self, key: ServiceKey[M, R], ref: ActorRef[M, R]) -> None:
        """Offer the service ``key`` by the local actor ``ref``, on every node.

        Gone with the actor and the node.
        """
        local = self._local_ref(ref)
        number = local.address.actor_id
        entry = (key.name, number)
        if entry in self._registered:
            return
        if not self.local.on_end(local, entry, lambda _: self._service_ended(entry)):
            raise ActorStopped(ref)
        self._registered[entry] = local
        self._now("register a service").exports.add(local)
        try:
            await self.registrar.put_service(key.name, number)
        except BaseException:
            if self._registered.pop(entry, None) is not None:
                self.local.off_end(local, entry)
            raise
        if entry not in self._registered:  # it ended, or was withdrawn, meanwhile
            await self._end_service(entry)

    async def withdraw(self, key: ServiceKey[M, R], ref: ActorRef[M, R]) -> None:
        """Offer ``key`` by ``ref`` no more. The actor lives on."""
        entry = (key.name, self._local_ref(ref).address.actor_id)
        if self._registered.pop(entry, None) is not None:
            self.local.off_end(ref, entry)
            await self._end_service(entry)

    def find(self, key: ServiceKey[M, R]) -> tuple[ActorRef[M, R], ...]:
        """Return the actors under ``key`` that this node knows, at most a beat old."""
        session = self._session
        if session is None:
            return ()
        found = [self._ref(service.holder, service.actor_id) for service in session.replica.find(key.name)]
        return tuple(ref for ref in found if ref.is_alive())

    async def broadcast(self, key: ServiceKey[M, R], message: M) -> int:
        """Tell ``message`` to all actors under ``key``, and return how many are known here.

        One publish for all nodes: at most once, without backpressure; a full mailbox makes a dead letter
        there.
        """
        session = self._now("broadcast")
        type_name, body = session.values.dump(message)
        known = len(self.find(key))
        if not session.transport.has_room():
            await session.transport.room()
        await anyio.lowlevel.checkpoint()
        session.publish(escape(key.name), type_name, body)
        self.deliver_broadcast(escape(key.name), session.values.load(type_name, body))
        return known

    def _service_ended(self, entry: tuple[str, int]) -> None:
        if self._registered.pop(entry, None) is not None and not self.leaving:
            self._in_background(lambda: self._end_service(entry), f"withdraws {entry[0]!r}")

    async def _end_service(self, entry: tuple[str, int]) -> None:
        session = await self.session_ready(self._join_timeout)
        await self.registrar.end_key(service_key(entry[0], session.me.node, entry[1]))

    # -- names

    async def claim(self, name: str | ServiceKey[M, R], ref: ActorRef[M, R]) -> Fence:
        """Give the local actor ``ref`` a name that nobody else in the cluster has, and return its fence.

        `ActorNameTaken` names the holder. The name is gone with the actor and the node. If the node was cut
        off, and somebody else has the name when it is back, the actor gets a `NameLost`.
        """
        return await self._claims.claim(_name(name), self._local_ref(ref))

    async def release(self, name: str | ServiceKey[Any, Any]) -> None:
        """Give a name of this node up. Harmless if this node does not have it."""
        await self._claims.release(_name(name))

    def lookup(self, name: str | ServiceKey[M, R]) -> ActorRef[M, R] | None:
        """Return the actor that has a name, as this node knows it; a key only says its types."""
        return self.holder_now(_name(name))

    # -- singletons

    async def singleton(
        self,
        name: str,
        factory: Callable[[Fence], Receives[M, R]],
        *,
        policy: SupervisionPolicy | None = None,
        mailbox_capacity: int = 1024,
    ) -> ActorRef[M, R]:
        """Be a candidate: exactly one of all candidates runs ``factory(fence)``.

        Returns a reference to whichever runs when a message is sent. Unique while leases hold; what the actor
        does outside must check its fence.
        """
        self._now("run a singleton")
        if name in self._candidates:
            raise ValueError(f"this node is a candidate for {name!r} already; resign first")
        candidate = self._candidates[name] = Candidate(self, name, factory, policy, mailbox_capacity)
        self._in_background(candidate.run, f"singleton {name!r}")
        await anyio.lowlevel.checkpoint()
        return self._late(name)

    async def resign(self, name: str) -> None:
        """Be no candidate any more; an actor that runs here stops first. Harmless if this node is none."""
        candidate = self._candidates.pop(name, None)
        if candidate is not None:
            await candidate.resign()

    def role(self, key: ServiceKey[M, R]) -> ActorRef[M, R]:
        """Return a reference to whoever holds the key's name when a message is sent.

        For nodes that are not candidates.
        """
        return self._late(key.name)

    # -- references

    def address(self, ref: ActorRef[Any, Any]) -> ActorAddress:
        """Return the cluster-wide address of an actor, and let other nodes reach it."""
        if isinstance(ref, RemoteRef):
            return ref.address  # pyright: ignore[reportUnknownVariableType]  # of any messages
        number = self._now("make an address").exports.add(self._local_ref(ref))
        return ActorAddress(str(self._now("make an address").me), number)

    def dump(self, ref: ActorRef[Any, Any]) -> str:
        """Write a reference for the wire; for codecs."""
        return f"~{escape(ref.name)}" if isinstance(ref, LateRef) else str(self.address(ref))

    def load(self, text: str) -> ActorRef[Any, Any]:
        """Read a reference of the wire; for codecs. `ValueError` if it is none."""
        if text.startswith("~"):
            return self._late(unescape(text[1:]))
        found = self.resolve(ActorAddress.parse(text))
        if found is None:
            raise ValueError(f"{text[:200]!r} is not an address of a cluster")
        return found

    def resolve(self, address: ActorAddress) -> ActorRef[Any, Any] | None:
        """Return the reference to a cluster-wide address; for the runtime."""
        node, at, incarnation = address.system.partition("@")
        if not at or not node or not incarnation:
            return None
        return self._ref(NodeId(node, incarnation), address.actor_id)

    def _ref(self, peer: NodeId, number: int) -> ActorRef[Any, Any]:
        session = self._session
        mine = session is not None and session.me == peer
        local = self.local.find(number) if mine else None
        if local is not None:
            return local
        target = self._targets.get((peer, number))
        if target is None:
            runtime = self._runtimes.get(peer)
            if runtime is None:
                runtime = self._runtimes[peer] = self.local.handle(str(peer))
            target = self._targets[peer, number] = Target(runtime, peer, number, self)
            if mine or peer in self._ended_incarnations:
                target.ended = "unknown" if mine else "node_down"
        return RemoteRef(target)

    def _late(self, name: str) -> LateRef[Any, Any]:
        return LateRef(self.local.handle("late"), name, self)

    def _local_ref(self, ref: ActorRef[M, R]) -> ActorRef[M, R]:
        if not isinstance(ref, ActorRef) or not self.local.owns(ref):
            raise ValueError(
                f"{ref!r} is not an actor of this node; only its own node can register or name it"
            )
        return ref

    # -- sending, for references

    async def tell(self, target: Target, message: object) -> None:
        """Send a tell; see `RemoteRef.tell`."""
        session = self._session_for(target)
        type_name, body = session.values.dump(message)
        link = await session.link_to(target)
        await session.before_send(link, target)
        self._check(target)
        link.out.numbered(wire.TELL, target.id, body, type_name, self._traceparent())

    async def ask(self, target: Target, message: object, timeout: float | None) -> Any:
        """Send an ask and return or raise the answer; see `RemoteRef.ask`."""
        session = self._session_for(target)
        type_name, body = session.values.dump(message)
        seconds = self.ask_timeout if timeout is None else timeout
        background = self.local.background
        pending = PendingAsk(target, background.waiter())
        corr = session.asks.add(pending)
        began = background.time()
        timer = background.after(seconds, lambda: pending.answer(None, AskTimeout(target, seconds)))
        try:
            link = session.ready_link(target)
            if link is None:
                with anyio.move_on_after(max(0.0, seconds - (background.time() - began))) as scope:
                    link = await session.link_to(target)
                    await session.before_send(link, target)
                if link is None or scope.cancelled_caught:
                    raise AskTimeout(target, seconds)
            self._check(target)
            pending.number = link.out.numbered(
                wire.ASK, target.id, body, type_name, self._traceparent(), corr
            )
            await pending.waiter
        finally:
            timer.cancel()
            session.asks.forget(corr)
        if pending.error is not None:
            try:
                raise pending.error
            finally:
                del pending  # the traceback refers to this frame: leave no cycle behind
        return pending.value

    def _session_for(self, target: Target) -> Session:
        self._check(target)
        session = self._session
        if session is None or not session.joined:
            raise NodeUnreachable(
                f"{target} can't be reached: this node is not a member of the cluster now; it joins again by itself"
            )
        return session

    def _check(self, target: Target) -> None:
        if target.peer in self._ended_incarnations:
            raise NodeGone(target)
        if target.ended is not None:
            raise ActorStopped(target)

    def _traceparent(self) -> str:
        return (self._inject() or "-") if self._inject is not None else "-"

    async def holder(self, name: str) -> ActorRef[Any, Any]:
        """Return the holder of a name; waits two leases for one."""
        session = self._session
        seconds = 2.0 * (session.transport.lease_seconds if session is not None else 3)
        deadline = anyio.current_time() + seconds
        while True:
            found = self.holder_now(name)
            if found is not None and found.is_alive():
                return found
            left = deadline - anyio.current_time()
            if left <= 0:
                raise NodeUnreachable(f"nobody had the name {name!r} for {seconds:g} s; try again later")
            with anyio.move_on_after(left):
                await self._name_event(name).wait()

    def holder_now(self, name: str) -> ActorRef[Any, Any] | None:
        """Return the holder of a name that is known now."""
        claim = self._session.replica.claim(name) if self._session is not None else None
        return self._ref(claim.holder, claim.actor_id) if claim is not None and claim.actor_id else None

    def _name_event(self, name: str) -> anyio.Event:
        return self._events.setdefault(f"name {name}", anyio.Event())

    # -- watching, for the runtime

    def watch(self, watcher: ActorRef[Any, Any], watched: object) -> bool:
        """Watch an actor of another node."""
        if isinstance(watched, Target):
            self._watches.watch(watcher, watched)
        elif isinstance(getattr(watched, "sender", None), Cluster):
            raise ValueError(f"{watched} can't be watched: it is another actor after each hand-over")
        else:
            return False
        return True

    def unwatch(self, watcher: ActorRef[Any, Any], watched: object) -> bool:
        """Undo `watch`."""
        if isinstance(watched, Target):
            self._watches.unwatch(watcher, watched)
        return isinstance(watched, Target)

    # -- life, for the runtime

    async def open(self, local: LocalSystem) -> None:
        """Join the cluster."""
        if self._session is not None or self.leaving:
            raise RuntimeError("a Cluster serves one ActorSystem, once; make a new one")
        self.local = local
        self._claims = Claims(self, local)
        self._watches = Watches(local, self._ask_for, self._ask_no_more)
        self._held_events = []
        await self._join()

    async def _join(self) -> None:
        session = Session(
            self, self.local, self._make_transport(), self.local.system.system_id, self._ended_incarnations
        )
        session.prepare(WireValues(self._codec, self, self._max_message), self._extract)
        self._session, before = session, self._session
        try:
            await session.join(self._join_timeout, self._former)
        except BaseException:
            session.closed = True
            self._session = before
            raise
        self._former = session.me.incarnation
        held, self._held_events = self._held_events or [], None
        for kind, payload in held:
            self.local.event(kind, payload)
        if self._ready is not None:
            self._ready.set()

    def let_go(self, session: Session, reason: str) -> None:
        """End the membership at once, and join anew in the background."""
        if session is not self._session or session.closed:
            return
        _logger.warning("this node, %s, is not a member any more (%s); it joins anew", session.me, reason)
        was_joined = session.joined
        margin = session.transport.lease_seconds / 6
        for candidate in self._candidates.values():
            candidate.let_go(margin / 2)
        session.end(lambda target: NodeGone(target, "is not known any more: this node lost its lease"))
        self._ended_incarnations.add(session.me, "lost")
        for peer in self._watches.peers():
            self._watches.peer_down(peer)
        self._record(NodeDown, session.me, "lost")
        self._ready = anyio.Event()
        for name in {name for name, _ in self._registered}:
            self._look_again(name)
        if was_joined and not self.leaving:  # else the attempt to join is still under way, and sees it
            self._in_background(lambda: self._rejoin(session), "joins anew")

    async def _rejoin(self, session: Session) -> None:
        with anyio.CancelScope(shield=True):
            await session.transport.aclose()
        backoff = FIRST_BACKOFF_SECONDS
        while not self.leaving:
            self._held_events = []
            try:
                await self._join()
                break
            except Exception as error:  # noqa: BLE001 - whatever the engine raises: logged, and tried again until the system closes
                _logger.warning("joining the cluster anew failed: %s", error)
            await anyio.sleep(backoff)
            backoff = min(MAX_BACKOFF_SECONDS, backoff * 2)
        for name, number in list(self._registered):
            await self._again(partial(self.registrar.put_service, name, number))
        await self._again(self._claims.claim_again)

    async def _again(self, call: Callable[[], Any]) -> None:
        session = self._session
        if session is None or session.closed:
            return  # lost once more: the next join sees to it
        for ref in self._registered.values():
            session.exports.add(ref)
        try:
            await call()
        except ClusterUnavailable as error:
            _logger.warning("registering anew failed: %s", error)

    async def session_ready(self, seconds: float) -> Session:
        """Return the session of a member; `ClusterUnavailable` if this node is none for so long."""
        with anyio.move_on_after(seconds):
            while True:
                session = self._session
                if session is not None and session.joined:
                    return session
                if self.leaving or self._ready is None:
                    break
                await self._ready.wait()
        raise ClusterUnavailable("this node is not a member of the cluster now; it joins again by itself")

    async def leave(self) -> None:
        """Withdraw services, names and singletons."""
        self.leaving = True
        self._end()
        candidates, self._candidates = list(self._candidates.values()), {}
        registered, self._registered = list(self._registered), {}
        async with anyio.create_task_group() as group:
            for candidate in candidates:
                group.start_soon(candidate.resign)
            if self._session is not None and self._session.joined:
                for entry in registered:
                    group.start_soon(self._quietly, partial(self._end_service, entry))
                group.start_soon(self._quietly, self._claims.release_all)

    async def _quietly(self, call: Callable[[], Any]) -> None:
        with suppress(ClusterUnavailable):  # the lease ends, and all that counts with it
            await call()

    async def close(self) -> None:
        """End the membership: the actors have stopped."""
        self.leaving = True
        self._end()
        session = self._session
        if session is not None and not session.closed:
            await session.leave()
            self._record(NodeDown, session.me, "left")
        self.local.background.close()

    # -- what a session tells

    def member_up(self, peer: NodeId) -> None:
        """Record it."""
        self._record(NodeUp, peer, None)

    def member_down(self, peer: NodeId, reason: str) -> None:
        """Tell the watchers of its actors, and record it."""
        for (node, _), target in list(self._targets.items()):
            if node == peer and target.ended is None:
                target.ended = "node_down"
        self._watches.peer_down(peer)
        self._record(NodeDown, peer, reason)

    def services_changed(self, names: set[str]) -> None:
        """Have iterators and subscribers look again."""
        for name in names:
            self._look_again(name)

    def name_changed(self, name: str) -> None:
        """Have those that wait for a holder look again."""
        event = self._events.pop(f"name {name}", None)
        if event is not None:
            event.set()
        candidate = self._candidates.get(name)
        if candidate is not None:
            candidate.note()

    def claim_end_reason(self, name: str) -> str:
        """Say how the claim of a name ended: ``expired`` if its holder may run for a moment longer."""
        session = self._session
        holder = self._claims.last_holder(session, name) if session is not None else None
        return "left" if holder is None else self._ended_incarnations.reason(holder)

    def target_ended(self, link: Link, number: int, reason: str) -> None:
        """Take note of the end of a remote actor."""
        target = self._targets.get((link.peer, number))
        if target is not None and target.ended is None:
            target.ended = reason
        session = self._session
        if session is not None:
            session.asks.fail(
                lambda ask: ask.peer == link.peer and ask.target.id == number and ask.number > 0,
                lambda ask: ActorStopped(ask.target, "stopped before it replied"),
            )
        link.out.drop_target(number)
        self._watches.terminated(link.peer, number, reason)

    def deliver_broadcast(self, key: str, message: object) -> None:
        """Tell a broadcast to the actors of this node."""
        name = unescape(key)
        refs = [ref for (service, _), ref in self._registered.items() if service == name]
        deliver_to(self.local, refs, message)

    def watched_numbers(self, peer: NodeId) -> list[int]:
        """Return the actors of a node that are watched here."""
        return self._watches.numbers(peer)

    # -- small things

    def _ask_for(self, target: Target) -> None:
        if self._session is not None:
            self._session.send_watch(target.peer, wire.WATCH, target.id)
            if not self._session.replica.is_member(target.peer):
                self._in_background(lambda: self._find_watched(target), f"looks for {target}")

    async def _find_watched(self, target: Target) -> None:
        try:
            session = await self.session_ready(self._join_timeout)
            await session.link_to(target)
            session.send_watch(target.peer, wire.WATCH, target.id)
        except NodeGone:
            self._watches.terminated(target.peer, target.id, "node_down")
        except (ClusterUnavailable, NodeUnreachable):
            pass  # the list of watches is sent again once the node is known

    def _ask_no_more(self, target: Target) -> None:
        if self._session is not None:
            self._session.send_watch(target.peer, wire.UNWATCH, target.id)

    def _record(self, kind: Any, peer: NodeId, reason: str | None) -> None:
        payload: dict[str, Any] = {"node": peer.node, "incarnation": peer.incarnation}
        if reason is not None:
            payload["reason"] = reason
        if self._held_events is not None:
            self._held_events.append((kind, payload))
        else:
            self.local.event(kind, payload)

    def _look_again(self, name: str) -> None:
        self._changed(name)
        if any(service == name for service, _ in self._couriers) and not self.leaving:
            self._in_background(lambda: self._inform(name), f"tells who offers {name!r}")

    def _in_background(self, make: Callable[[], Any], what: str) -> None:
        self.local.background.spawn(make, f"papyra cluster {what}")

    def _now(self, action: str) -> Session:
        session = self._session
        if session is None or (self.leaving and session.closed):
            raise ClusterUnavailable(f"can't {action}: this node has not joined the cluster, or has left it")
        return session

    def _system_of_couriers(self) -> ActorSystem:
        return self.local.system

    def panel(self) -> dict[str, Any]:
        """Return what an operator looks at first, as plain data."""
        session = self._session
        return session.panel() if session is not None else {}


def _name(name: str | ServiceKey[Any, Any]) -> str:
    return name.name if isinstance(name, ServiceKey) else name
