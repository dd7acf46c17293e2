"""The other systems of this user, read over their admin sockets."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import anyio

from papyra.statistics import KindStatistics, SystemStatistics
from papyra_contrib._histogram import Histograms
from papyra_contrib.admin import AdminSocket
from papyra_contrib.admin._client import NoAnswer, ask_once, sockets_of_others
from papyra_contrib.prometheus._families import Look, Named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from papyra import ActorSystem

__all__ = ["look_at_siblings"]

_logger = logging.getLogger("papyra")

PATIENCE_SECONDS = 1.0
_told: set[Path] = set()


@dataclass(frozen=True)
class _Measured:
    """The timings of another process."""

    waits: Histograms
    durations: Histograms
    loop_lag: float


async def look_at_siblings(system: ActorSystem, names: Sequence[str]) -> list[Look]:
    """Read the other systems, all at the same time. Leave out those that do not answer within a second."""
    own = [each.path for each in system.instruments if isinstance(each, AdminSocket)]
    found: dict[Path, Look] = {}

    async def look(path: Path) -> None:
        try:
            greeting, answer = await ask_once(path, "scrape", patience=PATIENCE_SECONDS, names=list(names))
            found[path] = _look(answer, str(greeting["pid"]))
        except (NoAnswer, ValueError, TypeError, KeyError, AttributeError) as error:
            # It may be of another version, or about to end. One scrape must not depend on all processes.
            if path not in _told:
                _told.add(path)
                _logger.warning("the metrics of %s are left out: %s", path.name, error)

    async with anyio.create_task_group() as tasks:
        for path in sockets_of_others(frozenset(path for path in own if path is not None)):
            tasks.start_soon(look, path)
    return [found[path] for path in sorted(found)]


def _look(answer: Any, pid: str) -> Look:
    statistics = answer["statistics"]
    kinds = {
        str(name): KindStatistics(**_known(KindStatistics, each))
        for name, each in statistics["kinds"].items()
    }
    return Look(
        SystemStatistics(**{**_known(SystemStatistics, statistics), "kinds": kinds}),
        [
            _Measured(
                Histograms.from_dict(each["waits"]),
                Histograms.from_dict(each["durations"]),
                float(each["loop_lag"]),
            )
            for each in answer["timings"]
        ],
        float(answer["longest_running"]),
        [
            Named(str(each["name"]), int(each["mailbox_depth"]), int(each["processed"]))
            for each in answer["named"]
        ],
        pid,
    )


def _known(kind: type[KindStatistics | SystemStatistics], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that this version knows; a newer one may have more."""
    return {each.name: values[each.name] for each in fields(kind)}
