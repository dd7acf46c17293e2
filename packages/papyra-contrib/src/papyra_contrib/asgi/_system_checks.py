"""The checks of Papyra. They read numbers that the system has anyway, and do not touch the store."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra import ActorSystem
    from papyra.statistics import SystemStatistics

__all__ = ["SystemChecks"]

UNHEALTHY_MAILBOX_RATIO = 0.9
FULL_SAMPLES = 3
RESTARTS_A_MINUTE = 60
STUCK_SECONDS = 60.0
MINUTE_SECONDS = 60.0


class _Growth:
    """The growth of a counter in the last minute, or since the first look in it."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def of(self, value: int) -> int:
        now = time.monotonic()
        seen = self._seen
        seen.append((now, value))
        while len(seen) > 1 and seen[1][0] <= now - MINUTE_SECONDS:
            seen.popleft()
        return value - seen[0][1]


class SystemChecks:
    """The checks ``system store mailboxes restarts stuck`` of one system."""

    NAMES = ("system", "store", "mailboxes", "restarts", "stuck")

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._restarted = _Growth()
        self._full: dict[str, int] = {}  # looks in a row at which a mailbox of the type was full
        self._by_name = {
            "system": self._running,
            "store": self._store,
            "mailboxes": self._mailboxes,
            "restarts": self._restarts,
            "stuck": self._stuck,
        }

    def run(self, name: str, statistics: SystemStatistics | None) -> tuple[bool, str]:
        """Return whether a check passes, and a text.

        ``statistics`` is None before the system's start.
        """
        if statistics is None:
            return name != "system", "not started"
        return self._by_name[name](statistics)

    def _running(self, statistics: SystemStatistics) -> tuple[bool, str]:
        return statistics.state == "running", statistics.state

    def _store(self, statistics: SystemStatistics) -> tuple[bool, str]:
        store = str(statistics.facts["store"])
        if share := statistics.facts["dropped_share"]:
            return False, f"{store}: {share:.2%} of the facts were dropped in the last minutes"
        if not statistics.facts["healthy"]:
            return False, f"{store} is not healthy"
        return True, store

    def _mailboxes(self, statistics: SystemStatistics) -> tuple[bool, str]:
        full = [name for name, kind in statistics.kinds.items() if kind.fullest >= UNHEALTHY_MAILBOX_RATIO]
        self._full = {name: self._full.get(name, 0) + 1 for name in full}
        late = [name for name, looks in self._full.items() if looks >= FULL_SAMPLES]
        return (
            not late,
            f"a mailbox of {', '.join(late)} is over {UNHEALTHY_MAILBOX_RATIO:.0%} full" if late else "",
        )

    def _restarts(self, statistics: SystemStatistics) -> tuple[bool, str]:
        grown = self._restarted.of(sum(kind.restarts for kind in statistics.kinds.values()))
        return grown <= RESTARTS_A_MINUTE, f"{grown:,} in the last minute" if grown else ""

    def _stuck(self, _statistics: SystemStatistics) -> tuple[bool, str]:
        busy = self._system.busy(1)
        if not busy or busy[0].seconds <= STUCK_SECONDS:
            return True, ""
        longest = busy[0]
        return False, f"{longest.actor_type} handles a message for {longest.seconds:.0f} s at {longest.where}"
