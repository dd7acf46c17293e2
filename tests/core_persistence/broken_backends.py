"""Backends that each break one promise of the contract.

A class is named for the conformance test that must catch it, and behind two underscores for how it is broken.
Copied beside the tests that a process of its own runs; see test_conformance_catches.py.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
import unicodedata
from collections import deque
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel

from papyra.exceptions import BackendURLError, PartialWriteError, PersistenceError, StoreFull
from papyra.persistence import InMemoryPersistence, Page, RetentionPolicy
from papyra.persistence.models import (
    CompactionReport,
    PersistedEvent,
    PersistenceAnomaly,
    PersistenceAnomalyType,
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)

DAMAGE = PersistenceAnomaly(PersistenceAnomalyType.CORRUPT_LINE, "disk", "not a record")


class Sound(InMemoryPersistence):
    """Keeps every promise there is: what the others break."""

    durable = True
    patience = 10.0
    smoke_records = 0

    def __init__(self, retention_policy=None, disk=None):
        super().__init__(retention_policy)
        self.disk = {"records": [], "damage": []} if disk is None else disk
        self._records.extend(self.disk["records"])

    async def record_batch(self, records, *, batch_id=None):
        if self.disk.get("full"):
            raise StoreFull("no room")
        await super().record_batch(records)

    async def aclose(self):
        if not self._closed:
            self.disk["records"] = list(self._records)
        await super().aclose()

    async def scan(self, *, progress=None):
        self._refuse_if_closed()
        await self._tell(progress)
        self.metrics.scans += 1
        self.metrics.anomalies_detected += len(self.disk["damage"])
        return PersistenceScanReport(self.name, tuple(self.disk["damage"]))

    async def recover(self, config=None, *, dry_run=False, progress=None):
        report = await self.scan()
        mode = config.mode if config else PersistenceRecoveryMode.IGNORE
        if not report.has_anomalies or mode is PersistenceRecoveryMode.IGNORE:
            return PersistenceRecoveryReport(self.name, report)
        if dry_run:
            return PersistenceRecoveryReport(self.name, report, ("disk",))
        self.disk["damage"] = []
        return PersistenceRecoveryReport(self.name, report, ("disk",), self._quarantined(config))

    def _quarantined(self, config):
        if config.mode is not PersistenceRecoveryMode.QUARANTINE:
            return ()
        folder = Path(config.quarantine_dir)
        folder.mkdir(exist_ok=True)
        (folder / "damage").write_bytes(b"damage")
        return (str(folder / "damage"),)

    async def compact(self, *, dry_run=False, progress=None):
        self._refuse_if_closed()
        await self._tell(progress)
        return await super().compact(dry_run=dry_run)

    async def _tell(self, progress):
        for done in range(11):
            await anyio.lowlevel.checkpoint()
            if progress is not None:
                progress(done, 10)


class FakeWire:
    """What `papyra.testing.Wire` does, where nothing is on a network."""

    def __init__(self):
        self.messages = self.cuts = self.at = 0

    @contextmanager
    def cut_at(self, message):
        self.at = self.messages + message
        try:
            yield
        finally:
            self.at = 0

    def lets_through(self):
        self.messages += 1
        cut = self.messages == self.at
        self.cuts += cut
        return not cut


class SoundServer(Sound):
    """A client of a store on a server, which can be restarted, cut off and stalled."""

    on_server = True
    timeout = 0.1
    away = None  # or what a connection fails with

    def __init__(self, retention_policy=None, disk=None):
        super().__init__(retention_policy, disk)
        self.connected_to = self.server["epoch"]

    @classmethod
    def from_parsed_url(cls, url, retention, options):
        made = cls(retention)
        if url.host:
            made.away = PersistenceError(f"no server at {url}", retry=True)
        return made

    @property
    def server(self):
        return self.disk.setdefault(
            "server", {"epoch": 0, "ids": set(), "stalled": False, "wire": FakeWire()}
        )

    async def _reach(self):
        if self.away:
            raise self.away
        if self.server["stalled"]:
            await anyio.sleep(self.timeout)
            raise self._lost("no answer")
        if not self.server["wire"].lets_through():
            raise self._lost("the connection was cut")
        if self.connected_to != self.server["epoch"]:
            self.connected_to = self.server["epoch"]
            raise self._lost("the connection was lost")

    def _lost(self, why):
        return PersistenceError(why, retry=True)

    async def open(self):
        await self._reach()
        await super().open()

    async def record_batch(self, records, *, batch_id=None):
        try:
            await self._reach()
            if batch_id is None or not self._has(batch_id):
                await super().record_batch(records)
                self._keep(batch_id)
            await anyio.sleep(0.002)
            await self._reach()  # else the answer is lost on its way
        except PersistenceError:
            self.metrics.write_errors += 1
            raise

    def _has(self, batch_id):
        return batch_id in self.server["ids"]

    def _keep(self, batch_id):
        self.server["ids"].add(batch_id)

    async def select(self, query):
        if self.away:
            raise self.away
        return await super().select(query)

    async def ping(self):
        await self._reach()
        await super().ping()


class Hangs(Sound):
    """Is broken so that its test would wait for ever."""

    patience = 0.3


# -- writing


class any_json_comes_back(Sound):
    async def record_batch(self, records):
        await super().record_batch(
            [replace(one, payload={}) if isinstance(one, PersistedEvent) else one for one in records]
        )


class any_text_comes_back__composed(Sound):
    async def record_batch(self, records):
        def composed(one):
            return replace(one, system_id=unicodedata.normalize("NFC", one.system_id))

        await super().record_batch([composed(one) for one in records])


class any_text_comes_back__cut_at_nul(Sound):
    async def list_events(self, *, actor=None, **filters):
        return await super().list_events(actor=actor and actor.partition("\0")[0], **filters)


class a_batch_is_stored_in_its_order(Sound):
    async def record_batch(self, records):
        await super().record_batch(sorted(records, key=lambda one: type(one).__name__))
        self._records.reverse()


class the_order_is_that_of_recording(Sound):
    async def list_events(self, **filters):
        return sorted(await super().list_events(**filters), key=lambda one: one.timestamp)


class equal_records_are_each_stored(Sound):
    async def record_batch(self, records):
        await super().record_batch([one for one in records if one not in self._records])


class harms_no_other_record(Sound):
    async def list_events(self, **filters):
        found = await super().list_events(**filters)
        [key.encode() for one in found for key in (one.event_type, *one.payload)]
        return found


class one_that_cannot_be_stored(Sound):
    async def record_batch(self, records):
        for one in records:
            if isinstance(one, PersistedEvent) and "odd" in one.payload:
                raise OSError("no JSON")
            await super().record_batch([one])


class one_that_cannot_be_stored__commits_by_the_hundred(Sound):
    async def record_batch(self, records, *, batch_id=None):
        for first in range(0, len(records), 100):
            part = records[first : first + 100]
            json.dumps(
                [one.payload if isinstance(one, PersistedEvent) else None for one in part], default=repr
            )
            await super().record_batch(part)


class one_that_cannot_be_stored__counts_the_whole_batch(Sound):
    left_out = 0

    async def record_batch(self, records, *, batch_id=None):
        sound = [one for one in records if not isinstance(one, PersistedEvent) or "odd" not in one.payload]
        await super().record_batch(sound[self.left_out :])
        raise PartialWriteError(1 if self.left_out else len(records), len(records))


class one_that_cannot_be_stored__loses_its_neighbour(one_that_cannot_be_stored__counts_the_whole_batch):
    left_out = 1


class a_full_store__raises_another_error_for_each_record(Sound):
    async def record_batch(self, records):  # and knows no batch_id
        if self.disk.get("full"):
            raise PartialWriteError(len(records), len(records)) from OSError("no room")
        await super().record_batch(records)


class a_full_store__keeps_a_part(Sound):
    async def record_batch(self, records, *, batch_id=None):
        if self.disk.get("full"):
            self._records.extend(records[:9])
        await super().record_batch(records)


class a_full_store__raises_another_error(Sound):
    async def record_batch(self, records, *, batch_id=None):
        try:
            await super().record_batch(records)
        except StoreFull as error:
            raise PersistenceError("the disk is full", retry=True) from error


class records_from_many_tasks(Sound):
    async def record_event(self, event):
        seen = list(self._records)
        await anyio.lowlevel.checkpoint()
        self._records.clear()
        self._records.extend([*seen, event])
        self.metrics.records_written += 1


# -- cancelling


class a_cancelled_write__tears_a_record(Sound):
    async def record_batch(self, records):
        for one in records:
            if isinstance(one, PersistedEvent) and len(records) == 20:
                self._records.append(replace(one, payload={}))
                await anyio.lowlevel.checkpoint()
                self._records.pop()
            await super().record_batch([one])


class a_cancelled_write__doubles_on_retry(Sound):
    async def record_batch(self, records):
        await super().record_batch(records)
        try:
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class():
            await super().record_batch(records)
            raise


class a_cancelled_write__keeps_the_lock(Hangs):
    locked = False

    async def record_batch(self, records):
        while self.locked:  # noqa: ASYNC110 - as broken code may do
            await anyio.sleep(0.01)
        self.locked = True
        await anyio.lowlevel.checkpoint()
        await super().record_batch(records)
        self.locked = False


class a_cancelled_call__cannot_be_cancelled(Hangs):
    async def flush(self):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.4)


class a_cancelled_call__loses_what_it_moves(Sound):
    async def compact(self, *, dry_run=False, progress=None):
        kept, self._records = self._records, deque()
        await anyio.lowlevel.checkpoint()
        self._records = kept
        return await super().compact(dry_run=dry_run)


class a_cancelled_close(Sound):
    async def aclose(self):
        if self._closed:
            return
        records, self._closed = list(self._records), True
        await anyio.lowlevel.checkpoint()
        self.disk["records"] = records


class reads_and_care_beside_writes(Sound):
    async def compact(self, *, dry_run=False, progress=None):
        kept = list(self._records)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self._records.clear()
        self._records.extend(kept)
        return await super().compact(dry_run=dry_run)


# -- reading


class limit_takes_the_newest(Sound):
    async def list_events(self, *, limit=None, **filters):
        return (await super().list_events(**filters))[:limit]


class limit_counts_what_matches(Sound):
    async def list_events(self, *, limit=None, **filters):
        newest = await super().list_events(limit=limit)
        return [one for one in await super().list_events(**filters) if one in newest]


class limit_zero(Sound):
    async def list_audits(self, *, limit=None, **filters):
        return await super().list_audits(limit=limit or None, **filters)


class a_negative_limit(Sound):
    async def list_dead_letters(self, *, limit=None, **filters):
        return await super().list_dead_letters(limit=None if limit is None else abs(limit), **filters)


class since_and_until_are_inclusive__until(Sound):
    async def list_events(self, *, until=None, **filters):
        until = None if until is None else math.nextafter(until, -math.inf)
        return await super().list_events(until=until, **filters)


class since_and_until_are_inclusive__since(Sound):
    async def list_audits(self, *, since=None, **filters):
        since = None if since is None else math.nextafter(since, math.inf)
        return await super().list_audits(since=since, **filters)


class events_are_found_by_type_and_actor(Sound):
    async def list_events(self, *, actor=None, **filters):
        return await super().list_events(actor=actor or None, **filters)


class dead_letters_are_found_by_type_and_target(Sound):
    async def list_dead_letters(self, *, message_type=None, **filters):
        found = await super().list_dead_letters(**filters)
        return [one for one in found if message_type in (None, "%", one.message_type)]


# -- streams and following


class a_stream_yields__oldest_first(Sound):
    async def stream(self, *, since=None, until=None):
        for record in await self._newest(None):
            yield record


class a_stream_keeps_the_order(Sound):
    async def stream(self, *, since=None, until=None):
        for record in sorted(await self._newest(None), key=lambda one: -one.timestamp):
            yield record


class a_stream_begins_and_ends(Sound):
    async def stream(self, *, since=None, until=None):
        async for record in super().stream(since=since, until=until):
            if record.timestamp != until:
                yield record


class a_stream_holds_to_retention(Sound):
    def __init__(self, retention_policy=None, disk=None):
        super().__init__(retention_policy, disk)
        self.all = []

    async def record_batch(self, records):
        await super().record_batch(records)
        self.all += records

    async def stream(self, *, since=None, until=None):
        for record in reversed(self.all):
            if (since is None or record.timestamp >= since) and (until is None or record.timestamp <= until):
                yield record


class a_stream_that_is_left_early(Hangs):
    streaming = False

    async def stream(self, *, since=None, until=None):
        while self.streaming:  # noqa: ASYNC110 - as broken code may do
            await anyio.sleep(0.01)
        self.streaming = True
        async for record in super().stream(since=since, until=until):
            yield record
        self.streaming = False


class a_stream_misses_nothing(Sound):
    async def stream(self, *, since=None, until=None):
        for place in range(1, len(self._records) + 1):
            yield self._records[-place]


class following_yields_the_newest__misses_some(Hangs):
    async def follow(self, *, limit=0, wanted=None):
        async for record in super().follow(limit=limit, wanted=wanted):
            if record.timestamp % 16 != 12:
                yield record


class following_yields_the_newest__doubles_some(Sound):
    async def follow(self, *, limit=0, wanted=None):
        async for record in super().follow(limit=limit, wanted=wanted):
            yield record
            if record.timestamp % 16 == 0:
                yield record


class following_yields_equal_records(Hangs):
    async def follow(self, *, limit=0, wanted=None):
        seen = []
        async for record in super().follow(limit=limit, wanted=wanted):
            if record not in seen:
                seen.append(record)
                yield record


class following_without_a_limit(Sound):
    async def follow(self, *, limit=0, wanted=None):
        async for record in super().follow(limit=limit or 1000, wanted=wanted):
            yield record


class following_counts_and_yields_only_what_is_wanted(Hangs):
    async def follow(self, *, limit=0, wanted=None):
        async for record in super().follow(limit=limit):
            if wanted is None or wanted(record):
                yield record


class following_goes_on_through_a_compaction(Hangs):
    began = 0

    async def compact(self, *, dry_run=False, progress=None):
        self.began += 1
        return await super().compact(dry_run=dry_run)

    async def follow(self, *, limit=0, wanted=None):
        while not self.closed:
            began = self.began
            async with aclosing(super().follow(limit=limit, wanted=wanted)) as records:
                async for record in records:
                    yield record
                    if began != self.began:
                        break  # and begin anew, with what was shown


class following_may_be_cancelled__doubles_the_newest(Sound):
    async def follow(self, query=None, *, limit=0, wanted=None):
        async for record in super().follow(query, limit=limit, wanted=wanted):
            yield record
            yield record


class following_ends(Hangs):
    async def follow(self, *, limit=0, wanted=None):
        async for record in super().follow(limit=limit, wanted=wanted):
            yield record
        await anyio.sleep_forever()


class following_a_negative_number(Hangs):
    async def follow(self, *, limit=0, wanted=None):
        async for record in super().follow(limit=max(limit, 0) or 1, wanted=wanted):
            yield record


# -- retention


class count_holds_for_all_kinds(Sound):
    """Retention only at a compaction."""

    def __init__(self, retention_policy=None, disk=None):
        super().__init__(retention_policy, disk)
        self._records = deque(self._records)

    def _newest_first(self):
        return reversed(self._records)


class age_is_applied_before_count(Sound):
    def _kept(self):
        policy = self.retention
        newest = RetentionPolicy(policy.max_records).newest_kept(reversed(self._records), 0.0, len)
        return replace(policy, max_records=None).newest_kept(newest, self.time_fn(), lambda _: 1)


class age_follows_the_clock(Sound):
    def _kept(self):
        return self.retention.newest_kept(reversed(self._records), 1.7e9, lambda _: 1)


class bytes_keep_the_newest(Sound):
    def _kept(self):
        return replace(self.retention, max_total_bytes=None).newest_kept(
            reversed(self._records), self.time_fn(), lambda _: 1
        )


class a_dry_run_tells(Sound):
    async def compact(self, *, dry_run=False, progress=None):
        return await super().compact()


class a_compaction_removes(Sound):
    async def compact(self, *, dry_run=False, progress=None):
        report = await super().compact(dry_run=dry_run)
        return replace(report, after_records=report.before_records)


class a_compaction_of_many_records__a_page_at_most(Sound):
    """Removes the oldest thousand, and leaves what else is too old or too much."""

    def __init__(self, retention_policy=None, disk=None):
        super().__init__(retention_policy, disk)
        self.found = list(self.disk["records"])

    async def aclose(self):
        few = self._closed or len(self.found) - len(self._records) <= 1000
        await super().aclose()
        if not few:
            self.disk["records"] = self.found[1000:]


# -- damage


class a_healthy_store_scans_clean__alarmed(Sound):
    async def scan(self, *, progress=None):
        return replace(await super().scan(), anomalies=(DAMAGE,))


class a_healthy_store_scans_clean__writes(Sound):
    async def scan(self, *, progress=None):
        await self.record_event(PersistedEvent("local", "local:0", "Scanned", {}, 0.0))
        self._records.pop()
        return await super().scan()


class recovering_a_healthy_store(Sound):
    async def recover(self, config=None, *, dry_run=False, progress=None):
        return replace(await super().recover(config), repaired_files=("all of them",))


class a_scan_finds_damage__blind(Sound):
    async def scan(self, *, progress=None):
        return replace(await super().scan(), anomalies=())


class a_scan_finds_damage__repairs(Sound):
    async def scan(self, *, progress=None):
        report = await super().scan()
        self.disk["damage"] = []
        return report


class a_dry_run_of_a_recovery(Sound):
    async def recover(self, config=None, *, dry_run=False, progress=None):
        return await super().recover(config)


class a_recovery_that_may_not_repair(Sound):
    async def recover(self, config=None, *, dry_run=False, progress=None):
        self.disk["damage"] = []
        return await super().recover(config)


class a_recovery_keeps_every_record__loses_one(Sound):
    async def recover(self, config=None, *, dry_run=False, progress=None):
        self._records.pop()
        return await super().recover(config)


class a_recovery_keeps_every_record__leaves_damage(Sound):
    async def recover(self, config=None, *, dry_run=False, progress=None):
        return await super().recover(config, dry_run=True)


# -- care


class after_closing_every_call_is_refused__flush(Sound):
    async def flush(self):
        pass


class after_closing_every_call_is_refused__swallowed(Sound):
    async def list_events(self, **filters):
        try:
            return await super().list_events(**filters)
        except PersistenceError:
            return []


class after_closing_every_call_is_refused__stream(Sound):
    async def stream(self, *, since=None, until=None):
        for record in reversed(self._records):
            yield record


class closing_twice(Sound):
    async def aclose(self):
        self._refuse_if_closed()
        await super().aclose()


class reopening_shows(InMemoryPersistence):
    durable, patience, smoke_records = True, 10.0, 0

    def __init__(self, retention_policy=None, disk=None):
        super().__init__(retention_policy)


class the_counters_count__too_much(Sound):
    async def record_audit(self, audit):
        await super().record_audit(audit)
        self.metrics.records_written += 1


class the_counters_count__too_little(Sound):
    async def scan(self, *, progress=None):
        return PersistenceScanReport(self.name)


class progress_goes_up__and_down(Sound):
    async def _tell(self, progress):
        for done in (5, 4, 10):
            progress and progress(done, 10)


class progress_goes_up__not_to_the_end(Sound):
    async def compact(self, *, dry_run=False, progress=None):
        progress and progress(9, 10)
        return await super().compact(dry_run=dry_run)


class what_progress_raises(Sound):
    async def _tell(self, progress):
        with suppress(InterruptedError):
            await super()._tell(progress)


class a_new_backend_is_open_and_healthy(Sound):
    healthy = False


class the_class_can_stand_behind_an_entry_point(Sound):
    papyra_api = "2.0"


class a_url_opens_the_backend(Sound):
    @classmethod
    def from_url(cls, url):
        return cls()


class a_mistake_in_a_url(Sound):
    @classmethod
    def from_url(cls, url):
        return super().from_url(url.replace("no_such_option=1", ""))


class a_large_store(Sound):
    smoke_records = 12_000

    async def record_batch(self, records):
        await super().record_batch(records)
        while len(self._records) > 11_000:
            self._records.popleft()


class a_large_store__counts_wrong(Sound):
    smoke_records = 1_000

    async def compact(self, *, dry_run=False, progress=None):
        return CompactionReport(self.name, 1, 1, None, None)


# -- servers, processes and pages


class a_batch_that_is_offered_again__retries_blindly(SoundServer):
    def _has(self, batch_id):
        return False


class a_batch_that_is_offered_again__knows_the_last_id_alone(SoundServer):
    def _keep(self, batch_id):
        if batch_id:
            self.server["ids"] = {batch_id}


class a_batch_that_is_offered_again__keeps_ten_ids(SoundServer):
    def _has(self, batch_id):
        return batch_id in self.disk.get("newest", ())

    def _keep(self, batch_id):
        self.disk["newest"] = [*self.disk.get("newest", ()), batch_id][-10:]


class an_answer_that_is_lost__gives_its_batch_up(SoundServer):
    def _lost(self, why):
        return PersistenceError(why)


class a_stalled_store__gives_its_batch_up(SoundServer):
    def _lost(self, why):
        return PersistenceError(why, retry=self.server["stalled"] is False)


class a_wire_that_is_cut_at_any_message__commits_each_record(SoundServer):
    """With an id of its own each, so that a batch that is offered again is stored once all the same."""

    async def record_batch(self, records, *, batch_id=None):
        for number, record in enumerate(records):
            await super().record_batch([record], batch_id=batch_id and f"{batch_id}:{number}")


class a_wire_that_is_cut_leaves__commits_a_thousand_at_a_time(SoundServer):
    async def record_batch(self, records, *, batch_id=None):
        for first in range(0, len(records), 1000):
            part_id = batch_id and f"{batch_id}:{first}"
            await super().record_batch(records[first : first + 1000], batch_id=part_id)


class the_password_of_a_url__in_a_drivers_error(SoundServer):
    @classmethod
    def from_parsed_url(cls, url, retention, options):
        made = super().from_parsed_url(url, retention, options)
        if made.away:
            made.away.__cause__ = OSError(f"can't connect to {url.user}:{url.password}@{url.host}")
        return made


class the_password_of_a_url__in_a_log(SoundServer):
    @classmethod
    def from_parsed_url(cls, url, retention, options):
        logging.getLogger("driver").debug("opening %s", url.text)
        return super().from_parsed_url(url, retention, options)


class the_password_of_a_url__in_an_error_of_its_options(Sound):
    @classmethod
    def from_url(cls, url):
        try:
            return super().from_url(url)
        except BackendURLError as error:
            raise BackendURLError(f"{url}: {error}") from None


class the_password_of_a_url__in_an_error_of_a_missing_option(SoundServer):
    @classmethod
    def from_parsed_url(cls, url, retention, options):
        raise BackendURLError(f"{url.text} needs the option 'realm'")


class an_answer_that_is_lost__retries_blindly(SoundServer):
    def _has(self, batch_id):
        return False


class a_store_that_was_restarted__never_reconnects(SoundServer):
    patience = 0.5

    async def _reach(self):
        if self.connected_to != self.server["epoch"]:
            raise PersistenceError("the connection was lost", retry=True)


class a_stalled_store__raises_its_drivers_error(SoundServer):
    async def record_batch(self, records, *, batch_id=None):
        try:
            await super().record_batch(records, batch_id=batch_id)
        except PersistenceError as error:
            raise TimeoutError("the driver says") from error


class a_stalled_store__does_not_count(SoundServer):
    async def record_batch(self, records, *, batch_id=None):
        errors = self.metrics.write_errors
        try:
            await super().record_batch(records, batch_id=batch_id)
        finally:
            self.metrics.write_errors = errors


class a_call_to_a_stalled_store__cannot_be_cancelled(SoundServer):
    patience = 0.5
    timeout = 1.0

    async def _reach(self):
        with anyio.CancelScope(shield=True):
            await super()._reach()


class the_loop_runs_on__blocks_it(Sound):
    async def record_batch(self, records, *, batch_id=None):
        if len(self._records) % 10 == 0:
            time.sleep(0.3)  # noqa: ASYNC251 - that is what is broken
        await super().record_batch(records)


class no_call_reads_or_writes__appends_in_the_loop(Sound):
    async def record_batch(self, records, *, batch_id=None):
        with tempfile.TemporaryFile() as file:
            file.write(b"record" * len(records))
        await super().record_batch(records)


class pages_beside_writers__commits_out_of_order(Sound):
    """Gives a place before the commit, as a sequence of a database does, and pages by it."""

    def __init__(self, retention_policy=None, disk=None):
        super().__init__(retention_policy, disk)
        self.numbered = []
        self.last = 0

    async def record_batch(self, records, *, batch_id=None):
        self.last += 1
        number = self.last
        for _ in range(7 if number % 3 else 1):
            await anyio.lowlevel.checkpoint()
        self.numbered += [(number, one) for one in records]
        self.numbered.sort(key=lambda pair: pair[0])

    async def page(self, query, *, after=None, limit=1000):
        found = [pair for pair in self.numbered if pair[0] > int(after or 0)][:limit]
        return Page([one for _, one in found], str(found[-1][0]) if found else after or "0")


class what_a_recovery_drops__is_deleted(Sound):
    def _quarantined(self, config):
        return ()


class what_a_recovery_drops__keeps_a_part(Sound):
    def _quarantined(self, config):
        names = super()._quarantined(config)
        for name in names:
            Path(name).write_bytes(b"dama")
        return names


class what_a_recovery_drops__goes_to_an_empty_file(Sound):
    def _quarantined(self, config):
        names = super()._quarantined(config)
        for name in names:
            Path(name).write_bytes(b"")
        return names


class fractional_times__rounds(Sound):
    async def record_batch(self, records, *, batch_id=None):
        await super().record_batch([replace(one, timestamp=round(one.timestamp, 3)) for one in records])


class following_shows_a_new_record__after_a_second(Sound):
    async def follow(self, query=None, *, limit=0, wanted=None):
        async for record in super().follow(query, limit=limit, wanted=wanted):
            if record.payload["number"]:
                await anyio.sleep(1)
            yield record


class any_text_comes_back__cuts_long_columns(Sound):
    async def record_batch(self, records, *, batch_id=None):
        await super().record_batch([replace(one, system_id=one.system_id[:255]) for one in records])


class a_batch_of_5000__refuses_1001(Sound):
    async def record_batch(self, records, *, batch_id=None):
        if len(records) > 1000:
            raise PersistenceError("too many records at once")
        await super().record_batch(records)


class processes_share__without_a_lock(Sound):
    """Reads a file and writes it anew, with nothing that keeps another process from doing the same."""

    shared, patience = True, 1.0

    def __init__(self, path=None, disk=None, *, retention_policy=None):
        super().__init__(retention_policy, disk)
        self.path = Path(path) if path else None

    async def record_batch(self, records, *, batch_id=None):
        text = self.path.read_text() if self.path.exists() else ""
        time.sleep(0.01)  # noqa: ASYNC251 - so that another process comes between
        rows = [json.dumps([one.actor_address, one.payload]) + "\n" for one in records]
        self.path.write_text(text + "".join(rows))

    async def list_events(self, **_):
        rows = map(json.loads, self.path.read_text().splitlines())
        return [PersistedEvent("conformance", actor, "Numbered", payload, 1.5) for actor, payload in rows]


class a_page_refuses__takes_any_cursor(Sound):
    async def page(self, query, *, after=None, limit=1000):
        return await super().page(query, after=None if after and " " in after else after, limit=limit)


class pages_yield_every_record_once__doubles_the_first(Sound):
    async def page(self, query, *, after=None, limit=1000):
        page = await super().page(query, after=after, limit=limit)
        return Page([*self._records, *page.records][: limit + 1], page.cursor) if after is None else page


class a_cursor_may_be_kept__counts_from_the_end(Sound):
    async def page(self, query, *, after=None, limit=1000):
        behind = int(after or len(self._records))
        start = max(0, len(self._records) - behind)
        found = list(self._records)[start : start + limit]
        return Page(found, str(behind - len(found)))


class pages_go_on_through_a_compaction__by_position(Sound):
    async def page(self, query, *, after=None, limit=1000):
        start = int(after or 0)
        found = list(self._records)[start : start + limit]
        return Page(found, str(start + len(found)))


class count_agrees__ignores_the_query(Sound):
    async def count(self, query):
        return len(self._records)


class following_by_query__ignores_it(Sound):
    async def follow(self, query=None, *, limit=0, wanted=None):
        async for record in super().follow(limit=query.limit if query else limit, wanted=wanted):
            yield record


class open_and_ping__leaves_a_record(Sound):
    async def ping(self):
        await super().ping()
        await self.record_event(PersistedEvent("probe", "probe:1", "Probed", {}, 1.0))


class open_and_ping__answers_when_closed(Sound):
    async def ping(self):
        pass


BROKEN = {
    name: kind
    for name, kind in globals().items()
    if isinstance(kind, type)
    and kind.__module__ == __name__
    and kind not in (Sound, SoundServer, FakeWire, Hangs)
}
