"""A handle to the actors that are registered for a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra.typing import M, R
from papyra_contrib.receptionist import Receptionist
from papyra_contrib.routing._router import NoRoutee, Router
from papyra_contrib.routing._strategies import RoundRobin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra import ActorRef, ActorSystem
    from papyra_contrib.receptionist import ServiceKey
    from papyra_contrib.routing._strategies import Broadcast, ScatterGatherFirst, Strategy

__all__ = ["Group"]


class Group(Router[M, R]):
    """Routes to whichever actors the receptionist knows under ``key``; it neither spawns nor stops any.

    A message raises `NoRoutee` while there are none.
    """

    def __init__(
        self,
        system: ActorSystem,
        key: ServiceKey[M, R],
        strategy: Strategy | Broadcast | ScatterGatherFirst | None = None,
    ) -> None:
        super().__init__(RoundRobin() if strategy is None else strategy)
        self._receptionist = Receptionist.of(system)
        self._key = key

    def _slots(self) -> Sequence[ActorRef[M, R]]:
        return self._receptionist.find(self._key)

    def _nobody(self) -> ActorRef[M, R]:
        raise NoRoutee(
            f"no living actor is registered for {self._key!r}. Register one with Receptionist.register()."
        )
