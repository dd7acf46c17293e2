"""A system's numbers as OpenTelemetry metrics."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from opentelemetry.metrics import Observation, get_meter, get_meter_provider

from papyra._version import __version__
from papyra.exceptions import SystemNotRunning
from papyra.instruments import Instrument
from papyra_contrib._timings.pace import Pace
from papyra_contrib.otel import _names as names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider

    from papyra import ActorSystem
    from papyra.instruments import Target
    from papyra.statistics import KindStatistics

__all__ = ["PapyraMeters"]


class _ProviderMeters:
    """The meters of all systems that are measured at one provider, which takes each name once.

    It reads a closed system too, as long as the system object exists, so that its counters do not fall. Of
    two systems with one id it reads the newer one.
    """

    def __init__(self, meter: Meter) -> None:
        self._systems: WeakValueDictionary[str, ActorSystem] = WeakValueDictionary()
        self._sent: WeakKeyDictionary[ActorSystem, dict[str, int]] = WeakKeyDictionary()
        self.durations = meter.create_histogram(
            names.PROCESS_DURATION, "s", "Duration of handling a message (sampled)."
        )
        meter.create_observable_counter(
            names.SENT_MESSAGES, [self._observe_sent], "{message}", "Messages sent to actors."
        )
        meter.create_observable_counter(
            names.CONSUMED_MESSAGES,
            [self._observe_consumed],
            "{message}",
            "Messages that actors have handled.",
        )

    def add(self, system: ActorSystem) -> None:
        """Read a system from now on."""
        self._systems[system.system_id] = system

    def _observe_sent(self, _options: CallbackOptions) -> Iterator[Observation]:
        for system, name, kind in self._kinds():
            # Handled and waiting messages. The counter must not fall when a stop discards waiting ones.
            before = self._sent.setdefault(system, {})
            before[name] = sent = max(before.get(name, 0), kind.processed + kind.waiting)
            yield Observation(sent, _about(name, system.system_id, "send"))

    def _observe_consumed(self, _options: CallbackOptions) -> Iterator[Observation]:
        for system, name, kind in self._kinds():
            yield Observation(kind.processed, _about(name, system.system_id, "process"))

    def _kinds(self) -> Iterator[tuple[ActorSystem, str, KindStatistics]]:
        for system in list(self._systems.values()):
            with suppress(SystemNotRunning):  # it is about to start
                for name, kind in system.statistics().kinds.items():
                    yield system, name, kind


class _Global:
    """The key of the global provider, which is another object before the SDK is set up."""


_GLOBAL = _Global()
_of_provider: WeakKeyDictionary[MeterProvider | _Global, _ProviderMeters] = WeakKeyDictionary()
_making = threading.Lock()  # systems may start side by side in threads


def _meters(provider: MeterProvider | None) -> _ProviderMeters:
    with _making:
        key = _GLOBAL if provider is None or provider is get_meter_provider() else provider
        known = _of_provider.get(key)
        if known is None:
            meter = get_meter(names.SCOPE, __version__, provider, schema_url=names.SCHEMA_URL)
            known = _of_provider[key] = _ProviderMeters(meter)
        return known


class PapyraMeters(Instrument):
    """Metrics of ``system``: messages sent and consumed by actor type, and the duration of a sample of them.

    It adds itself to the system. Without a system, pass it to one: ``ActorSystem(instruments=[...])``. The
    counters are read when the SDK collects, in any thread. ``messaging.process.duration`` has about ``rate``
    samples per second, so its count is not the number of messages.
    """

    def __init__(
        self,
        system: ActorSystem | None = None,
        *,
        rate: float = 200,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._paces = (Pace(rate), Pace(rate))  # of tells and of asks
        self._meters = _meters(meter_provider)
        if system is not None:
            self._meters.add(system)
            system.add_instrument(self)

    def started(self, system: ActorSystem) -> None:
        """Read this system from now on."""
        self._meters.add(system)

    def send(self, target: Target, message: object, asks: bool) -> tuple[object, int]:
        """Take a sample."""
        _, gap = self._paces[asks].take(time.perf_counter())
        return [0.0], gap

    def begin(self, target: Target, mark: Any) -> None:
        """Note the start of the handling."""
        mark[0] = time.perf_counter()

    def end(self, target: Target, mark: Any, error: BaseException | None) -> None:
        """Measure the duration of the handling."""
        kind = target.actor_type
        seconds = time.perf_counter() - mark[0]
        about = _about(kind.__name__ if kind is not None else "Actor", target.address.system, "process")
        self._meters.durations.record(seconds, about)


def _about(actor_type: str, system_id: str, verb: str) -> dict[str, str]:
    return {
        names.SYSTEM: names.PAPYRA,
        names.OPERATION_NAME: verb,
        names.DESTINATION: actor_type,
        names.SYSTEM_ID: system_id,
    }
