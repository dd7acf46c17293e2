"""Records as they are printed: lines in a pipe, tables on a terminal, JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from papyra.persistence.models import PersistedRecord
from papyra_cli._output.formats import count
from papyra_cli._output.identity import identity_of, run_of, short_type
from papyra_cli._output.output import Styled, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
    from papyra_cli._output.output import Cell, Output

__all__ = [
    "AUDITS",
    "AUDIT_COUNTS",
    "DEAD_LETTERS",
    "EVENTS",
    "RecordPrinter",
    "audit_counts",
    "event_details",
    "whose",
]

_R = TypeVar("_R", bound=PersistedRecord)

_OPTIONAL_COLUMNS = ("class", "reason", "run")


def _whole(record: object) -> object:
    return record


@dataclass(frozen=True, slots=True)
class RecordPrinter(Generic[_R]):
    """How records of a kind are printed.

    A pipe gets a line for each: ``key``, then the cells of ``line``. A terminal gets a table of the cells of
    ``row``. JSON gets the ``document`` of each, a dict or the record itself, whose fields it has by name.
    """

    key: str
    title: str
    columns: Sequence[str]
    line: Callable[[Output, _R], Sequence[Cell]]
    drawn_columns: Sequence[str]
    row: Callable[[Output, _R], Sequence[Cell]]
    document: Callable[[_R], object] = _whole

    @property
    def words(self) -> tuple[str, str]:
        """The words for one of them and for many."""
        one = self.key.replace("_", " ")
        return one, f"{one}s"

    def show(self, out: Output, records: Sequence[_R]) -> None:
        """Print records, and in text their number."""
        note = Styled(count(len(records), *self.words), "green")
        documents = self._documents(out, records)
        out.show(documents, documents, [] if out.is_json else [self.table(out, records)], note)

    def stream(self, out: Output, record: _R) -> None:
        """Print one record as it comes."""
        out.stream(self._lines(out, [record]), self._documents(out, [record]))

    def table(self, out: Output, records: Sequence[_R]) -> Table:
        """Return the records as text."""
        if not out.is_drawn:
            return self._lines(out, records)
        table = Table(self.key, self.title, self.drawn_columns, [self.row(out, record) for record in records])
        return table.without_empty(*_OPTIONAL_COLUMNS)

    def _documents(self, out: Output, records: Sequence[_R]) -> Sequence[object]:
        return [self.document(record) for record in records] if out.is_json else []

    def _lines(self, out: Output, records: Sequence[_R]) -> Table:
        return Table(self.key, self.title, self.columns, [self.line(out, record) for record in records])


def _event_line(out: Output, event: PersistedEvent) -> Sequence[Cell]:
    return out.time(event.timestamp), event.actor_address, event.event_type, out.payload(event.payload)


def _event_row(out: Output, event: PersistedEvent) -> Sequence[Cell]:
    name, kind, run = whose(event)
    actor = event.actor_address if name == "-" else name
    time = out.time(event.timestamp, brief=out.is_narrow)
    return time, actor, short_type(kind), event.event_type, run, event_details(out, event)


def _letter_line(out: Output, letter: PersistedDeadLetter) -> Sequence[Cell]:
    """Return the cells of a line; the target is the address, then its name and class if they are known."""
    target = " ".join([letter.target, *(word for word in whose(letter)[:2] if word != "-")])
    return out.time(letter.timestamp), target, letter.message_type, out.payload(letter.payload)


def _letter_row(out: Output, letter: PersistedDeadLetter) -> Sequence[Cell]:
    name, kind, run = whose(letter)
    target = letter.target if name == "-" else name
    time, reason = out.time(letter.timestamp, brief=out.is_narrow), letter.reason or "-"
    return time, target, short_type(kind), letter.message_type, reason, run, out.payload(letter.payload)


def _audit_line(out: Output, audit: PersistedAudit) -> Sequence[Cell]:
    return out.time(audit.timestamp), audit.system_id, *map(str, audit_counts(audit))


def whose(record: PersistedRecord) -> tuple[str, str, str]:
    """Return the name, the class and the run of a record's actor, each "-" if it has none."""
    identity = identity_of(record)
    name, kind = (identity.name, identity.type) if identity else ("", "")
    return name or "-", kind or "-", run_of(record) or "-"


def event_details(out: Output, event: PersistedEvent) -> Cell:
    """Return what an event says besides its actor: an error first, which a terminal never cuts."""
    rest = {key: value for key, value in event.payload.items() if key not in ("name", "type", "error")}
    error = event.payload.get("error")
    parts = [] if error is None else [error if isinstance(error, str) else out.payload(error)]
    parts += [
        f"{key} {value if isinstance(value, str) else out.payload(value)}" for key, value in rest.items()
    ]
    text = ", ".join(parts) or "-"
    return text if error is None else Styled(text, "red", wraps=True)


def audit_counts(audit: PersistedAudit) -> tuple[int, ...]:
    """Return the numbers of an audit, in the order of `AUDIT_COUNTS`."""
    return (
        audit.total_actors,
        audit.alive_actors,
        audit.stopping_actors,
        audit.restarting_actors,
        len(audit.registry_orphans),
        len(audit.registry_dead),
        audit.dead_letters_count,
    )


AUDIT_COUNTS = ("actors", "alive", "stopping", "restarting", "orphans", "dead", "dead letters")
_AUDIT_COLUMNS = ("time", "system", *AUDIT_COUNTS)

EVENTS = RecordPrinter(
    "event",
    "Events",
    columns=("time", "actor", "type", "payload"),
    line=_event_line,
    drawn_columns=("time", "actor", "class", "type", "run", "payload"),
    row=_event_row,
)
DEAD_LETTERS = RecordPrinter(
    "dead_letter",
    "Dead letters",
    columns=("time", "target", "type", "payload"),
    line=_letter_line,
    drawn_columns=("time", "target", "class", "type", "reason", "run", "payload"),
    row=_letter_row,
)
AUDITS = RecordPrinter(
    "audit",
    "Audits",
    columns=_AUDIT_COLUMNS,
    line=_audit_line,
    drawn_columns=_AUDIT_COLUMNS,
    row=_audit_line,
)
