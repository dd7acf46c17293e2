"""A system's numbers as OpenTelemetry metrics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Observation, get_meter

from papyra._version import __version__
from papyra.exceptions import SystemNotRunning
from papyra.instruments import Instrument
from papyra_contrib._sampling import Pace
from papyra_contrib.otel import _names as names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.metrics import CallbackOptions, MeterProvider

    from papyra import ActorSystem
    from papyra.instruments import Target
    from papyra.statistics import KindStatistics

__all__ = ["PapyraMeters"]


class PapyraMeters(Instrument):
    """Metrics of ``system``: messages sent and consumed by actor type, and the duration of a sample of them.

    It adds itself to the system. Without a system, pass it to one: ``ActorSystem(instruments=[...])``. The
    counters are read when the SDK collects, in any thread. ``messaging.process.duration`` has about ``rate``
    samples per second, so its count is not the number of
    messages.
    """

    def __init__(
        self,
        system: ActorSystem | None = None,
        *,
        rate: float = 200,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._system = system
        self._sent: dict[str, int] = {}
        self._paces = (Pace(rate), Pace(rate))  # of tells and of asks
        meter = get_meter(names.SCOPE, __version__, meter_provider, schema_url=names.SCHEMA_URL)
        self._durations = meter.create_histogram(
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
        if system is not None:
            system.add_instrument(self)

    def started(self, system: ActorSystem) -> None:
        """Read this system from now on."""
        self._system = system

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
        about = self._about(kind.__name__ if kind is not None else "Actor", target.address.system, "process")
        self._durations.record(seconds, about)

    def _observe_sent(self, _options: CallbackOptions) -> Iterator[Observation]:
        for name, kind in self._kinds():
            # Handled and waiting messages. The counter must not fall when a stop discards waiting ones.
            self._sent[name] = sent = max(self._sent.get(name, 0), kind.processed + kind.waiting)
            yield Observation(sent, self._about(name, self._system_id(), "send"))

    def _observe_consumed(self, _options: CallbackOptions) -> Iterator[Observation]:
        for name, kind in self._kinds():
            yield Observation(kind.processed, self._about(name, self._system_id(), "process"))

    def _kinds(self) -> list[tuple[str, KindStatistics]]:
        if self._system is None:
            return []
        try:
            return list(self._system.statistics().kinds.items())
        except SystemNotRunning:
            return []  # it is about to start

    def _system_id(self) -> str:
        return self._system.system_id if self._system is not None else ""

    def _about(self, actor_type: str, system_id: str, verb: str) -> dict[str, str]:
        return {
            names.SYSTEM: names.PAPYRA,
            names.OPERATION_NAME: verb,
            names.DESTINATION: actor_type,
            names.SYSTEM_ID: system_id,
        }
