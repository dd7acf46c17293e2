"""A snapshot of a running system, and the rates since the last one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from papyra_cli._output.formats import figure

if TYPE_CHECKING:
    from papyra_cli._live.client import LiveSystem

__all__ = ["Snapshot", "take"]


@dataclass(slots=True)
class Snapshot:
    """The result of `take`. ``rates`` has messages per second by type, and is empty in the first snapshot."""

    greeting: dict[str, Any]
    overview: dict[str, Any]
    actors: list[dict[str, Any]]
    taken: float
    rates: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def statistics(self) -> dict[str, Any]:
        """The fields of `papyra.statistics.SystemStatistics`."""
        statistics: dict[str, Any] = self.overview["statistics"]
        return statistics

    @property
    def kinds(self) -> list[dict[str, Any]]:
        """The types, the busiest first."""
        kinds: list[dict[str, Any]] = list(self.statistics["kinds"].values())
        return sorted(kinds, key=lambda kind: (-self.rates.get(kind["actor_type"], 0.0), -kind["processed"]))

    @property
    def rate(self) -> float:
        """Messages a second, all types together."""
        return sum(self.rates.values())

    def rate_text(self, kind: str) -> str:
        """Return the rate of a type as readable text."""
        return f"{self.rates[kind]:,.0f}/s" if kind in self.rates else "-"

    def summary(self) -> str:
        """Return the whole system in a line."""
        kinds = self.kinds
        alive, waiting = (sum(kind[name] for kind in kinds) for name in ("alive", "waiting"))
        letters = sum(self.statistics["dead_letters"].values())
        rate = f"{self.rate:,.0f} messages/s, " if self.rates else ""
        return (
            f"{self.greeting['system_id']} (pid {self.greeting['pid']}, {self.greeting['loop']}): {rate}"
            f"{alive:,} actors, {waiting:,} messages waiting, {letters:,} dead letters"
        )

    def actor_cells(self, actor: dict[str, Any], *, drawn: bool) -> tuple[str, ...]:
        """Return an actor's row: name or address, type, state, waiting, handled, seconds, and where it is."""
        busy = next((row for row in self.overview["busy"] if row["address"] == actor["address"]), actor)
        seconds = f"{busy['seconds']:.1f}" if "seconds" in busy else "-"
        return (
            actor["name"] or actor["address"],
            actor["actor_type"],
            actor.get("state", "running"),
            figure(actor["mailbox_depth"], drawn=drawn) if "mailbox_depth" in actor else "-",
            figure(actor["processed"], drawn=drawn) if "processed" in actor else "-",
            seconds,
            busy.get("where") or "-",
        )


def take(live: LiveSystem, by: str, rows: int, before: Snapshot | None, find: str = "") -> Snapshot:
    """Take a snapshot of a system. With the last one, it has rates."""
    overview = live.ask("overview")
    actors = live.ask("top", by=by, limit=rows, **({"find": find} if find else {}))["rows"]
    snapshot = Snapshot(live.greeting, overview, actors, time.monotonic())
    if before is not None and before.greeting["run"] == live.greeting["run"]:
        seconds = max(snapshot.taken - before.taken, 0.001)
        earlier = before.statistics["kinds"]
        for name, kind in snapshot.statistics["kinds"].items():
            handled = kind["processed"] - earlier.get(name, {"processed": 0})["processed"]
            snapshot.rates[name] = max(0, handled) / seconds
    return snapshot
