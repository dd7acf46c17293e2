"""A collector of prometheus-client that reads actor systems when it is asked."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from papyra.exceptions import SystemNotRunning
from papyra_contrib._timings.timings import PapyraTimings
from papyra_contrib.prometheus._families import Look, Named, families

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

    from papyra import ActorSystem
    from papyra.statistics import SystemStatistics

__all__ = ["PapyraCollector", "look_at", "unique_names"]

_logger = logging.getLogger("papyra")

_warned_of_multiprocess = False


class PapyraCollector(Collector):
    """Metrics of ``system`` for a registry: ``REGISTRY.register(PapyraCollector(system))``.

    It finds the system's `PapyraTimings`. It may be read in any thread, also after the system's
    close. Series are by actor type, never by address; ``names`` adds the mailboxes of a few named actors.
    """

    def __init__(self, system: ActorSystem, *, names: Iterable[str] = ()) -> None:
        self._system = system
        self._names = unique_names(names)
        warn_of_multiprocess()

    def describe(self) -> Iterable[Metric]:
        """Return nothing: a registry need not ask for the names before the system has started."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; none before the system's start."""
        try:
            look = look_at(self._system, self._system.statistics(), self._names)
        except SystemNotRunning:
            return
        yield from families([look])


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of actors, each once: a scrape must not have a series twice."""
    if isinstance(names, str):
        raise TypeError(f"names must be names of actors, as in names=({names!r},), not {names!r}")
    return tuple(dict.fromkeys(names))


def look_at(system: ActorSystem, statistics: SystemStatistics, names: Sequence[str] = ()) -> Look:
    """Read the values that `ActorSystem.statistics` does not have."""
    timings = [timings for timings in system.instruments if isinstance(timings, PapyraTimings)]
    busy = system.busy(1)
    named = [
        Named(name, info.mailbox_depth, info.processed)
        for name in names
        if (info := system.actor_info(name)) is not None
    ]
    return Look(statistics, timings, busy[0].seconds if busy else 0.0, named)


def warn_of_multiprocess() -> None:
    """Log once that prometheus-client's multiprocess mode leaves out collectors."""
    global _warned_of_multiprocess
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ and not _warned_of_multiprocess:
        _warned_of_multiprocess = True
        _logger.warning(
            "PROMETHEUS_MULTIPROC_DIR is set: prometheus-client's multiprocess mode leaves the metrics of Papyra out. "
            "Scrape each worker by itself, or mount papyra_contrib.prometheus.metrics_app with siblings=True"
        )
