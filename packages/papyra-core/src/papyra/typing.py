"""Types for code that says what its actors receive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Self, TypeVarTuple

    # For its default: a bare `ActorRef` means any messages and replies, also under mypy's strict mode.
    from typing_extensions import TypeVar

    from papyra.context import ActorContext
    from papyra.ref import ActorRef

    M = TypeVar("M", contravariant=True, default=Any)
    R = TypeVar("R", covariant=True, default=Any)
    Ts = TypeVarTuple("Ts")  # the arguments of a factory
    RefT = TypeVar("RefT", contravariant=True)
else:
    from typing import TypeVar

    M = TypeVar("M", contravariant=True)
    R = TypeVar("R", covariant=True)
    RefT = TypeVar("RefT", contravariant=True)

__all__ = ["Askable", "AskableBy", "Receives", "ReceivesAny"]


class Receives(Protocol[M, R]):
    """An actor that receives messages ``M`` and replies ``R``.

    What a factory for `ActorSystem.spawn` returns.
    """

    @property
    def context(self) -> ActorContext:
        """The actor's context."""
        ...

    def receive(self, message: M, /) -> Awaitable[R]:
        """Handle one message."""
        ...


ReceivesAny: TypeAlias = "Receives[Any, Any]"
"""An actor of which nothing is said."""


class Askable(Protocol[R]):
    """A message that declares its own reply.

    After ``class Get(Askable[int])``, ``await ref.ask(Get())`` is an ``int`` for type checkers, whatever else
    the actor replies to other messages. At run time it changes nothing.
    """

    __slots__ = ()

    def _papyra_reply(self, ref: ActorRef[Self, Any]) -> R:
        """Tell type checkers what the reply is, and which actors take the message. Never called."""
        return cast("R", ref)  # not a bare `...`: a class with such a method would count as abstract


class AskableBy(Protocol[RefT, R]):
    """A message that may be asked through a reference ``RefT`` and is replied with ``R``; see `Askable`."""

    def _papyra_reply(self, ref: RefT, /) -> R:
        """See `Askable`."""
        ...
