"""Guarantee 13: the store is checked before any actor can exist."""

from __future__ import annotations

import logging

import anyio
import pytest

from papyra import Actor, ActorSystem
from papyra.exceptions import SystemNotRunning
from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import (
    PersistenceAnomaly,
    PersistenceAnomalyType,
    PersistenceRecoveryConfig,
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra.persistence.startup import PersistenceStartupConfig, PersistenceStartupMode

from .support import running


class Fake(InMemoryPersistence):
    """Damaged until a recovery that heals."""

    def __init__(self, anomalies: int, *, heals: bool = True) -> None:
        super().__init__()
        self.anomalies = anomalies
        self.heals = heals
        self.calls: list[str] = []
        self.configs: list[PersistenceRecoveryConfig | None] = []

    async def scan(self) -> PersistenceScanReport:
        self.calls.append("scan")
        return PersistenceScanReport(
            "fake",
            tuple(
                PersistenceAnomaly(PersistenceAnomalyType.TORN_TAIL, "the/file", f"detail {number}")
                for number in range(self.anomalies)
            ),
        )

    async def recover(self, config: PersistenceRecoveryConfig | None = None) -> PersistenceRecoveryReport:
        self.calls.append("recover")
        self.configs.append(config)
        report = PersistenceRecoveryReport("fake", PersistenceScanReport("fake"))
        if self.heals:
            self.anomalies = 0
        return report


class Quiet(Actor):
    async def receive(self, message: object) -> object:
        return message


MODES = PersistenceStartupMode


@pytest.mark.parametrize(
    ("mode", "anomalies", "heals", "calls", "starts"),
    [
        (None, 1, True, [], True),
        (MODES.IGNORE, 1, True, [], True),
        (MODES.SCAN_ONLY, 0, True, ["scan"], True),
        (MODES.SCAN_ONLY, 1, True, ["scan"], True),
        (MODES.FAIL_ON_ANOMALY, 0, True, ["scan"], True),
        (MODES.FAIL_ON_ANOMALY, 5, True, ["scan"], False),
        (MODES.RECOVER, 0, True, ["scan"], True),
        (MODES.RECOVER, 5, True, ["scan", "recover", "scan"], True),
        (MODES.RECOVER, 5, False, ["scan", "recover", "scan"], False),
    ],
)
async def test_g13_each_mode(
    mode: PersistenceStartupMode | None, anomalies: int, heals: bool, calls: list[str], starts: bool
) -> None:
    store = Fake(anomalies, heals=heals)
    system = ActorSystem(persistence=store, persistence_startup=mode)
    assert store.calls == [], "nothing happens before start()"
    with anyio.fail_after(5):
        if starts:
            await system.start()
            assert await system.spawn(Quiet).ask(1) == 1
        else:
            with pytest.raises(RuntimeError, match=r"^Persistence anomalies detected") as caught:
                await system.start()
            assert "torn_tail in the/file (detail 0)" in str(caught.value)
            assert "2 more" in str(caught.value)
            with pytest.raises(SystemNotRunning):
                system.spawn(Quiet)
            assert system.list_actors() == []
            assert not store.closed
        assert store.calls == calls
        await system.aclose()
    assert store.closed


async def test_g13_async_with_raises_too_and_its_body_does_not_run() -> None:
    with anyio.fail_after(5), pytest.raises(RuntimeError, match="Persistence anomalies detected"):
        async with ActorSystem(persistence=Fake(1), persistence_startup=MODES.FAIL_ON_ANOMALY):
            raise AssertionError("the system runs")


async def test_g13_scan_only_logs_what_it_finds(caplog: pytest.LogCaptureFixture) -> None:
    async with running(persistence=Fake(2), persistence_startup=MODES.SCAN_ONLY):
        pass
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "detail 1" in warnings[1]


async def test_g13_a_recovery_config_alone_means_to_recover() -> None:
    store = Fake(1)
    config = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE, "here")
    async with running(persistence=store, persistence_recovery=config):
        pass
    assert store.configs == [config]


async def test_g13_the_recovery_config_joins_the_startup_config() -> None:
    config = PersistenceRecoveryConfig(PersistenceRecoveryMode.QUARANTINE)
    for startup in (MODES.RECOVER, PersistenceStartupConfig(MODES.RECOVER)):
        store = Fake(1)
        async with running(persistence=store, persistence_startup=startup, persistence_recovery=config):
            pass
        assert store.configs == [config]


async def test_g13_recover_without_a_config_repairs() -> None:
    store = Fake(1)
    async with running(persistence=store, persistence_startup=MODES.RECOVER):
        pass
    assert store.configs == [PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)]


async def test_g13_a_check_that_does_not_end_is_a_failure() -> None:
    class Stuck(Fake):
        async def scan(self) -> PersistenceScanReport:
            await anyio.sleep_forever()
            raise AssertionError

    config = PersistenceStartupConfig(MODES.FAIL_ON_ANOMALY, timeout_seconds=0.05)
    system = ActorSystem(persistence=Stuck(0), persistence_startup=config)
    with anyio.fail_after(5):
        with pytest.raises(RuntimeError, match="did not end within"):
            await system.start()
        await system.aclose()


async def test_g13_a_scan_that_raises_starts_nothing_and_can_be_tried_again() -> None:
    class Bad(Fake):
        bad = True

        async def scan(self) -> PersistenceScanReport:
            if self.bad:
                raise OSError("no such disk")
            return await super().scan()

    store = Bad(0)
    system = ActorSystem(persistence=store, persistence_startup=MODES.FAIL_ON_ANOMALY)
    with anyio.fail_after(5):
        with pytest.raises(OSError, match="no such disk"):
            await system.start()
        with pytest.raises(SystemNotRunning):
            system.spawn(Quiet)
        store.bad = False
        async with system:
            assert await system.spawn(Quiet).ask(1) == 1


async def test_g13_a_cancelled_start_starts_nothing_and_can_be_tried_again() -> None:
    class Slow(Fake):
        gate = anyio.Event()

        async def scan(self) -> PersistenceScanReport:
            await self.gate.wait()
            return await super().scan()

    store = Slow(0)
    store.gate = anyio.Event()
    system = ActorSystem(persistence=store, persistence_startup=MODES.SCAN_ONLY)
    with anyio.fail_after(5):
        with anyio.move_on_after(0.01) as scope:
            await system.start()
        assert scope.cancelled_caught
        store.gate.set()
        async with system:
            assert await system.spawn(Quiet).ask(1) == 1


async def test_g13_two_starts_at_once_check_once() -> None:
    store = Fake(0)
    system = ActorSystem(persistence=store, persistence_startup=MODES.SCAN_ONLY)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(system.start)
            tasks.start_soon(system.start)
        assert store.calls == ["scan"]
        await system.aclose()


async def test_g13_a_closed_store_starts_nothing() -> None:
    store = InMemoryPersistence()
    await store.aclose()
    with pytest.raises(SystemNotRunning, match="closed"):
        await ActorSystem(persistence=store).start()


async def test_g13_the_mode_may_be_given_as_a_word() -> None:
    async with ActorSystem(persistence_startup="scan_only"):  # type: ignore[arg-type]  # untyped callers write it so
        pass
    with pytest.raises(ValueError, match="not a valid PersistenceStartupMode"):
        ActorSystem(persistence_startup="repair")  # type: ignore[arg-type]  # as above
