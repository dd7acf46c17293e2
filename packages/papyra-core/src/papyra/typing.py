"""Types for code that says what its actors receive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeVarTuple

    # For its default: a bare `ActorRef` means any messages and replies, also under mypy's strict mode.
    from typing_extensions import TypeVar

    from papyra.context import ActorContext

    M = TypeVar("M", contravariant=True, default=Any)
    R = TypeVar("R", covariant=True, default=Any)
    Ts = TypeVarTuple("Ts")  # the arguments of a factory
else:
    from typing import TypeVar

    M = TypeVar("M", contravariant=True)
    R = TypeVar("R", covariant=True)

__all__ = ["Receives", "ReceivesAny"]


class Receives(Protocol[M, R]):
    """An actor that receives messages ``M`` and replies ``R``: what a factory for `ActorSystem.spawn` returns."""

    @property
    def context(self) -> ActorContext:
        """The actor's context."""
        ...

    def receive(self, message: M, /) -> Awaitable[R]:
        """Handle one message."""
        ...


ReceivesAny: TypeAlias = "Receives[Any, Any]"
"""An actor of which nothing is said."""
