"""The name of a service, and the listing that a subscriber gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

if TYPE_CHECKING:
    # For its default: a bare `ServiceKey` means any messages and replies.
    from typing_extensions import TypeVar

    from papyra import ActorRef

    M = TypeVar("M", default=Any)
    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    M = TypeVar("M")
    R = TypeVar("R")

__all__ = ["Listing", "M", "R", "ServiceKey"]

MAX_NAME_CHARACTERS = 128


@dataclass(frozen=True)
class ServiceKey(Generic[M, R]):
    """Name a service whose actors take messages ``M`` and reply ``R``.

    Two keys with one name are equal. The type variables are invariant, so that a type checker refuses an
    actor of other types at `Receptionist.register`. The name has 1 to 128 characters.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= MAX_NAME_CHARACTERS:
            raise ValueError(
                f"a ServiceKey needs a name of 1 to {MAX_NAME_CHARACTERS} characters, not {self.name!r}"
            )


@dataclass(frozen=True)
class Listing(Generic[M, R]):
    """Tell a subscriber which actors offer a service now, and what changed since the listing before."""

    key: ServiceKey[M, R]
    refs: tuple[ActorRef[M, R], ...]
    added: tuple[ActorRef[M, R], ...]
    removed: tuple[ActorRef[M, R], ...]
