"""References to actors of other nodes, by their number or by a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from papyra import ActorRef
from papyra.address import ActorAddress
from papyra.typing import M, R

if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    from papyra._runtime.cell import Cell
    from papyra.proxy import ActorProxy
    from papyra.typing import AskableBy
    from papyra_contrib.cluster._transport import NodeId

    class Sender(Protocol):
        """Sends to targets: the cluster."""

        async def tell(self, target: Target, message: object) -> None: ...
        async def ask(self, target: Target, message: object, timeout: float | None) -> Any: ...
        async def holder(self, name: str) -> ActorRef[Any, Any]: ...
        def holder_now(self, name: str) -> ActorRef[Any, Any] | None: ...


__all__ = ["LateRef", "NameTarget", "RemoteRef", "Target"]

_T = TypeVar("_T")


class Target:
    """One actor of another node. All references to it share this.

    It takes the place of the cell in a local reference.
    """

    __slots__ = ("__weakref__", "ended", "id", "name", "peer", "rt", "sender")

    def __init__(self, rt: object, peer: NodeId, actor_id: int, sender: Sender) -> None:
        self.rt = rt
        self.peer = peer
        self.id = actor_id
        self.name: str | None = None
        self.sender = sender
        self.ended: str | None = None  # the reason, once the end is known

    @property
    def address(self) -> ActorAddress:
        """The cluster-wide address."""
        return ActorAddress(str(self.peer), self.id)

    def __str__(self) -> str:
        return f"{self.peer}:{self.id}"


class ForeignRef(ActorRef[M, R], Generic[M, R]):
    """The methods that need an actor of this process.

    Each raises a `TypeError` that says to send a message instead.
    """

    __slots__ = ()

    def proxy(self) -> ActorProxy:
        """Raise `TypeError`: send a message instead."""
        raise self._elsewhere("no proxy reaches it")

    def tell_nowait(self, message: M) -> None:
        """Raise `TypeError`: it is unknown whether a mailbox on another node has room."""
        raise self._elsewhere("its mailbox can't be inspected")

    def pending(self) -> int:
        """Raise `TypeError`: it is unknown how many messages wait on another node."""
        raise self._elsewhere("its mailbox can't be inspected")

    async def stop(self, *, timeout: float | None = None) -> None:
        """Raise `TypeError`: only the actor's own node can stop it."""
        raise self._elsewhere("only its own node can stop it")

    def _elsewhere(self, what: str) -> TypeError:
        return TypeError(f"{self!r} is on another node, {what}; send it a message instead")


class RemoteRef(ForeignRef[M, R], Generic[M, R]):
    """A reference to an actor of another node.

    Use it like any `ActorRef`, within the limits of a network.
    """

    __slots__ = ()

    def __init__(self, target: Target) -> None:
        super().__init__(cast("Cell", target))

    @property
    def _target(self) -> Target:
        return cast("Target", self._cell)

    @property
    def address(self) -> ActorAddress:
        """The cluster-wide address, as in ``a@9f86d081884c:7``."""
        return self._target.address

    async def tell(self, message: M) -> None:
        """Send ``message``, at most once and in order. Returns when it is in the outbox of this node.

        Waits while 256 messages are under way to the actor. Raises `MessageRejected` if it can't be sent,
        `ActorStopped` once the actor's end is known, `NodeGone` or `NodeUnreachable`. If cancelled while it
        waits, nothing was sent.
        """
        target = self._target
        await target.sender.tell(target, message)

    @overload
    async def ask(self, message: AskableBy[ActorRef[M, R], _T], *, timeout: float | None = None) -> _T: ...
    @overload
    async def ask(self, message: M, *, timeout: float | None = None) -> R: ...
    async def ask(self, message: Any, *, timeout: float | None = None) -> Any:
        """Send ``message`` and return the reply, or raise what the actor raises; it always ends.

        Without ``timeout`` the cluster's ``ask_timeout`` holds. Raises as `tell` does, and `AskTimeout`.
        """
        return await self._target.sender.ask(self._target, message, timeout)

    def is_alive(self) -> bool:
        """Return False once the actor's end is known.

        True means only that no end is known.
        """
        return self._target.ended is None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorRef):
            return NotImplemented
        if not isinstance(other, RemoteRef):
            return False
        mine, theirs = self._target, other._target  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  # of any messages
        return mine.id == theirs.id and mine.peer == theirs.peer

    def __hash__(self) -> int:
        return hash((self._target.peer, self._target.id))

    def __repr__(self) -> str:
        return f"<RemoteRef {self._target}>"


class NameTarget:
    """Takes the place of the cell in a reference by name."""

    __slots__ = ("id", "name", "rt", "sender")

    def __init__(self, rt: object, name: str, sender: Sender) -> None:
        self.rt = rt
        self.id = 0
        self.name = name
        self.sender = sender

    def __str__(self) -> str:
        return f"the holder of {self.name!r}"


class LateRef(ForeignRef[M, R], Generic[M, R]):
    """A reference to the actor that holds a name when a message is sent. It can't be watched."""

    __slots__ = ()

    def __init__(self, rt: object, name: str, sender: Sender) -> None:
        super().__init__(cast("Cell", NameTarget(rt, name, sender)))

    @property
    def _named(self) -> NameTarget:
        return cast("NameTarget", self._cell)

    @property
    def name(self) -> str:
        """The name."""
        return self._named.name

    @property
    def address(self) -> ActorAddress:
        """The address of the present holder; `LookupError` if none is known."""
        holder = self._named.sender.holder_now(self.name)
        if holder is None:
            raise LookupError(f"no holder of the name {self.name!r} is known now")
        return holder.address

    async def tell(self, message: M) -> None:
        """Tell the holder. Wait for one for at most two leases, then raise `NodeUnreachable`."""
        await (await self._named.sender.holder(self.name)).tell(message)

    @overload
    async def ask(self, message: AskableBy[ActorRef[M, R], _T], *, timeout: float | None = None) -> _T: ...
    @overload
    async def ask(self, message: M, *, timeout: float | None = None) -> R: ...
    async def ask(self, message: Any, *, timeout: float | None = None) -> Any:
        """Ask the holder. Wait for one for at most two leases, then raise `NodeUnreachable`."""
        holder = await self._named.sender.holder(self.name)
        return await holder.ask(message, timeout=timeout)

    def is_alive(self) -> bool:
        """Whether a holder is known now."""
        return self._named.sender.holder_now(self.name) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorRef):
            return NotImplemented
        return isinstance(other, LateRef) and other.name == self.name

    def __hash__(self) -> int:
        return hash(("late", self.name))

    def __repr__(self) -> str:
        return f"<LateRef {self.name!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} belongs to a running system and can't be pickled")
