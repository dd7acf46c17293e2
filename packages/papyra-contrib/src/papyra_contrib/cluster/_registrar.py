"""Writes to the registry for this node: services and claims, repeated until the outcome is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import anyio

from papyra_contrib.cluster._errors import ActorNameTaken, ClusterUnavailable, Conflict, TransportError
from papyra_contrib.cluster._registry import members
from papyra_contrib.cluster._registry.keys import name_key, node_key, service_key
from papyra_contrib.cluster._registry.members import Fence
from papyra_contrib.cluster._transport import Ended, Entry, NodeId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra_contrib.cluster._registry.members import Claim
    from papyra_contrib.cluster._session import Session

    class Sessions(Protocol):
        """Gives the session of this node once it is a member."""

        async def session_ready(self, seconds: float) -> Session: ...


__all__ = ["Claimed", "Registrar"]

T = TypeVar("T")

REPEAT_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim of this node: ``value`` and ``revision`` are what the registry has."""

    holder: NodeId
    fence: Fence
    value: bytes
    revision: int

    def matches(self, entry: Entry) -> bool:
        """Whether an entry is this claim, as it was first put or as it was completed.

        An equal value is not enough: the same actor may have claimed the name anew meanwhile.
        """
        claim = members.read_claim(entry.value, entry.revision)
        return claim is not None and (claim.holder, claim.revision) == (self.holder, self.fence.revision)


class Registrar:
    """Puts and ends keys of this node. Every call ends within ``seconds`` or raises `ClusterUnavailable`."""

    def __init__(self, sessions: Sessions, seconds: float) -> None:
        self._sessions = sessions
        self._seconds = seconds

    async def put_service(self, name: str, actor_id: int) -> None:
        """Register an actor of this node under a service key."""

        async def attempt(session: Session) -> bool:
            key = service_key(name, session.me.node, actor_id)
            await self._put_own(session, key, members.service_value(session.me))
            return True

        await self._repeat(f"register the service {name!r}", attempt)

    async def end_key(self, key: str, only: Callable[[Entry], bool] | None = None) -> None:
        """End a key of this node. With ``only``, end it if ``only(entry)`` is true for what is stored."""

        async def attempt(session: Session) -> bool:
            stored = await self._refresh(session, key)
            if stored is not None and (only is None or only(stored)):
                await session.transport.end(key, expect=stored.revision)
                session.on_change(Ended(key, "left", stored.revision))
            return True

        await self._repeat(f"end {key!r}", attempt)

    async def claim(self, name: str, actor_id: int) -> Claimed:
        """Claim a name; `ActorNameTaken` names the holder."""
        key = name_key(name)

        async def attempt(session: Session) -> Claimed | None:
            value = members.claim_value(session.me, actor_id)
            cached = session.replica.entries.get(key)
            if cached is None or cached.value != value:
                if await self._living_holder(session, cached) is not None:
                    await self._refresh(session, key)  # the cached entry may be a beat old
                    cached = session.replica.entries.get(key)
                holder = await self._living_holder(session, cached)
                if holder is not None and cached is not None and cached.value != value:
                    raise ActorNameTaken(name, f"{holder.holder}:{holder.actor_id}")
            # Also over this node's own value: a request to end its revision may be under way.
            if not await self._put(session, key, value, cached.revision if cached is not None else 0):
                return None
            revision = session.replica.revision(key)
            return Claimed(session.me, Fence(session.transport.epoch, revision), value, revision)

        return await self._repeat(f"claim the name {name!r}", attempt)

    async def complete_claim(self, name: str, claimed: Claimed, actor_id: int) -> Claimed:
        """Say which actor a claim is for, now that it was spawned; `ActorNameTaken` if the claim is lost."""
        key = name_key(name)

        async def attempt(session: Session) -> Claimed | None:
            value = members.claim_value(claimed.holder, actor_id, claimed.fence.revision)
            cached = session.replica.entries.get(key)
            if session.me != claimed.holder or cached is None or cached.value not in (value, claimed.value):
                raise ActorNameTaken(name, "another node")
            if cached.value != value and not await self._put(session, key, value, cached.revision):
                return None
            return Claimed(claimed.holder, claimed.fence, value, session.replica.revision(key))

        return await self._repeat(f"complete the claim of {name!r}", attempt)

    async def _put(self, session: Session, key: str, value: bytes, expect: int) -> bool:
        """Compare and set.

        False if another node was faster or the outcome is unknown; the present value is known then.
        """
        try:
            revision = await session.transport.put(key, value, expect=expect)
        except (Conflict, TransportError):
            await self._refresh(session, key)
            return False
        session.on_change(Entry(key, value, revision))
        return session.replica.revision(key) == revision

    async def _put_own(self, session: Session, key: str, value: bytes) -> None:
        """Set a key that only this node writes, whatever its value is."""
        cached = session.replica.entries.get(key)
        if cached is not None and cached.value == value:
            return
        expect = cached.revision if cached is not None else 0
        try:
            revision = await session.transport.put(key, value, expect=expect)
        except Conflict:
            stored = await session.transport.get(key)
            expect = stored.revision if stored is not None else 0
            revision = await session.transport.put(key, value, expect=expect)
        session.on_change(Entry(key, value, revision))

    async def _living_holder(self, session: Session, cached: Entry | None) -> Claim | None:
        """Return the claim in an entry if its node is up; one that is not known here is asked for."""
        claim = members.read_claim(cached.value, cached.revision) if cached is not None else None
        if claim is None or claim.holder in session.replica.ended:
            return None
        if session.replica.is_member(claim.holder):
            return claim
        stored = await session.transport.get(node_key(claim.holder.node))
        alive = stored is not None and members.read_incarnation(stored.value) == claim.holder.incarnation
        return claim if alive else None

    async def _refresh(self, session: Session, key: str) -> Entry | None:
        cached = session.replica.entries.get(key)
        stored = await session.transport.get(key)
        if stored is not None:
            session.on_change(stored)
        elif cached is not None and session.replica.revision(key) == cached.revision:
            session.on_change(Ended(key, "left"))
        return stored

    async def _repeat(self, action: str, attempt: Callable[[Session], Awaitable[T | None]]) -> T:
        """Attempt until there is a result; an unknown outcome is tried again, with what is known then."""
        deadline = anyio.current_time() + self._seconds
        while anyio.current_time() < deadline:
            session = await self._sessions.session_ready(deadline - anyio.current_time())
            try:
                result = await attempt(session)
            except (Conflict, TransportError):
                result = None
            if result is not None:
                return result
            await anyio.sleep(REPEAT_SECONDS)
        raise ClusterUnavailable(
            f"can't {action}: the registry did not answer within {self._seconds} s; find out whether its server "
            "runs, and try again"
        )
