"""Papyra's metrics: their names, their help texts, and the sources of their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from papyra._version import __version__
from papyra.persistence.payload import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.core import Metric

    from papyra.statistics import SystemStatistics
    from papyra_contrib._timings.histogram import Histograms

    Sample: TypeAlias = tuple[tuple[str, ...], float]
    """The labels beside ``system``, and the value."""

    Values: TypeAlias = Callable[["Look"], Iterator[Sample]]

__all__ = ["HOOK_COUNTS", "Look", "families"]


class Timings(Protocol):
    """The measurements of `PapyraTimings`, in this or another process."""

    @property
    def waits(self) -> Histograms:
        """The waiting times of messages."""
        ...

    @property
    def durations(self) -> Histograms:
        """The handling times of messages."""
        ...

    @property
    def loop_lag(self) -> float:
        """The greatest lag of the event loop."""
        ...


@dataclass(frozen=True)
class Named:
    """An actor whose mailbox is a series of its own."""

    name: str
    mailbox_depth: int
    processed: int


@dataclass(frozen=True)
class Look:
    """One system, read at one moment. ``pid`` is a label if several processes are read."""

    statistics: SystemStatistics
    timings: Sequence[Timings]
    longest_running: float
    named: Sequence[Named] = ()
    pid: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The values of the labels that identify the system."""
        system_id = clean_text(self.statistics.system_id)  # a lone surrogate would end the scrape
        return (system_id, self.pid) if self.pid else (system_id,)


class _ByType(NamedTuple):
    name: str
    help: str
    counts: bool
    field: str  # of `KindStatistics`


class _Whole(NamedTuple):
    name: str
    help: str
    counts: bool
    labels: tuple[str, ...]
    values: Values


_BY_TYPE = (
    _ByType("messages_processed", "Messages that actors have handled.", True, "processed"),
    _ByType("actor_failures", "Failures of actors.", True, "failures"),
    _ByType("actor_restarts", "Restarts of actors.", True, "restarts"),
    _ByType("mailbox_depth", "Messages that wait in mailboxes.", False, "waiting"),
    _ByType("mailbox_fill_ratio_max", "How full the fullest mailbox is, 0 to 1.", False, "fullest"),
    _ByType("senders_waiting", "Senders that wait for room in a mailbox.", False, "senders"),
)

_STATES = ("alive", "restarting", "stopping")
_WORK = ("write", "scan", "recovery", "compaction")
HOOK_COUNTS = ("failed", "slow", "dropped")
"""The counts of each observer."""


def _facts(key: str) -> Values:
    def values(look: Look) -> Iterator[Sample]:
        facts = look.statistics.facts
        yield (str(facts["store"]),), float(facts[key])

    return values


def _store(key: str) -> Values:
    def values(look: Look) -> Iterator[Sample]:
        if key in look.statistics.store:
            yield (str(look.statistics.facts["store"]),), float(look.statistics.store[key])

    return values


def _store_errors(look: Look) -> Iterator[Sample]:
    for work in _WORK:
        value = look.statistics.store.get(f"{work}_errors")
        if value is not None:
            yield (str(look.statistics.facts["store"]), work), float(value)


def _letters(look: Look) -> Iterator[Sample]:
    for reason, count in look.statistics.dead_letters.items():
        yield (reason,), float(count)


def _workers(look: Look) -> Iterator[Sample]:
    for state, count in look.statistics.workers.items():
        yield (state,), float(count)


def _hooks(look: Look) -> Iterator[Sample]:
    for kind in HOOK_COUNTS:
        counts: dict[str, float] = {}
        for hook in look.statistics.hooks:  # two observers may have one name
            observer = str(hook["observer"])
            counts[observer] = counts.get(observer, 0.0) + float(hook.get(kind, 0))
        for observer, count in counts.items():
            yield (observer, kind), count


def _lag(look: Look) -> Iterator[Sample]:
    if look.timings:
        yield (), max(timings.loop_lag for timings in look.timings)


def _build(look: Look) -> Iterator[Sample]:
    yield (__version__, look.statistics.loop), 1.0


def _one(value: Callable[[Look], float]) -> Values:
    def values(look: Look) -> Iterator[Sample]:
        yield (), float(value(look))

    return values


_WHOLE = (
    _Whole("dead_letters", "Messages that were not handled.", True, ("reason",), _letters),
    _Whole(
        "ready_actors",
        "Actors that wait for their turn.",
        False,
        (),
        _one(lambda look: look.statistics.ready),
    ),
    _Whole("workers", "Tasks that run actors.", False, ("state",), _workers),
    _Whole(
        "longest_running_seconds",
        "How long the longest-running message has been handled so far, at least.",
        False,
        (),
        _one(lambda look: look.longest_running),
    ),
    _Whole("event_loop_lag_seconds", "Greatest lag of the event loop in the last 15 s.", False, (), _lag),
    _Whole("facts_buffered", "Facts that wait for the store.", False, ("store",), _facts("buffered")),
    _Whole(
        "store_healthy", "1 if the store of facts is healthy, else 0.", False, ("store",), _facts("healthy")
    ),
    _Whole("facts_written", "Facts that the store has taken.", True, ("store",), _store("records_written")),
    _Whole("facts_dropped", "Facts that were lost.", True, ("store",), _store("records_dropped")),
    _Whole(
        "store_bytes_written", "Bytes that the store has written.", True, ("store",), _store("bytes_written")
    ),
    _Whole("store_errors", "Errors of the store.", True, ("store", "work"), _store_errors),
    _Whole(
        "store_anomalies",
        "Anomalies that scans of the store have found.",
        True,
        ("store",),
        _store("anomalies_detected"),
    ),
    _Whole(
        "hook_failures",
        "Calls of hooks that failed, were slow or were dropped.",
        True,
        ("observer", "kind"),
        _hooks,
    ),
    _Whole(
        "build_info",
        "The version of Papyra and the event loop.",
        False,
        ("version", "loop"),
        _build,
    ),
)


def families(looks: Sequence[Look]) -> Iterator[Metric]:
    """Yield the metrics of systems, each family once; with the label ``pid`` if the looks have one."""
    where = ("system", "pid") if any(look.pid for look in looks) else ("system",)
    yield _actors(looks, where)
    yield _spawned(looks, where)
    for by_type in _BY_TYPE:
        family = _family(where, by_type.name, by_type.help, by_type.counts, ("actor_type",))
        for look in looks:
            for kind in look.statistics.kinds.values():
                family.add_metric((*look.labels, kind.actor_type), float(getattr(kind, by_type.field)))
        yield family
    yield _histogram(
        "mailbox_wait_seconds", "Time that messages waited in mailboxes (sampled).", "waits", looks, where
    )
    yield _histogram(
        "process_duration_seconds", "Time that messages were handled (sampled).", "durations", looks, where
    )
    for whole in _WHOLE:
        family = _family(where, whole.name, whole.help, whole.counts, whole.labels)
        for look in looks:
            for labels, value in whole.values(look):
                family.add_metric((*look.labels, *labels), value)
        yield family
    if any(look.named for look in looks):
        yield from _named(looks, where)


def _family(where: tuple[str, ...], name: str, text: str, counts: bool, labels: tuple[str, ...]) -> Any:
    kind = CounterMetricFamily if counts else GaugeMetricFamily
    return kind(f"papyra_{name}", text, labels=(*where, *labels))


def _actors(looks: Sequence[Look], where: tuple[str, ...]) -> Metric:
    family = _family(where, "actors", "Actors now.", False, ("actor_type", "state"))
    for look in looks:
        for kind in look.statistics.kinds.values():
            for state in _STATES:
                value = float(getattr(kind, state))
                family.add_metric((*look.labels, kind.actor_type, state), value)
    return family  # type: ignore[no-any-return]  # prometheus-client's families have no common type with add_metric


def _spawned(looks: Sequence[Look], where: tuple[str, ...]) -> Metric:
    family = _family(where, "actors_spawned", "Actors that were spawned.", True, ())
    for look in looks:
        family.add_metric(look.labels, float(look.statistics.spawned))
    return family  # type: ignore[no-any-return]  # as above


def _histogram(name: str, text: str, what: str, looks: Sequence[Look], where: tuple[str, ...]) -> Metric:
    family = HistogramMetricFamily(f"papyra_{name}", text, labels=(*where, "actor_type"))
    for look in looks:
        for timings in look.timings[:1]:
            for actor_type, histogram in getattr(timings, what).all().items():
                labels = (*look.labels, actor_type)
                family.add_metric(labels, histogram.buckets(), histogram.seconds)
    return family


def _named(looks: Sequence[Look], where: tuple[str, ...]) -> Iterator[Metric]:
    depth = _family(
        where, "actor_mailbox_depth", "Messages that wait in the mailbox of a named actor.", False, ("actor",)
    )
    processed = _family(
        where, "actor_messages_processed", "Messages that a named actor has handled.", True, ("actor",)
    )
    for look in looks:
        for info in look.named:
            labels = (*look.labels, clean_text(info.name))
            depth.add_metric(labels, info.mailbox_depth)
            processed.add_metric(labels, info.processed)
    yield depth
    yield processed
