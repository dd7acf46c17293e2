"""The start-up check: its findings, repairs and refusals."""

from __future__ import annotations

import logging

import anyio
import pytest

from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import (
    PersistenceAnomaly,
    PersistenceAnomalyType,
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra.persistence.startup import (
    PersistenceStartupConfig,
    PersistenceStartupMode,
    StartupCheck,
    run_startup_check,
)


class Damaged(InMemoryPersistence):
    """Has anomalies until it is recovered with a mode in ``heals``."""

    name = "damaged"

    def __init__(self, anomalies: int = 1, heals: tuple[str, ...] = ("repair", "quarantine")) -> None:
        super().__init__()
        self.anomalies = anomalies
        self.heals = heals
        self.recovered_with: list[PersistenceRecoveryConfig | None] = []

    async def scan(self) -> PersistenceScanReport:
        self.metrics.scans += 1
        return PersistenceScanReport(
            self.name,
            tuple(
                PersistenceAnomaly(PersistenceAnomalyType.CORRUPT_LINE, "file", f"detail {n}")
                for n in range(self.anomalies)
            ),
        )

    async def recover(self, config: PersistenceRecoveryConfig | None = None) -> PersistenceRecoveryReport:
        self.recovered_with.append(config)
        scan = await self.scan()
        if config is not None and config.mode in self.heals:
            self.anomalies = 0
        return PersistenceRecoveryReport(self.name, scan)


class Stuck(InMemoryPersistence):
    name = "stuck"

    async def scan(self) -> PersistenceScanReport:
        await anyio.sleep_forever()
        raise AssertionError


class Failing(InMemoryPersistence):
    async def scan(self) -> PersistenceScanReport:
        raise TimeoutError("the server did not answer")


def config(mode: str, **fields: object) -> PersistenceStartupConfig:
    return PersistenceStartupConfig(PersistenceStartupMode(mode), **fields)


async def test_ignore_does_not_even_look():
    backend = Damaged()
    check = await run_startup_check(backend, config("ignore"))
    assert check == StartupCheck(passed=True)
    assert backend.metrics.scans == 0
    check.raise_if_failed()


@pytest.mark.parametrize("mode", ["scan_only", "recover", "fail_on_anomaly"])
async def test_a_healthy_store_passes(mode):
    check = await run_startup_check(InMemoryPersistence(), config(mode))
    assert check.passed
    assert check.scan is not None
    assert not check.scan.has_anomalies
    assert (check.recovery, check.left) == (None, None)
    check.raise_if_failed()


async def test_scan_only_logs_what_it_finds_and_passes(caplog):
    with caplog.at_level(logging.WARNING, "papyra"):
        check = await run_startup_check(Damaged(anomalies=20), config("scan_only"))
    assert check.passed
    assert len(caplog.records) == 10
    assert "corrupt_line in file: detail 0" in caplog.text
    check.raise_if_failed()


async def test_fail_on_anomaly_fails_and_is_the_default():
    backend = Damaged(anomalies=5)
    check = await run_startup_check(backend, PersistenceStartupConfig())
    assert not check.passed
    assert backend.recovered_with == []
    with pytest.raises(RuntimeError, match=r"^Persistence anomalies detected in the damaged store") as caught:
        check.raise_if_failed()
    assert "corrupt_line in file (detail 2) and 2 more" in str(caught.value)
    assert "papyra persistence recover" in str(caught.value)


async def test_recover_repairs_by_default():
    backend = Damaged()
    check = await run_startup_check(backend, config("recover"))
    assert check.passed
    assert backend.recovered_with == [PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)]
    assert check.recovery is not None
    assert check.left == PersistenceScanReport("damaged")
    check.raise_if_failed()


async def test_recover_follows_its_mode():
    backend = Damaged()
    wanted = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE, "elsewhere")
    assert (await run_startup_check(backend, config("recover", recovery=wanted))).passed
    assert backend.recovered_with == [wanted]


async def test_recover_fails_if_damage_is_left():
    check = await run_startup_check(Damaged(heals=()), config("recover"))
    assert not check.passed
    with pytest.raises(RuntimeError, match="Persistence anomalies detected"):
        check.raise_if_failed()


async def test_running_out_of_time_is_a_failure():
    with anyio.fail_after(10), pytest.raises(RuntimeError, match=r"stuck store did not end within 0\.01 s"):
        await run_startup_check(Stuck(), config("scan_only", timeout_seconds=0.01))


@pytest.mark.parametrize("timeout", [None, 10.0])
async def test_a_timeout_of_the_backend_is_not_taken_for_ours(timeout):
    with pytest.raises(TimeoutError, match="the server did not answer"):
        await run_startup_check(Failing(), config("scan_only", timeout_seconds=timeout))


async def test_a_cancelled_check_is_cancelled():
    with anyio.move_on_after(0.01) as scope:
        await run_startup_check(Stuck(), config("scan_only", timeout_seconds=100))
    assert scope.cancelled_caught


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_must_be_above_zero(timeout):
    with pytest.raises(ValueError, match="timeout_seconds"):
        PersistenceStartupConfig(timeout_seconds=timeout)
