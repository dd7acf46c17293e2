"""The configuration of the health and metrics endpoints."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from papyra.persistence.models import PersistenceRecoveryConfig
    from papyra.persistence.startup import PersistenceStartupConfig

__all__ = ["Level", "PapyraASGIConfig"]

Level = Literal["fail", "warn", "off"]

METRICS_FORMATS = ("auto", "json", "prometheus")

_warned_of_scan = False


@dataclass(frozen=True)
class PapyraASGIConfig:
    """Paths and checks of the endpoints; a path of None turns one off.

    ``readyz`` says by the name of a check what happens if it does not pass, as in ``{"store": "fail"}``:
    ``"fail"`` (503), ``"warn"`` (200, with a warning in the answer) or ``"off"``. ``metrics_format`` is
    ``"prometheus"``, ``"json"``, or ``"auto"``: Prometheus if prometheus-client is installed, else JSON.
    ``persistence_startup`` and ``persistence_recovery`` check the store before the start, see
    `papyra.ActorSystem`.

    ``health_mode`` exists for programs that were written for Papyra 0.3. Probes no longer scan the store.
    """

    health_path: str | None = "/healthz"
    metrics_path: str | None = "/metrics"
    health_mode: str = "checks"
    persistence_startup: PersistenceStartupConfig | None = None
    persistence_recovery: PersistenceRecoveryConfig | None = None
    metrics_format: str = "auto"
    livez_path: str | None = "/livez"
    readyz_path: str | None = "/readyz"
    readyz: Mapping[str, Level] = field(default_factory=dict[str, Level])

    def __post_init__(self) -> None:
        if self.metrics_format not in METRICS_FORMATS:
            raise ValueError(f"metrics_format must be one of {METRICS_FORMATS}, not {self.metrics_format!r}")
        for name, level in self.readyz.items():
            if level not in ("fail", "warn", "off"):
                raise ValueError(f"readyz[{name!r}] must be 'fail', 'warn' or 'off', not {level!r}")
        for path in (self.health_path, self.metrics_path, self.livez_path, self.readyz_path):
            if path is not None and not path.startswith("/"):
                raise ValueError(f"a path must begin with '/', or be None, not {path!r}")
        warn_of_scan(self.health_mode)


def warn_of_scan(mode: str) -> None:
    """Warn, once in a process, if an old program asks for a scan of the store with each probe."""
    global _warned_of_scan
    if mode == "scan" and not _warned_of_scan:
        _warned_of_scan = True
        warnings.warn(
            'health_mode="scan" has no effect: a probe no longer scans the store. '
            "Run `papyra doctor` to scan it, and remove the argument",
            DeprecationWarning,
            stacklevel=4,
        )
