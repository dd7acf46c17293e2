"""Copy records from one store to another in order, resume after an interruption, and check the result."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from papyra.persistence import PersistenceBackend, Query
from papyra_cli._errors import Failure
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.json import as_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from papyra.persistence.models import PersistedRecord, PersistenceScanReport
    from papyra_cli._output.progress import Gauge
    from papyra_cli._store.session import OpenStore

__all__ = ["CopyReport", "check_copy", "copy_records", "is_empty"]

_BATCH_RECORDS = 500


@dataclass(slots=True)
class CopyReport:
    """The result of a copy and of its check; field names are the keys of the JSON.

    ``already_there`` counts the records that an interrupted copy had left in the target.
    """

    copied: int = 0
    already_there: int = 0
    target_records_before: int = 0
    target_records: int = 0
    first_timestamp: float | None = None
    last_timestamp: float | None = None
    source_scan: PersistenceScanReport | None = None
    target_scan: PersistenceScanReport | None = None
    problem: str = ""

    def add(self, record: PersistedRecord) -> None:
        """Note the time of a record of the source."""
        if self.first_timestamp is None:
            self.first_timestamp = record.timestamp
        self.last_timestamp = record.timestamp

    @property
    def ok(self) -> bool:
        """Whether the copy is complete and neither store is damaged."""
        scans = (self.source_scan, self.target_scan)
        return not self.problem and not any(scan is not None and scan.has_anomalies for scan in scans)


async def copy_records(
    source: OpenStore, target: OpenStore, until: float | None, *, append: bool, gauge: Gauge
) -> CopyReport:
    """Append the records of ``source`` to ``target``, without those that an interrupted copy has left there.

    Records after the Unix time ``until`` are left out. Without ``append``, a target that holds anything but
    the beginning of the source is a `Failure`, and nothing is changed.
    """
    report = CopyReport()
    keys = [_key(record) async for record in _each(target.backend, None)]
    report.target_records_before = len(keys)
    if append:
        report.already_there = await _overlap(source.backend, until, keys)
    else:
        await _check_beginning(source.backend, until, keys)
        report.already_there = len(keys)
    skip = report.already_there
    batch: list[PersistedRecord] = []
    async with aclosing(_each(source.backend, until)) as records:
        async for record in records:
            report.add(record)
            gauge.records += 1
            if skip:
                skip -= 1
                continue
            batch.append(record)
            if len(batch) == _BATCH_RECORDS:
                await _write(target.backend, batch, report)
    await _write(target.backend, batch, report)
    await target.backend.flush()
    return report


async def check_copy(
    source: OpenStore, target: OpenStore, report: CopyReport, *, whole: bool = False
) -> None:
    """Scan both stores, and compare the number of records, the first and the last.

    With ``whole`` the backend has copied its files, and the source may have grown since: only the first is
    compared.
    """
    report.source_scan = await source.scan("checking the source")
    report.target_scan = await target.scan("checking the target")
    first, last = await _count(target.backend, report)
    if whole:
        report.copied = report.target_records
        report.last_timestamp = last
        async with aclosing(_each(source.backend, None)) as records:
            async for record in records:
                report.first_timestamp = record.timestamp
                break
    expected = report.target_records_before + report.copied
    if report.target_records != expected:
        report.problem = f"the target has {report.target_records:,} records in place of {expected:,}"
    elif report.copied and last != report.last_timestamp:
        report.problem = "the last record of the target is not that of the source"
    elif report.target_records_before == 0 and first != report.first_timestamp:
        report.problem = "the first record of the target is not that of the source"


async def _count(backend: PersistenceBackend, report: CopyReport) -> tuple[float | None, float | None]:
    """Count the records of the target, and return the times of the first and the last."""
    first = last = None
    async with aclosing(_each(backend, None)) as records:
        async for record in records:
            report.target_records += 1
            first = record.timestamp if first is None else first
            last = record.timestamp
    return first, last


async def is_empty(backend: PersistenceBackend) -> bool:
    """Return whether a store holds no record."""
    async with aclosing(backend.stream()) as records:
        async for _ in records:
            return False
    return True


async def _write(backend: PersistenceBackend, batch: list[PersistedRecord], report: CopyReport) -> None:
    if batch:
        await backend.record_batch(batch)
        report.copied += len(batch)
        batch.clear()


async def _each(backend: PersistenceBackend, until: float | None) -> AsyncGenerator[PersistedRecord]:
    """Yield the records up to the Unix time ``until`` in the order of writing, page by page."""
    query: Query[PersistedRecord] = Query(until=until)
    if type(backend).page is PersistenceBackend.page:  # each of its pages would read the whole store
        newest_first = [record async for record in backend.stream(until=until)]
        for record in reversed(newest_first):
            yield record
        return
    page = await backend.page(query)
    while page.records:
        for record in page.records:
            yield record
        page = await backend.page(query, after=page.cursor)


async def _check_beginning(source: PersistenceBackend, until: float | None, keys: list[bytes]) -> None:
    """Raise `Failure` unless the target, whose records have these keys, holds the beginning of the source."""
    matched = 0
    async with aclosing(_each(source, until)) as records:
        async for record in records:
            if matched == len(keys) or _key(record) != keys[matched]:
                break
            matched += 1
    if matched < len(keys):
        raise Failure(
            f"the target holds {len(keys):,} records, and they are not the beginning of the source. Nothing was changed: "
            "choose an empty target, or give --append to add to it",
            ExitCode.NO,
        )


async def _overlap(source: PersistenceBackend, until: float | None, keys: list[bytes]) -> int:
    """Return how many of the source's first records the target has.

    They are at the end of the target, or they are the whole source, and are in the target in one piece.
    """
    alive: list[int] = []  # positions in the target at which the source may begin
    index, longest = 0, 0
    async with aclosing(_each(source, until)) as records:
        async for record in records:
            if index == len(keys):
                break
            key = _key(record)
            candidates = alive if index else range(len(keys))
            alive = [
                start for start in candidates if start + index < len(keys) and keys[start + index] == key
            ]
            index += 1
            if any(start + index == len(keys) for start in alive):
                longest = index
            if not alive:
                return longest
    return max(longest, index) if alive else longest


def _key(record: PersistedRecord) -> bytes:
    """Return a digest of a record's content, the same whichever store it comes from."""
    content = json.dumps([type(record).__name__, as_json(record)], sort_keys=True)
    return blake2b(content.encode(), digest_size=16).digest()
