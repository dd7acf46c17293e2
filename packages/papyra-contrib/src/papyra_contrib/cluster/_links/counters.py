"""The counters of each peer; `ActorSystem.control_panel` shows it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Messages, all counted on this node.

    ``lost``: from the peer, and never came. ``duplicate``: came again or late, and were dropped. ``unknown``:
    were under way to the peer when it went. ``rejected``: from the peer, and could not be delivered.
    ``late``: from an incarnation that is not known, or gone.
    """

    lost: int = 0
    unknown: int = 0
    duplicate: int = 0
    rejected: int = 0
    late: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return asdict(self)
