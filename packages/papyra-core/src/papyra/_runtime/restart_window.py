"""The window in which a policy counts restarts."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra.supervision import GroupPolicy, SupervisionPolicy

__all__ = ["RestartWindow"]


class RestartWindow(deque[float]):
    """The times of the restarts in the window of a policy.

    ``delay`` is the backoff of the last one, in seconds.
    """

    __slots__ = ("delay",)

    def __init__(self) -> None:
        super().__init__()
        self.delay = 0.0

    def admits(self, policy: SupervisionPolicy | GroupPolicy, now: float) -> bool:
        """Count a restart, or return False if the policy allows no more."""
        while self and self[0] <= now - policy.within_seconds:
            self.popleft()
        if len(self) >= policy.max_restarts:
            return False
        self.append(now)
        return True
