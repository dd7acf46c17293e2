"""The checks of a store before any actor exists."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import anyio

from papyra.exceptions import PersistenceError, StoreFull
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode

if TYPE_CHECKING:
    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import PersistenceRecoveryReport, PersistenceScanReport

__all__ = [
    "PersistenceStartupConfig",
    "PersistenceStartupMode",
    "StartupCheck",
    "reach_store",
    "run_startup_check",
]

_logger = logging.getLogger("papyra")


class PersistenceStartupMode(StrEnum):
    """What to do about damage in the store at the start of a system."""

    IGNORE = "ignore"
    SCAN_ONLY = "scan_only"
    RECOVER = "recover"
    FAIL_ON_ANOMALY = "fail_on_anomaly"


@dataclass(frozen=True, slots=True)
class PersistenceStartupConfig:
    """How to check the store at the start.

    ``IGNORE`` does not look; ``SCAN_ONLY`` logs what it finds and goes on; ``RECOVER`` repairs as
    ``recovery`` says (``REPAIR`` without one) and fails if damage is left; ``FAIL_ON_ANOMALY`` fails on any.
    ``timeout_seconds`` bounds the whole check; running out of it is a failure.
    """

    mode: PersistenceStartupMode = PersistenceStartupMode.FAIL_ON_ANOMALY
    recovery: PersistenceRecoveryConfig | None = None
    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.timeout_seconds is not None and not self.timeout_seconds > 0:
            raise ValueError(f"timeout_seconds must be above 0, but is {self.timeout_seconds!r}")


@dataclass(frozen=True, slots=True)
class StartupCheck:
    """The findings and repairs of a start-up check; ``passed`` if a system would start."""

    passed: bool
    scan: PersistenceScanReport | None = None
    recovery: PersistenceRecoveryReport | None = None
    left: PersistenceScanReport | None = None

    def raise_if_failed(self) -> None:
        """Raise `RuntimeError` with the first anomalies if the check failed."""
        report = self.left or self.scan
        if self.passed or report is None:
            return
        shown = "; ".join(f"{a.type} in {a.path} ({a.detail})" for a in report.anomalies[:3])
        more = f" and {len(report.anomalies) - 3} more" if len(report.anomalies) > 3 else ""
        raise RuntimeError(
            f"Persistence anomalies detected in the {report.backend} store: {shown}{more}. "
            "`papyra persistence scan` lists them, `papyra persistence recover` repairs them"
        )


async def reach_store(
    backend: PersistenceBackend, *, timeout_seconds: float | None = None, required: bool = True
) -> None:
    """Open a store and ask whether it is there and takes records; a `PersistenceError` says why it is not.

    It is also raised if there is no answer within ``timeout_seconds``. Any other error of the backend is its
    cause. If the store is not ``required``, or it is only full, the error is logged instead: facts may be
    lost then, but that does not refuse a start.
    """
    try:
        await _reach(backend, timeout_seconds)
    except PersistenceError as error:
        if required and not isinstance(error, StoreFull):
            raise
        _logger.error("the system starts without its store: %s", error, exc_info=error)


async def _reach(backend: PersistenceBackend, timeout_seconds: float | None) -> None:
    name = backend.name or type(backend).__name__
    try:
        # Not fail_after: a TimeoutError of the backend is not ours.
        with anyio.move_on_after(timeout_seconds):
            await backend.open()
            await backend.ping()
            return
    except PersistenceError:
        raise
    except Exception as error:
        raise PersistenceError(
            f"the {name} store can't be reached: {type(error).__name__}: {error}"
        ) from error
    raise PersistenceError(f"the {name} store did not answer within {timeout_seconds} s; is it there?")


async def run_startup_check(backend: PersistenceBackend, config: PersistenceStartupConfig) -> StartupCheck:
    """Do what ``config`` says with ``backend``; running out of time is a `RuntimeError`."""
    if config.mode is PersistenceStartupMode.IGNORE:
        return StartupCheck(passed=True)
    # Not fail_after: a TimeoutError of the backend's own is another matter.
    with anyio.move_on_after(config.timeout_seconds):
        return await _check(backend, config)
    raise RuntimeError(
        f"the start-up check of the {backend.name} store did not end within {config.timeout_seconds} s"
    )


async def _check(backend: PersistenceBackend, config: PersistenceStartupConfig) -> StartupCheck:
    scan = await backend.scan()
    if not scan.has_anomalies:
        return StartupCheck(passed=True, scan=scan)
    if config.mode is PersistenceStartupMode.SCAN_ONLY:
        for anomaly in scan.anomalies[:10]:
            _logger.warning("store of facts: %s in %s: %s", anomaly.type, anomaly.path, anomaly.detail)
        return StartupCheck(passed=True, scan=scan)
    if config.mode is PersistenceStartupMode.FAIL_ON_ANOMALY:
        return StartupCheck(passed=False, scan=scan)
    recovery = await backend.recover(
        config.recovery or PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)
    )
    left = await backend.scan()
    return StartupCheck(passed=not left.has_anomalies, scan=scan, recovery=recovery, left=left)


def startup_config_of(
    startup: PersistenceStartupConfig | PersistenceStartupMode | None,
    recovery: PersistenceRecoveryConfig | None,
) -> PersistenceStartupConfig:
    """Return the configuration of a start from the two arguments of a system; either may be all there is."""
    if isinstance(startup, str):  # a mode is a string, and plain strings are accepted too
        startup = PersistenceStartupConfig(PersistenceStartupMode(startup), recovery)
    if startup is None:
        mode = PersistenceStartupMode.IGNORE if recovery is None else PersistenceStartupMode.RECOVER
        return PersistenceStartupConfig(mode, recovery)
    if recovery is not None and startup.recovery is None:
        return PersistenceStartupConfig(startup.mode, recovery, startup.timeout_seconds)
    return startup
