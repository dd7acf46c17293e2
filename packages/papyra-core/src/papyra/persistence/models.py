"""Stored facts, and the reports of scans, repairs and compactions: plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CompactionReport",
    "JSONValue",
    "PersistedAudit",
    "PersistedDeadLetter",
    "PersistedEvent",
    "PersistedRecord",
    "PersistenceAnomaly",
    "PersistenceAnomalyType",
    "PersistenceRecoveryConfig",
    "PersistenceRecoveryMode",
    "PersistenceRecoveryReport",
    "PersistenceScanReport",
]

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"


@dataclass(frozen=True, slots=True, init=False)
class PersistedEvent:
    """A lifecycle event as stored; ``timestamp`` is Unix time in seconds.

    ``run`` is the id of the run that recorded it (`papyra.ActorSystem.run_id`), empty in records of older
    versions.
    """

    system_id: str
    actor_address: str
    event_type: str
    payload: dict[str, JSONValue]
    timestamp: float
    run: str = ""

    # Two are made in each actor's life: 0.37 us with the setters of the slots, 0.60 us as a frozen dataclass
    # does it.
    def __init__(
        self,
        system_id: str,
        actor_address: str,
        event_type: str,
        payload: dict[str, JSONValue],
        timestamp: float,
        run: str = "",
    ) -> None:
        _set_system(self, system_id)
        _set_actor(self, actor_address)
        _set_type(self, event_type)
        _set_payload(self, payload)
        _set_time(self, timestamp)
        _set_run(self, run)


_set_system, _set_actor, _set_type, _set_payload, _set_time, _set_run = (
    PersistedEvent.__dict__[field.name].__set__ for field in fields(PersistedEvent)
)


@dataclass(frozen=True, slots=True)
class PersistedAudit:
    """An audit's counts as stored; ``timestamp`` is Unix time in seconds.

    ``mailbox_depth`` has the fields of `papyra.audit.MailboxDepth` as JSON. It is None, and ``run`` empty, in
    records of older versions.
    """

    system_id: str
    timestamp: float
    total_actors: int
    alive_actors: int
    stopping_actors: int
    restarting_actors: int
    registry_size: int
    registry_orphans: tuple[str, ...]
    registry_dead: tuple[str, ...]
    dead_letters_count: int
    mailbox_depth: dict[str, JSONValue] | None = None
    run: str = ""


@dataclass(frozen=True, slots=True)
class PersistedDeadLetter:
    """A message that was not handled; ``target`` is an address, ``payload`` the message or its ``repr``.

    ``payload`` and ``message_type`` are what `papyra.deadletters.DeadLetterPolicy` leaves of the message.
    ``reason`` is one of ``stopped unhandled dropped``; ``target_type`` is the module and qualified name of
    the target's class. In records of older versions ``reason``, ``target_type`` and ``run`` are empty, and
    ``target_name`` is None.
    """

    system_id: str
    target: str
    message_type: str
    payload: JSONValue
    timestamp: float
    reason: str = ""
    target_name: str | None = None
    target_type: str = ""
    run: str = ""


PersistedRecord: TypeAlias = PersistedEvent | PersistedAudit | PersistedDeadLetter


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction did, or would do with ``dry_run``.

    Bytes are ``None`` if the store does not count bytes.

    ``invalid_records`` counts the invalid lines or rows that went to ``quarantined_files``; they are not
    among ``before_records``.
    """

    backend: str
    before_records: int
    after_records: int
    before_bytes: int | None
    after_bytes: int | None
    invalid_records: int = 0
    quarantined_files: tuple[str, ...] = ()

    @property
    def removed_records(self) -> int:
        """How many records are gone."""
        return self.before_records - self.after_records

    @property
    def reclaimed_bytes(self) -> int | None:
        """How many bytes the store is smaller; negative if it grew."""
        if self.before_bytes is None or self.after_bytes is None:
            return None
        return self.before_bytes - self.after_bytes


class PersistenceAnomalyType(StrEnum):
    """The kinds of damage that a scan distinguishes."""

    TORN_TAIL = "torn_tail"
    CORRUPT_LINE = "corrupt_line"
    CRC_MISMATCH = "crc_mismatch"
    SEQUENCE_GAP = "sequence_gap"
    UNEXPECTED_FILE = "unexpected_file"
    UNREADABLE_FILE = "unreadable_file"
    INTEGRITY = "integrity"  # a problem that the database's own check reported

    # What papyra 0.3 calls them: aliases, which no iteration shows.
    TRUNCATED_LINE = "torn_tail"
    PARTIAL_WRITE = "torn_tail"
    CORRUPTED_LINE = "corrupt_line"
    ORPHANED_ROTATED_FILE = "unexpected_file"


@dataclass(frozen=True, slots=True)
class PersistenceAnomaly:
    """One place where a store is damaged: ``line`` counts from 1, ``offset`` is in bytes from 0."""

    type: PersistenceAnomalyType
    path: str
    detail: str
    line: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class PersistenceScanReport:
    """Every anomaly a scan found, in the order of the store."""

    backend: str
    anomalies: tuple[PersistenceAnomaly, ...] = ()

    @property
    def has_anomalies(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.anomalies)


class PersistenceRecoveryMode(StrEnum):
    """What a recovery may do with bytes that are not a valid record."""

    IGNORE = "ignore"
    REPAIR = "repair"
    QUARANTINE = "quarantine"

    REBUILD = "repair"
    """What papyra 0.3 calls a repair by writing the valid records anew."""


@dataclass(frozen=True, slots=True)
class PersistenceRecoveryConfig:
    """How to recover: ``REPAIR`` drops what is invalid, ``QUARANTINE`` first moves it to ``quarantine_dir``.

    Without ``quarantine_dir`` the quarantine file is made beside the damaged file.
    """

    mode: PersistenceRecoveryMode = PersistenceRecoveryMode.IGNORE
    quarantine_dir: str | Path | None = None


@dataclass(frozen=True, slots=True)
class PersistenceRecoveryReport:
    """What a recovery did. ``scan`` is what was found before it."""

    backend: str
    scan: PersistenceScanReport
    repaired_files: tuple[str, ...] = field(default=())
    quarantined_files: tuple[str, ...] = field(default=())
