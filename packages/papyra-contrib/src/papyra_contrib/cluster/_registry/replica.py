"""What this node knows of the registry, and which nodes are down.

A claim or service counts only while its incarnation is a member. Ended incarnations never come back, whatever
a registry that lost its newest writes may show.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from papyra_contrib.cluster._registry import members
from papyra_contrib.cluster._registry.keys import name_key, unescape
from papyra_contrib.cluster._transport import Change, Ended, Entry, NodeId, Reset, Synced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from papyra_contrib.cluster._registry.members import Claim, Member

__all__ = ["Listener", "Replica", "Service"]

MAX_ENDED_INCARNATIONS: Final = 10_000


class Listener(Protocol):
    """The object that a replica calls."""

    def member_up(self, peer: NodeId) -> None:
        """A node is up."""
        ...

    def member_down(self, peer: NodeId, reason: str) -> None:
        """A node is down for good under this incarnation."""
        ...

    def services_changed(self, names: Iterable[str]) -> None:
        """The listings of these services may have changed."""
        ...

    def name_changed(self, name: str) -> None:
        """The holder of a name may have changed."""
        ...

    def doubt(self, key: str) -> None:
        """Ask the registry for a key, and apply the answer to the replica."""
        ...

    def synced(self) -> None:
        """The whole registry was read."""
        ...


class Service(NamedTuple):
    """An actor under a service key."""

    holder: NodeId
    actor_id: int
    revision: int


class Replica:
    """Follows the registry. ``ended`` is shared by all incarnations of this node in one process."""

    def __init__(self, listener: Listener, now: Callable[[], float], ended: EndedIncarnations) -> None:
        self._listener = listener
        self._now = now
        self.ended = ended
        self.entries: dict[str, Entry] = {}
        self.members: dict[str, Member] = {}
        self.wire: dict[str, tuple[int, int]] = {}
        self.seen: dict[str, float] = {}
        self._services: dict[str, dict[str, Service]] = {}
        self._snapshot: set[str] | None = None
        self.is_synced = False

    # -- changes

    def apply(self, change: Change) -> None:
        """Apply a change; they come in the order of revisions."""
        match change:
            case Entry():
                if self._snapshot is not None:
                    self._snapshot.add(change.key)
                self._put(change)
            case Ended():
                self._end(change)
            case Reset():
                self._snapshot = set()
            case Synced():
                read, self._snapshot = self._snapshot, None
                self.is_synced = True
                self._listener.synced()
                for key in [key for key in self.entries if read is not None and key not in read]:
                    self._listener.doubt(key)

    def _put(self, entry: Entry) -> None:
        present = self.entries.get(entry.key)
        if present is not None and present.revision >= entry.revision:
            return  # it has come another way already
        kind, _, rest = entry.key.partition(".")
        if kind == "n":
            self._put_member(rest, entry)
        elif kind == "s":
            self._put_service(rest, entry)
        elif kind == "a":
            self.entries[entry.key] = entry
            self._listener.name_changed(unescape(rest))

    def _put_member(self, node: str, entry: Entry) -> None:
        read = members.read_member(node, entry.value)
        if read is None:
            return
        member, versions = read
        peer = NodeId(node, member.incarnation)
        if peer in self.ended:
            return  # the registry has lost its newest writes
        before = self.members.get(node)
        if before is not None and before.incarnation != member.incarnation:
            self._down(NodeId(node, before.incarnation), "expired")
        self.entries[entry.key] = entry
        self.seen[node] = self._now()
        if self.members.get(node) is None:
            self.members[node] = member
            self.wire[node] = versions
            self._listener.member_up(peer)
            self._node_changed(node)

    def _put_service(self, rest: str, entry: Entry) -> None:
        token, node, number = _split_service(rest)
        if not number:
            return
        self.entries[entry.key] = entry
        holder = NodeId(node, members.read_incarnation(entry.value))
        name = unescape(token)
        self._services.setdefault(name, {})[entry.key] = Service(holder, int(number), entry.revision)
        self._listener.services_changed((name,))

    def _end(self, change: Ended) -> None:
        present = self.entries.get(change.key)
        if present is None or (change.revision and present.revision > change.revision):
            return
        del self.entries[change.key]
        kind, _, rest = change.key.partition(".")
        if kind == "n":
            member = self.members.get(rest)
            if member is not None:
                self._down(NodeId(rest, member.incarnation), change.reason)
        elif kind == "s":
            name = unescape(_split_service(rest)[0])
            services = self._services.get(name, {})
            services.pop(change.key, None)
            if not services:
                self._services.pop(name, None)
            self._listener.services_changed((name,))
        elif kind == "a":
            self._listener.name_changed(unescape(rest))

    def _down(self, peer: NodeId, reason: str) -> None:
        self.members.pop(peer.node, None)
        self.seen.pop(peer.node, None)
        self.wire.pop(peer.node, None)
        self.entries.pop(f"n.{peer.node}", None)
        self.ended.add(peer, reason)
        self._listener.member_down(peer, reason)
        self._node_changed(peer.node)

    def _node_changed(self, node: str) -> None:
        names = [
            name
            for name, services in self._services.items()
            if any(service.holder.node == node for service in services.values())
        ]
        if names:
            self._listener.services_changed(names)
        for key, entry in list(self.entries.items()):
            if key.startswith("a."):
                claim = members.read_claim(entry.value, entry.revision)
                if claim is not None and claim.holder.node == node:
                    self._listener.name_changed(unescape(key[2:]))

    # -- queries

    def is_member(self, peer: NodeId) -> bool:
        """Whether this incarnation is up."""
        member = self.members.get(peer.node)
        return member is not None and member.incarnation == peer.incarnation

    def find(self, name: str) -> list[Service]:
        """Return the actors under a service key whose nodes are members, in the order of registration."""
        services = self._services.get(name, {}).values()
        return sorted(
            (service for service in services if self.is_member(service.holder)),
            key=lambda service: service.revision,
        )

    def claim(self, name: str) -> Claim | None:
        """Return the claim of a name, if its node is a member."""
        entry = self.entries.get(name_key(name))
        claim = members.read_claim(entry.value, entry.revision) if entry is not None else None
        return claim if claim is not None and self.is_member(claim.holder) else None

    def services_of(self, holder: NodeId) -> set[tuple[str, int]]:
        """Return key and actor of each service that the registry shows for an incarnation."""
        return {
            (name, service.actor_id)
            for name, services in self._services.items()
            for service in services.values()
            if service.holder == holder
        }

    def claims_of(self, holder: NodeId) -> dict[str, Claim]:
        """Return the claims that the registry shows for an incarnation, by name."""
        claims: dict[str, Claim] = {}
        for key, entry in self.entries.items():
            claim = members.read_claim(entry.value, entry.revision) if key.startswith("a.") else None
            if claim is not None and claim.holder == holder:
                claims[unescape(key[2:])] = claim
        return claims

    def revision(self, key: str) -> int:
        """Return the revision of a key in this replica, 0 without the key."""
        entry = self.entries.get(key)
        return entry.revision if entry is not None else 0

    def overdue(self, seconds: float, skip: str) -> list[str]:
        """Return the nodes, except ``skip``, whose last renewal was seen more than ``seconds`` ago."""
        limit = self._now() - seconds
        return [node for node, seen in self.seen.items() if seen < limit and node != skip]

    def leftovers(self) -> Iterator[Entry]:
        """Yield claims and services of incarnations that have ended."""
        for key, entry in list(self.entries.items()):
            if key.startswith("s."):
                _, node, _ = _split_service(key[2:])
                holder = NodeId(node, members.read_incarnation(entry.value))
            elif key.startswith("a."):
                claim = members.read_claim(entry.value, entry.revision)
                if claim is None:
                    continue
                holder = claim.holder
            else:
                continue
            if holder in self.ended:
                yield entry

    def oldest(self) -> str | None:
        """Return the node that has been a member the longest."""
        return min(self.members, key=lambda node: (self.members[node].since, node), default=None)


class EndedIncarnations:
    """The last 10,000 incarnations that have ended, with the reasons."""

    def __init__(self) -> None:
        self._reasons: OrderedDict[NodeId, str] = OrderedDict()

    def __contains__(self, peer: NodeId) -> bool:
        return peer in self._reasons

    def add(self, peer: NodeId, reason: str) -> None:
        """Remember an end; the first reason counts."""
        self._reasons.setdefault(peer, reason)
        if len(self._reasons) > MAX_ENDED_INCARNATIONS:
            self._reasons.popitem(last=False)

    def reason(self, peer: NodeId) -> str:
        """Return why an incarnation ended; ``expired`` if that is not known."""
        return self._reasons.get(peer, "expired")


def _split_service(rest: str) -> tuple[str, str, str]:
    token, _, place = rest.partition(".")
    node, _, number = place.partition(".")
    return token, node, number if number.isascii() and number.isdecimal() and len(number) < 19 else ""
