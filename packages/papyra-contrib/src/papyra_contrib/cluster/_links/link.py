"""The link between two nodes, each under one incarnation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra_contrib.cluster._links.counters import Counters
from papyra_contrib.cluster._links.inbound import Inbound
from papyra_contrib.cluster._links.outbound import Outbound

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._transport import NodeId, Transport
    from papyra_contrib.cluster._wire.frames import Frame

__all__ = ["Link"]


class Link:
    """Both halves of the way to one peer."""

    def __init__(
        self,
        peer: NodeId,
        transport: Transport,
        local: LocalSystem,
        soon: Callable[[Link], None],
        credit: Callable[[Link, int, int], None],
        fail: Callable[[Link, Frame, Exception], None],
        halfway: Callable[[Link, int], None],
    ) -> None:
        self.peer = peer
        self.is_compatible = False  # until its wire versions were checked
        self.counters = Counters()
        background = local.background
        self.out = Outbound(
            lambda message, ask: transport.send(peer, message, ask=ask),
            lambda: soon(self),
            background.waiter,
            background.time,
            transport,
            lambda target: halfway(self, target),
        )
        self.inbound = Inbound(
            peer,
            local,
            self.counters,
            lambda target, number: credit(self, target, number),
            lambda frame, error: fail(self, frame, error),
        )

    def panel(self) -> dict[str, Any]:
        """Return the counters, with the messages under way and parked."""
        return {
            "outstanding": self.out.outstanding,
            "parked": self.inbound.parked,
            **self.counters.as_dict(),
        }
