"""What holds for scans and repairs, in a store that is in order and in one that is not."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio.to_thread
import pytest

from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import event, mixed, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from papyra.testing._conformance.base import OpenBackend

__all__ = ["DamagePromises"]

_REPAIRING = [PersistenceRecoveryMode.REPAIR, PersistenceRecoveryMode.QUARANTINE]


class DamagePromises(ConformanceBase):
    """A scan changes nothing, nor does a dry run.

    A recovery keeps every record and leaves nothing to repair.
    """

    async def test_a_healthy_store_scans_clean(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            empty = await backend.scan()
            await backend.record_batch(mixed(50))
            written = backend.metrics.snapshot()["records_written"]
            full = await backend.scan()
            assert (empty.backend, full.backend) == (backend.name, backend.name)
            assert (empty.anomalies, full.anomalies) == ((), ())
            assert await stored(backend) == mixed(50)
            assert backend.metrics.snapshot()["records_written"] == written

    @pytest.mark.parametrize("dry_run", [False, True], ids=["in-earnest", "dry-run"])
    @pytest.mark.parametrize("mode", [None, *PersistenceRecoveryMode])
    async def test_recovering_a_healthy_store_changes_nothing(
        self, open_backend: OpenBackend, mode: PersistenceRecoveryMode | None, dry_run: bool, tmp_path: Path
    ) -> None:
        quarantine = tmp_path / "conformance-quarantine"
        config = None if mode is None else PersistenceRecoveryConfig(mode, quarantine)
        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(10))
            report = await (backend.recover(config, dry_run=True) if dry_run else backend.recover(config))
            assert report.backend == backend.name
            assert not report.scan.has_anomalies
            assert (report.repaired_files, report.quarantined_files) == ((), ())
            assert not quarantine.exists()
            await backend.record_event(event(10))
            assert await stored(backend) == [*mixed(10), event(10)]

    # -- damage, where the author says how

    @pytest.fixture
    async def damaged(
        self, open_backend: OpenBackend, damage_store: Callable[[], object] | None
    ) -> OpenBackend:
        """Open a store with 20 records and damage."""
        await _damaged(self, open_backend, damage_store)
        return open_backend

    async def test_a_scan_finds_damage_and_changes_nothing(self, damaged: OpenBackend) -> None:
        async with self.using(damaged()) as backend:
            first = await backend.scan()
            assert first.backend == backend.name
            assert first.has_anomalies
            assert backend.metrics.snapshot()["anomalies_detected"] == len(first.anomalies)
            assert await stored(backend) == mixed(20)
            assert await backend.scan() == first
        async with self.using(damaged()) as backend:
            assert await backend.scan() == first

    @pytest.mark.parametrize("mode", PersistenceRecoveryMode)
    async def test_a_dry_run_of_a_recovery_changes_nothing(
        self, damaged: OpenBackend, mode: PersistenceRecoveryMode, tmp_path: Path
    ) -> None:
        quarantine = tmp_path / "conformance-quarantine"
        async with self.using(damaged()) as backend:
            before = await backend.scan()
            report = await backend.recover(PersistenceRecoveryConfig(mode, quarantine), dry_run=True)
            assert report.scan == before
            assert bool(report.repaired_files) == (mode in _REPAIRING)
            assert not quarantine.exists()
            assert await backend.scan() == before
            assert await stored(backend) == mixed(20)

    @pytest.mark.parametrize("mode", [None, PersistenceRecoveryMode.IGNORE])
    async def test_a_recovery_that_may_not_repair_changes_nothing(
        self, damaged: OpenBackend, mode: PersistenceRecoveryMode | None
    ) -> None:
        async with self.using(damaged()) as backend:
            before = await backend.scan()
            report = await backend.recover(None if mode is None else PersistenceRecoveryConfig(mode))
            assert report.scan == before
            assert (report.repaired_files, report.quarantined_files) == ((), ())
            assert await backend.scan() == before

    async def test_what_a_recovery_drops_is_in_the_quarantine(
        self,
        open_backend: OpenBackend,
        damage_store: Callable[[], object] | None,
        read_quarantine: Callable[[Sequence[str]], bytes],
        tmp_path: Path,
    ) -> None:
        """All of it, if the fixture damage_store returns the damaged bytes."""
        damaged = await _damaged(self, open_backend, damage_store)
        config = PersistenceRecoveryConfig(
            PersistenceRecoveryMode.QUARANTINE, tmp_path / "conformance-quarantine"
        )
        async with self.using(open_backend()) as backend:
            report = await backend.recover(config)
            assert report.quarantined_files, "the damage is gone, and no quarantine has it"
            kept = await anyio.to_thread.run_sync(read_quarantine, report.quarantined_files)
        assert kept
        for piece in damaged:
            assert piece in kept, "a part of the damage is not in the quarantine"

    @pytest.mark.parametrize("mode", _REPAIRING)
    async def test_a_recovery_keeps_every_record_and_leaves_nothing_to_repair(
        self, damaged: OpenBackend, mode: PersistenceRecoveryMode, tmp_path: Path
    ) -> None:
        config = PersistenceRecoveryConfig(mode, tmp_path / "conformance-quarantine")
        async with self.using(damaged()) as backend:
            before = await backend.scan()
            report = await backend.recover(config)
            assert report.scan == before
            assert report.repaired_files
            assert not (await backend.scan()).has_anomalies
            assert await stored(backend) == mixed(20)
            again = await backend.recover(config)
            assert (again.scan.anomalies, again.repaired_files, again.quarantined_files) == ((), (), ())
            await backend.record_event(event(20))
        async with self.using(damaged()) as backend:
            assert not (await backend.scan()).has_anomalies
            assert await stored(backend) == [*mixed(20), event(20)]


async def _damaged(
    test: ConformanceBase, open_backend: OpenBackend, damage_store: Callable[[], object] | None
) -> list[bytes]:
    """Record 20 facts and damage the store; return the damaged bytes, if the function returns them."""
    if damage_store is None:
        pytest.skip("the fixture damage_store does not say how to damage the store")
    async with test.using(open_backend()) as backend:
        await backend.record_batch(mixed(20))
    told = cast("Callable[[], bytes | list[bytes] | None]", damage_store)()
    if isinstance(told, bytes):
        return [told]
    return told if isinstance(told, list) else []  # it may return anything else, such as a count
