"""Facts as rows of plain data, a filter for them, and their number over time."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from papyra.events import ActorEvent

__all__ = ["MAX_BARS", "FactFilter", "bars", "fact_rows"]

MAX_BARS = 120

_STEPS_SECONDS = (1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 86_400, 604_800, 2_592_000)


@dataclass(frozen=True, slots=True)
class FactFilter:
    """Selects facts.

    ``actor`` is an address, a name or a class, or a pattern such as ``order-*``.
    """

    type: str | None = None
    actor: str | None = None
    since: float | None = None
    until: float | None = None

    def matches(self, row: dict[str, Any]) -> bool:
        """Return whether a fact has the type, the actor and the time."""
        if self.type is not None and row["type"] != self.type:
            return False
        if self.since is not None and not row["timestamp"] >= self.since:
            return False
        if self.until is not None and not row["timestamp"] <= self.until:
            return False
        return self.actor is None or _is_of(row, self.actor)


def _is_of(row: dict[str, Any], actor: str) -> bool:
    payload = row["payload"]
    name, kind = payload.get("name"), payload.get("type")
    words = [row["address"], *(word for word in (name, kind) if isinstance(word, str))]
    if isinstance(kind, str):
        words.append(kind.rpartition(".")[2])
    if any(wildcard in actor for wildcard in "*?["):
        return any(fnmatchcase(word, actor) for word in words)
    return actor in words


def fact_rows(events: Iterable[ActorEvent]) -> list[dict[str, Any]]:
    """Return lifecycle events as rows."""
    return [
        {
            "type": type(event).__name__,
            "address": f"{event.address['system']}:{event.address['actor_id']}",
            "payload": event.payload,
            "timestamp": event.timestamp,
        }
        for event in events
    ]


def bars(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers of facts and crashes in spans of ``seconds``, the first of which is at ``start``."""
    times = [
        (float(row["timestamp"]), row["type"] == "ActorCrashed")
        for row in rows
        if isinstance(row["timestamp"], int | float) and isfinite(row["timestamp"])
    ]
    if not times:
        return {"start": None, "seconds": None, "facts": [], "crashes": []}
    first, last = min(times)[0], max(times)[0]
    seconds = next((step for step in _STEPS_SECONDS if (last - first) / step < MAX_BARS - 1), None)
    if seconds is None:
        seconds = int((last - first) / (MAX_BARS - 1)) + 1
    start = first // seconds * seconds
    count = int((last - start) // seconds) + 1
    return {"start": start, "seconds": seconds, **_counted(times, start, seconds, count)}


def _counted(
    times: Sequence[tuple[float, bool]], start: float, seconds: float, count: int
) -> dict[str, list[int]]:
    facts, crashes = [0] * count, [0] * count
    for moment, crashed in times:
        index = int((moment - start) // seconds)
        facts[index] += 1
        crashes[index] += crashed
    return {"facts": facts, "crashes": crashes}
