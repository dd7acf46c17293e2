"""Messages of incarnations that the registry has not shown yet: they may overtake it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from papyra.cluster import Background
    from papyra_contrib.cluster._transport import NodeId

__all__ = ["EarlyFrames"]

KEEP_SECONDS: Final = 1.0
MAX_MESSAGES: Final = 64
MAX_PEERS: Final = 256
MAX_BYTES: Final = 16 * 1024 * 1024


class EarlyFrames:
    """Keeps messages for a second. Others are dropped and count as ``late``."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._kept: dict[NodeId, list[bytes]] = {}
        self._bytes = 0
        self.late = 0

    def keep(self, peer: NodeId, frame: bytes) -> None:
        """Keep a message, if there is room."""
        if peer not in self._kept:
            if len(self._kept) >= MAX_PEERS:
                self.late += 1
                return
            self._kept[peer] = []
            self._background.after(KEEP_SECONDS, lambda: self._drop(peer))
        kept = self._kept[peer]
        if len(kept) < MAX_MESSAGES and self._bytes + len(frame) <= MAX_BYTES:
            kept.append(frame)
            self._bytes += len(frame)
        else:
            self.late += 1

    def take(self, peer: NodeId) -> list[bytes]:
        """Return the messages of a node, which is known now."""
        kept = self._kept.pop(peer, [])
        self._bytes -= sum(map(len, kept))
        return kept

    def _drop(self, peer: NodeId) -> None:
        self.late += len(self.take(peer))
