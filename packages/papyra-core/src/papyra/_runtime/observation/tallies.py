"""Counts by actor type: a walk over the living actors, and the tallies of stopped ones.

A stopped actor adds its counts to the tally of its type, so counters never fall. A walk may run in
another thread while actors come and go. It reads the tallies before it copies the list of actors: an actor
that ends in between is missed rather than counted twice, and a total that would be lower than the last one is
reported as the last one.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from papyra._runtime.cell import NO_LIMIT
from papyra._runtime.containment.user_values import type_name
from papyra._runtime.phases import BACKING_OFF, RESTARTING_CHILDREN, RESTARTING_STOP, RUNNING, STARTING
from papyra.statistics import KindStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from papyra._runtime.cell import Cell

__all__ = ["MAX_KINDS", "Tallies", "Walk"]

MAX_KINDS = 100
"""Types that have a tally of their own. All others share one."""

OTHER = "(other)"

_RESTARTING = (RESTARTING_STOP, RESTARTING_CHILDREN, BACKING_OFF)


class Tally:
    """The counts of one type: of its stopped actors, of all its actors, and those last reported."""

    __slots__ = ("ended", "failures", "processed", "restarts", "seen_processed", "seen_spawned")

    def __init__(self) -> None:
        self.ended = self.processed = self.failures = self.restarts = 0
        self.seen_processed = self.seen_spawned = 0


class Tallies:
    """The tallies of one system, by the name of the class."""

    def __init__(self) -> None:
        self.kinds: dict[str, Tally] = {}
        self.refused = 0  # dead letters that were sent to a stopped actor
        self.lock = Lock()  # for the counts last reported
        # The class of the actor that stopped last, and its tally: many actors of one class stop in a row.
        self._last_stopped: tuple[type | None, Tally] = Tally, Tally()

    def name_of(self, kind: type | None) -> str:
        """Return the name that a type is counted under."""
        name = type_name(kind) if kind is not None else "Actor"
        return name if name in self.kinds or len(self.kinds) < MAX_KINDS else OTHER

    def of(self, kind: type | None) -> Tally:
        """Return the tally of a type."""
        name = self.name_of(kind)
        tally = self.kinds.get(name)
        return tally if tally is not None else self.kinds.setdefault(name, Tally())

    def count_stopped(self, cell: Cell) -> None:
        """Add the counts of an actor that has stopped."""
        kind, tally = self._last_stopped
        if kind is not cell.actor_type:
            tally = self.of(cell.actor_type)
            self._last_stopped = cell.actor_type, tally
        tally.ended += 1
        tally.processed += cell.processed

    def change_type(self, cell: Cell, kind: type) -> None:
        """Leave the counts of an actor to its old type, when a restart gives it another one."""
        if kind is not cell.actor_type:
            self.count_stopped(cell)
            tally = self.of(kind)
            tally.ended -= 1
            tally.processed -= cell.processed


class _Row:
    """The living actors of one type, counted."""

    __slots__ = ("alive", "fullest", "longest", "processed", "restarting", "senders", "stopping", "waiting")

    def __init__(self) -> None:
        self.alive = self.restarting = self.stopping = 0
        self.processed = self.waiting = self.senders = self.longest = 0
        self.fullest = 0.0

    def look(self, cell: Cell) -> None:
        """Count an actor that has messages, or is in another phase than running."""
        box, senders = cell.box, cell.senders
        if cell.stopping:
            self.alive -= 1
            self.stopping += 1
        elif cell.phase in _RESTARTING or (cell.renewed and cell.phase == STARTING):
            self.alive -= 1
            self.restarting += 1
        if box:
            waiting = len(box)
            self.waiting += waiting
            self.longest = max(self.longest, waiting)
            if cell.capacity < NO_LIMIT:
                self.fullest = max(self.fullest, min(1.0, waiting / cell.capacity))
        if senders:
            self.senders += len(senders)


class Walk:
    """One look at all actors of a system, in one go or in slices."""

    def __init__(self, tallies: Tallies, cells: Iterable[Cell]) -> None:
        self._tallies = tallies
        self._stopped = {
            name: (tally.ended, tally.processed) for name, tally in list(tallies.kinds.items())
        }  # before the next line: see above
        self.cells = list(cells)
        self._rows: dict[str, _Row] = {}
        self._by_type: dict[int, _Row] = {}  # by the id of the class: a metaclass may have a hash of its own

    def count(self, start: int, stop: int) -> None:
        """Count the actors of a slice."""
        by_type = self._by_type
        for cell in self.cells[start:stop]:
            row = by_type.get(id(cell.actor_type))
            if row is None:
                row = self._row(cell)
            row.alive += 1
            row.processed += cell.processed
            if cell.box is not None or cell.phase != RUNNING or cell.stopping:
                row.look(cell)

    def _row(self, cell: Cell) -> _Row:
        kind = cell.actor_type
        self._tallies.of(kind)
        row = self._rows.setdefault(self._tallies.name_of(kind), _Row())
        self._by_type[id(kind)] = row
        return row

    def kinds(self) -> dict[str, KindStatistics]:
        """Return the counts by type."""
        with self._tallies.lock:
            return {name: self._kind(name, tally) for name, tally in list(self._tallies.kinds.items())}

    def _kind(self, name: str, tally: Tally) -> KindStatistics:
        row = self._rows.get(name) or _Row()
        ended, processed = self._stopped.get(name, (0, 0))
        living = row.alive + row.restarting + row.stopping
        tally.seen_spawned = max(tally.seen_spawned, ended + living)
        tally.seen_processed = max(tally.seen_processed, processed + row.processed)
        return KindStatistics(
            name,
            row.alive,
            row.restarting,
            row.stopping,
            tally.seen_spawned,
            tally.seen_processed,
            row.waiting,
            row.fullest,
            row.senders,
            tally.failures,
            tally.restarts,
            row.longest,
        )
