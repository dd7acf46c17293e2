"""The records that the options of `papyra inspect` ask for, and how they are read."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Generic, TypeVar

from papyra.persistence.models import PersistedDeadLetter, PersistedEvent, PersistedRecord
from papyra_cli._errors import say
from papyra_cli._output.identity import identity_of, run_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra_cli._store.session import OpenStore

__all__ = ["Found", "Selection", "note_nothing", "read_records", "resolve_run"]

_ADDRESS = re.compile(r".+:\d+")
_STORE_FILTERS = {"limit", "since", "until", "reverse", "type"}
"""The fields of a selection by which a store filters itself. It also filters by an actor's address."""
_MAX_NAMES = 10_000
_NEAREST = 5

_R = TypeVar("_R", bound=PersistedRecord)


@dataclass(frozen=True, slots=True)
class Selection:
    """The values of the options, one field each.

    Times are Unix times, and ``limit`` is None for all records.
    """

    limit: int | None = None
    since: float | None = None
    until: float | None = None
    reverse: bool = False
    type: str | None = None
    actor: str | None = None
    run: str | None = None

    @property
    def is_beyond_store(self) -> bool:
        """Whether a field is set that no store filters by. Then every record has to be read."""
        chosen = {
            each.name for each in fields(self) if getattr(self, each.name) != each.default
        } - _STORE_FILTERS
        if self.actor is not None and _ADDRESS.fullmatch(self.actor):
            chosen.discard("actor")
        return bool(chosen)

    def matches(self, record: PersistedRecord) -> bool:
        """Return whether the type, the actor and the run are those asked for.

        A field that no store filters by needs no more than its check here.
        """
        if self.run is not None and run_of(record) != self.run:
            return False
        if self.type is not None and _type_of(record) != self.type:
            return False
        if self.actor is None:
            return True
        identity = identity_of(record)
        return identity is not None and identity.matches(self.actor)


@dataclass(slots=True)
class Found(Generic[_R]):
    """The records, oldest first unless ``reverse`` was asked for; ``cut`` if more than the limit match."""

    records: Sequence[_R] = ()
    cut: bool = False
    actors: Counter[str] = field(default_factory=Counter[str])
    runs: Counter[str] = field(default_factory=Counter[str])


async def read_records(
    opened: OpenStore, kinds: type[_R] | tuple[type[_R], ...], selection: Selection
) -> Found[_R]:
    """Read the newest records that match; the names of the others are noted, in case none does."""
    found: Found[_R] = Found()
    records: list[_R] = []
    most = None if selection.limit is None else selection.limit + 1

    def take(record: PersistedRecord) -> bool:
        if not isinstance(record, kinds):
            return False
        if selection.matches(record):
            records.append(record)
        elif not records:
            _note_names(found, record)
        return len(records) == most

    if not selection.is_beyond_store:
        await _read_newest(opened, kinds, selection, most, records)
    if not records and (selection.actor is not None or selection.is_beyond_store):
        await opened.read(selection.since, selection.until, take)
    found.cut = len(records) == most
    if found.cut:
        records.pop()  # the oldest
    found.records = records if selection.reverse else records[::-1]
    return found


async def _read_newest(
    opened: OpenStore,
    kinds: type[_R] | tuple[type[_R], ...],
    selection: Selection,
    most: int | None,
    records: list[_R],
) -> None:
    """Let the store do the filtering: it reads the newest records without the older ones."""
    backend, since, until = opened.backend, selection.since, selection.until
    newest: Sequence[PersistedRecord]

    async def read() -> Sequence[PersistedRecord]:
        if kinds is PersistedEvent:
            return await backend.list_events(
                limit=most, since=since, until=until, event_type=selection.type, actor=selection.actor
            )
        if kinds is PersistedDeadLetter:
            return await backend.list_dead_letters(
                limit=most, since=since, until=until, message_type=selection.type, actor=selection.actor
            )
        return await backend.list_audits(limit=most, since=since, until=until)

    newest = await opened.watch("reading", lambda _: read())
    records.extend(record for record in reversed(newest) if isinstance(record, kinds))


async def resolve_run(opened: OpenStore, selection: Selection) -> Selection:
    """Return the selection with an id in place of ``last``: that of the newest run, "" if there is none."""
    if selection.run != "last":
        return selection
    started = await opened.backend.list_events(limit=1, event_type="SystemStarted")
    newest = run_of(started[0]) if started else ""

    def take(record: PersistedRecord) -> bool:
        nonlocal newest
        newest = run_of(record)
        return bool(newest)

    if not newest:
        await opened.read(None, None, take)
    return replace(selection, run=newest)


def note_nothing(found: Found[_R], selection: Selection) -> None:
    """Say on stderr which names a store knows, if the one that was asked for matches nothing."""
    if found.records or found.cut:
        return
    for option, wanted, known in (
        ("--actor", selection.actor, found.actors),
        ("--run", selection.run, found.runs),
    ):
        if wanted is not None and not any(fnmatchcase(name, wanted) for name in known):
            nearest = get_close_matches(wanted, known, _NEAREST, 0.4) or [
                name for name, _ in known.most_common(_NEAREST)
            ]
            hint = f"the nearest are {', '.join(nearest)}" if nearest else "the store names none"
            say("note", f"{option} {wanted}: no record matches; {hint}")
            return


def _note_names(found: Found[_R], record: PersistedRecord) -> None:
    identity = identity_of(record)
    for names, counter in (
        (identity.names if identity else (), found.actors),
        ((run_of(record),), found.runs),
    ):
        for name in filter(None, names):
            if name in counter or len(counter) < _MAX_NAMES:
                counter[name] += 1


def _type_of(record: PersistedRecord) -> str | None:
    if isinstance(record, PersistedEvent):
        return record.event_type
    return record.message_type if isinstance(record, PersistedDeadLetter) else None
