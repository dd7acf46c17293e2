"""The window in which a policy counts restarts."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from papyra._runtime.containment.log import LOG, log_error
from papyra.supervision import Backoff

if TYPE_CHECKING:
    import random

    from papyra.supervision import GroupPolicy, SupervisionPolicy

__all__ = ["RestartWindow", "delay_before"]


def delay_before(restart: int, backoff: Backoff | None, rng: random.Random) -> float:
    """Return the seconds to wait before the ``restart``-th restart.

    A subclass of `Backoff` is user code. If it raises, or returns no number of seconds, the wait is the one
    of `Backoff` itself.
    """
    if backoff is None:
        return 0.0
    try:
        delay = float(backoff.delay(restart, rng))
        if 0 <= delay < math.inf:
            return delay
        raise ValueError(f"it returned {delay!r}")
    except KeyboardInterrupt as interrupt:
        LOG.contain(interrupt)
    except BaseException as error:  # noqa: BLE001 - user code, which must not end the system
        log_error("delay of a Backoff raised", error=error)
    return Backoff.delay(backoff, restart, rng)


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
