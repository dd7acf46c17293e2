"""The other systems of this user, read over their admin sockets."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from papyra.statistics import KindStatistics, SystemStatistics
from papyra_contrib._timings.histogram import Histograms
from papyra_contrib.admin import AdminSocket
from papyra_contrib.admin._client import NoAnswer, ask_once
from papyra_contrib.admin._folder import sockets_of_others
from papyra_contrib.prometheus._families import HOOK_COUNTS, Look, Named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from papyra import ActorSystem

__all__ = ["look_at_siblings", "without_doubles"]

_logger = logging.getLogger("papyra")

PATIENCE_SECONDS = 1.0
_told: set[Path] = set()
_told_of_doubles: set[tuple[str, ...]] = set()


@dataclass(frozen=True)
class _Measured:
    """The timings of another process."""

    waits: Histograms
    durations: Histograms
    loop_lag: float


async def look_at_siblings(system: ActorSystem, names: Sequence[str]) -> list[Look]:
    """Read the other systems, all at the same time. Leave out those that do not answer within a second."""
    own = [instrument.path for instrument in system.instruments if isinstance(instrument, AdminSocket)]
    looks: dict[Path, Look] = {}

    async def look(path: Path) -> None:
        try:
            greeting, answer = await ask_once(path, "scrape", patience=PATIENCE_SECONDS, names=list(names))
            looks[path] = _look(answer, str(greeting["pid"]))
        except (NoAnswer, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            # It may be of another version, or about to end. One scrape must not depend on all processes.
            if path not in _told:
                _told.add(path)
                _logger.warning("the metrics of %s are left out: %s", path.name, error)

    async with anyio.create_task_group() as tasks:
        for path in sockets_of_others(frozenset(path for path in own if path is not None)):
            tasks.start_soon(look, path)
    return [looks[path] for path in sorted(looks)]


def without_doubles(looks: Sequence[Look]) -> list[Look]:
    """Leave out looks with the labels of an earlier one: a scrape must not have a series twice."""
    distinct: dict[tuple[str, ...], Look] = {}
    for look in looks:
        if distinct.setdefault(look.labels, look) is not look and look.labels not in _told_of_doubles:
            _told_of_doubles.add(look.labels)
            _logger.warning(
                "process %s has two systems with the id %r; the metrics of one are left out. "
                "Give each system_id once.",
                look.pid,
                look.statistics.system_id,
            )
    return list(distinct.values())


def _look(answer: Any, pid: str) -> Look:
    """Read an answer, each value as what it must be: one that can't be written would end the whole scrape."""
    return Look(
        _statistics(answer["statistics"]),
        [
            _Measured(
                Histograms.from_dict({_text(kind): each for kind, each in one["waits"].items()}),
                Histograms.from_dict({_text(kind): each for kind, each in one["durations"].items()}),
                float(one["loop_lag"]),
            )
            for one in answer["timings"]
        ],
        float(answer["longest_running"]),
        [
            Named(_text(each["name"]), int(each["mailbox_depth"]), int(each["processed"]))
            for each in answer["named"]
        ],
        pid,
    )


def _statistics(data: Any) -> SystemStatistics:
    """Read the values that this version knows; a newer one may have more."""
    facts = data["facts"]
    return SystemStatistics(
        system_id=_text(data["system_id"]),
        state=_text(data["state"]),
        loop=_text(data["loop"]),
        kinds={name: _kind(each) for name, each in data["kinds"].items()},
        ready=int(data["ready"]),
        workers=_counts(data["workers"]),
        spawned=int(data["spawned"]),
        dead_letters=_counts(data["dead_letters"]),
        facts={
            "store": _text(facts["store"]),
            "buffered": int(facts["buffered"]),
            "healthy": bool(facts["healthy"]),
        },
        store={_text(name): value for name, value in data["store"].items() if type(value) in (int, float)},
        hooks=[
            {"observer": _text(each["observer"]), **_counts({one: each.get(one, 0) for one in HOOK_COUNTS})}
            for each in data["hooks"]
        ],
    )


def _kind(data: Any) -> KindStatistics:
    return KindStatistics(
        actor_type=_text(data["actor_type"]),
        alive=int(data["alive"]),
        restarting=int(data["restarting"]),
        stopping=int(data["stopping"]),
        spawned=int(data["spawned"]),
        processed=int(data["processed"]),
        waiting=int(data["waiting"]),
        fullest=float(data["fullest"]),
        senders=int(data["senders"]),
        failures=int(data["failures"]),
        restarts=int(data["restarts"]),
    )


def _counts(data: Any) -> dict[str, int]:
    return {_text(name): int(value) for name, value in data.items()}


def _text(value: Any) -> str:
    """Return a text that UTF-8 can write: JSON may have lone surrogates."""
    return str(value).encode(errors="backslashreplace").decode()
