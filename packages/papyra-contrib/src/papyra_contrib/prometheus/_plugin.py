"""The plugin ``prometheus``: timings, and one collector in prometheus-client's registry for all systems."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from papyra.exceptions import SystemNotRunning
from papyra_contrib._timings.timings import PapyraTimings
from papyra_contrib.prometheus._collector import look_at, warn_of_multiprocess
from papyra_contrib.prometheus._families import families

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from papyra import ActorSystem
    from papyra_contrib.prometheus._families import Look

__all__ = ["PrometheusInstrument"]


class _AllSystems(Collector):
    """The systems of a process by id. If two have the same id, the newer one."""

    def __init__(self) -> None:
        self.systems: WeakValueDictionary[str, ActorSystem] = WeakValueDictionary()

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        looks: list[Look] = []
        for system in list(self.systems.values()):
            try:
                looks.append(look_at(system, system.statistics()))
            except SystemNotRunning:
                continue  # it is about to start
        yield from families(looks)


_ALL = _AllSystems()


class PrometheusInstrument(PapyraTimings):
    """`PapyraTimings`, and the system's metrics in prometheus-client's default registry.

    The systems of a process share one collector there. The metrics of a closed system stay as long as the
    system object does, so that its counters do not fall.
    """

    def started(self, system: ActorSystem) -> None:
        """Add the system to the registry."""
        warn_of_multiprocess()
        if not _ALL.systems:
            with suppress(KeyError):  # it is not registered, or was removed
                REGISTRY.unregister(_ALL)
            REGISTRY.register(_ALL)
        _ALL.systems[system.system_id] = system
