"""At most one look a second at a source for all visitors, and the rates between looks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio

from papyra_contrib.dashboard._series import Series
from papyra_contrib.dashboard._source import SourceGone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from papyra_contrib.dashboard._source import Answer, Source

__all__ = ["LOOK_SECONDS", "Poller", "Snapshot", "Totals"]

LOOK_SECONDS = 0.9
"""How long a snapshot is reused: a little less than a page waits before it asks again."""

FORGET_SECONDS = 10.0
"""After this long without a look, a rate starts over."""

MAX_ACTORS = 5_000
"""Actors whose counts are remembered for their rates."""


@dataclass(slots=True)
class Totals:
    """Totals of all actors and the store; ``new_`` ones are of the last minute."""

    waiting: float = 0.0
    alive: float = 0.0
    restarts: float = 0.0
    letters: float = 0.0
    written: float = 0.0
    dropped: float = 0.0
    rate: float | None = None
    facts_rate: float | None = None
    new_restarts: float = 0.0
    new_letters: float = 0.0
    new_dropped: float = 0.0
    new_restarts_of: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(slots=True)
class Snapshot:
    """The result of a look; ``gone`` says why the source does not answer any more."""

    taken: float
    answer: Answer
    series: Mapping[str, Series]
    kind_series: Mapping[str, Series]
    kind_rates: Mapping[str, float]
    totals: Totals = field(default_factory=Totals)
    gone: str = ""


class Poller:
    """Looks at a source when somebody asks, at most once a second."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.looks = 0
        self._turn = anyio.Lock()
        self._snapshot: Snapshot | None = None
        self._series: dict[str, Series] = {}
        self._counters: dict[str, tuple[float, float]] = {}
        self._kind_series: dict[str, Series] = {}
        self._actors: dict[str, tuple[float, int, float | None]] = {}

    async def look(self) -> Snapshot:
        """Return the snapshot of this second."""
        async with self._turn:
            snapshot, now = self._snapshot, time.monotonic()
            if snapshot is not None and now - snapshot.taken < LOOK_SECONDS:
                return snapshot
            self.looks += 1
            try:
                answer = await self.source.overview()
            except SourceGone as error:
                now = time.monotonic()  # it may have taken long, and the next one waits as long as after any
                last = snapshot or Snapshot(now, {}, {}, {}, {})
                self._snapshot = replace(last, taken=now, gone=str(error))
                return self._snapshot
            self._snapshot = self._note(now, answer)
            return self._snapshot

    def _note(self, now: float, answer: Answer) -> Snapshot:
        statistics = answer.get("statistics")
        if statistics is None:  # a record
            return Snapshot(now, answer, {}, {}, {})
        kinds: dict[str, dict[str, Any]] = statistics["kinds"]
        rates: dict[str, float] = {}
        for name, kind in kinds.items():
            series, value = (
                self._kind_series.setdefault(name, Series()),
                self._rate(f"kind {name}", now, kind["processed"]),
            )
            if value is not None:
                rates[name] = value
                series.add(now, value)
        for name in [name for name in self._kind_series if name not in kinds]:
            del self._kind_series[name]
        totals = Totals(
            waiting=_sum(kinds, "waiting"),
            alive=_sum(kinds, "alive"),
            restarts=_sum(kinds, "restarts"),
            letters=float(sum(statistics["dead_letters"].values())),
            written=float(statistics["store"].get("records_written", 0)),
            dropped=float(statistics["store"].get("records_dropped", 0)),
        )
        totals.rate = sum(rates.values()) if rates or not kinds else None
        totals.facts_rate = self._rate("facts", now, totals.written)
        for name, value in (
            ("rate", totals.rate),
            ("waiting", totals.waiting),
            ("alive", totals.alive),
            ("restarts", self._rate("restarts", now, totals.restarts)),
            ("letters", self._rate("letters", now, totals.letters)),
            ("facts", totals.facts_rate),
        ):
            series = self._series.setdefault(name, Series())
            if value is not None:
                series.add(now, value)
        totals.new_restarts = self._minute("restarts", now, totals.restarts)
        totals.new_letters = self._minute("letters", now, totals.letters)
        totals.new_dropped = self._minute("dropped", now, totals.dropped)
        totals.new_restarts_of = {
            name: self._minute(f"restarts of {name}", now, kind["restarts"]) for name, kind in kinds.items()
        }
        return Snapshot(now, answer, self._series, self._kind_series, rates, totals)

    def _minute(self, name: str, now: float, value: float) -> float:
        series = self._series.setdefault(f"count of {name}", Series())
        series.add(now, value)
        return series.grown(value, now)

    def _rate(self, name: str, now: float, value: float) -> float | None:
        """Return the growth of a counter per second since the last look; None at the first one."""
        before = self._counters.get(name)
        self._counters[name] = (now, value)
        if before is None or now - before[0] > FORGET_SECONDS or value < before[1]:
            return None
        return (value - before[1]) / max(now - before[0], 0.001)

    def rates_of(self, rows: Iterable[dict[str, Any]]) -> dict[str, float | None]:
        """Return the messages per second of the shown actors; None for one that was not shown before."""
        now = time.monotonic()
        rates: dict[str, float | None] = {}
        for row in rows:
            address, handled = row["address"], row.get("processed")
            if handled is None:
                continue
            when, before, last_rate = self._actors.get(address, (0.0, 0, None))
            if now - when < LOOK_SECONDS:  # several pages show it
                rates[address] = last_rate
                continue
            fresh = now - when > FORGET_SECONDS or handled < before
            rates[address] = None if fresh else (handled - before) / (now - when)
            self._actors[address] = (now, handled, rates[address])
        if len(self._actors) > MAX_ACTORS:
            self._actors = {
                key: value for key, value in self._actors.items() if now - value[0] < FORGET_SECONDS
            }
        return rates


def _sum(kinds: Mapping[str, Mapping[str, Any]], name: str) -> float:
    return float(sum(kind[name] for kind in kinds.values()))
