"""The parts of a record that say whose it is: actor, class and run."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from papyra.persistence.models import PersistedAudit, PersistedEvent

if TYPE_CHECKING:
    from papyra.persistence.models import PersistedRecord

__all__ = ["MAX_NAME_CHARS", "SYSTEM_EVENTS", "Identity", "identity_of", "run_of", "short", "short_type"]

MAX_NAME_CHARS = 200
"""A store may hold names and errors of any length; longer ones are cut."""

SYSTEM_EVENTS = ("SystemStarted", "SystemStopped")


@dataclass(frozen=True, slots=True)
class Identity:
    """An actor as a record names it; ``name`` and ``type`` are empty in records of older versions."""

    address: str
    name: str = ""
    type: str = ""
    run: str = ""

    @property
    def label(self) -> str:
        """The name, or what says most of an actor without one: its class and run, else its address."""
        if self.name:
            return self.name
        return f"{short_type(self.type)} (run {self.run or '-'})" if self.type else self.address

    @property
    def names(self) -> tuple[str, ...]:
        """Every word that a user may call this actor by."""
        return tuple(filter(None, (self.name, short_type(self.type), self.type, self.address)))

    def matches(self, pattern: str) -> bool:
        """Return whether ``pattern`` matches the address, the name or the class. ``order-*`` is a pattern."""
        if any(wildcard in pattern for wildcard in "*?["):
            return any(fnmatchcase(name, pattern) for name in self.names)
        return pattern in self.names or self.type.endswith(f".{pattern}")


def identity_of(record: PersistedRecord) -> Identity | None:
    """Return whose record this is; None for audits and for events of a system as a whole."""
    if isinstance(record, PersistedAudit):
        return None
    if isinstance(record, PersistedEvent):
        if record.event_type in SYSTEM_EVENTS:
            return None
        name, kind = record.payload.get("name"), record.payload.get("type")
        address = short(record.actor_address)
    else:
        name, kind = record.target_name, record.target_type
        address = short(record.target)
    return Identity(address, _text(name), _text(kind), run_of(record))


def _text(value: object) -> str:
    return short(value) if isinstance(value, str) else ""


def run_of(record: PersistedRecord) -> str:
    """Return the id of the run that recorded this, "" in records of older versions."""
    return short(record.run)


def short_type(name: str) -> str:
    """Return a class without its module: the part after the last dot."""
    return name.rpartition(".")[2]


def short(text: str) -> str:
    """Return a text of at most `MAX_NAME_CHARS`."""
    return text if len(text) <= MAX_NAME_CHARS else f"{text[:MAX_NAME_CHARS]}…"
