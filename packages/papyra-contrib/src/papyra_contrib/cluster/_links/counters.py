"""The counters of each peer, as `ActorSystem.control_panel` shows them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Messages, all counted on this node.

    ``lost``: sent by the peer, but never came. ``duplicate``: came twice or late, and were dropped.
    ``unknown``: were under way to the peer when it went down. ``rejected``: came from the peer, but could
    not be delivered. ``late``: came from an incarnation that is unknown or has ended.
    """

    lost: int = 0
    unknown: int = 0
    duplicate: int = 0
    rejected: int = 0
    late: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return asdict(self)
