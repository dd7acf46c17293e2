"""Introspection: descriptions of actors, audits and the control panel."""

from __future__ import annotations

from dataclasses import fields
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from papyra._runtime.cell import NO_LIMIT
from papyra._runtime.containment.user_values import type_name
from papyra._runtime.mailbox import waiting_messages
from papyra._runtime.phases import (
    BACKING_OFF,
    DRAINING,
    RESTARTING_STOP,
    RUNNING,
    STATES,
    STOPPED,
)
from papyra.audit import ActorInfo, AuditReport, MailboxDepth
from papyra.persistence.backend import safe_metrics_snapshot
from papyra.statistics import SystemStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from papyra._runtime.cell import Cell
    from papyra._runtime.observation.tallies import Walk
    from papyra._runtime.runtime import Runtime

__all__ = [
    "audit",
    "describe_actor",
    "is_alive",
    "is_of_type",
    "panel",
    "select",
    "statistics",
]

ORDERS: dict[str, Callable[[Cell], int]] = {
    "mailbox": waiting_messages,
    "processed": lambda cell: cell.processed,
    "restarts": lambda cell: len(cell.restarts or ()),
}
"""What `papyra.ActorSystem.list_actors` can order by."""


def is_alive(cell: Cell) -> bool:
    """Return whether an actor accepts messages."""
    return cell.phase < DRAINING and not cell.stopping


def _is_called(cell: Cell, text: str) -> bool:
    """Return whether ``text`` is the number of an actor, or a part of its name or of its class's name."""
    if text == str(cell.id) or (cell.name is not None and text in cell.name.casefold()):
        return True
    return cell.actor_type is not None and text in type_name(cell.actor_type).casefold()


def is_of_type(cell: Cell, type_or_name: type | str) -> bool:
    """Return whether an actor is of a class or a subclass, or of a class with this name."""
    kind = cell.actor_type
    if kind is None:
        return False
    return kind.__name__ == type_or_name if isinstance(type_or_name, str) else issubclass(kind, type_or_name)


def select(
    cells: list[Cell], alive_only: bool, by: str | None, limit: int | None, offset: int, matching: str | None
) -> list[Cell]:
    """Return the actors that `papyra.ActorSystem.list_actors` describes."""
    if alive_only:
        cells = [cell for cell in cells if is_alive(cell)]
    if matching:
        text = matching.casefold()
        cells = [cell for cell in cells if _is_called(cell, text)]
    end = None if limit is None else offset + limit
    if by is not None:
        if by not in ORDERS:
            raise ValueError(f"by must be one of {', '.join(ORDERS)}, not {by!r}")
        cells = nlargest(len(cells) if end is None else end, cells, key=ORDERS[by])
    return cells[offset:end]


def _is_restarting(cell: Cell) -> bool:
    if cell.stopping:
        return False
    phase = cell.phase
    return RESTARTING_STOP <= phase <= BACKING_OFF or (cell.renewed and phase < RUNNING)


def _state(cell: Cell, restarting: bool) -> str:
    if cell.phase == STOPPED:
        return "stopped"
    if cell.stopping:
        return "stopping"
    if restarting:
        return "restarting"
    if cell.phase != RUNNING:
        return STATES[cell.phase]
    return "running" if cell.running() is not None else "idle" if cell.box is None else "ready"


class _Draft:
    """An `ActorInfo` that is being written: the same slots, and not frozen yet.

    Its class is changed when it is done. The constructor of a frozen class takes ten times as long, which is
    most of what a list of actors costs.
    """

    __slots__ = tuple(field.name for field in fields(ActorInfo))


def describe_actor(cell: Cell) -> ActorInfo:
    """Describe an actor."""
    parent, kind, restarting = cell.parent, cell.actor_type, _is_restarting(cell)
    info: Any = _Draft()
    info.rid = cell.id
    info.address = cell.address
    info.name = cell.name
    info.parent_rid = parent.id if parent is not None and parent.parent is not None else None
    info.children_rids = tuple(cell.children or ())
    info.alive = is_alive(cell)
    info.stopping = cell.stopping and cell.phase != STOPPED
    info.restarting = restarting
    info.actor_type = type_name(kind) if kind is not None else "Actor"
    info.state = _state(cell, restarting)
    info.mailbox_depth = waiting_messages(cell)
    info.processed = cell.processed
    info.mailbox_capacity = cell.capacity if cell.capacity < NO_LIMIT else None
    info.restarts = len(cell.restarts or ())
    info.policy = cell.policy
    info.__class__ = ActorInfo
    return info  # type: ignore[no-any-return]  # it has become one


def audit(rt: Runtime, *, details: bool) -> AuditReport:
    """Count the actors of a system; with ``details`` also describe them."""
    cells = rt.cells.values()
    dead = tuple(name for name, cell in rt.names.items() if cell.phase == STOPPED)
    orphans = tuple(
        name for name, cell in rt.names.items() if rt.cells.get(cell.id) is not cell and name not in dead
    )
    return AuditReport(
        system_id=rt.system_id,
        total_actors=rt.last_id,
        alive_actors=sum(1 for cell in cells if is_alive(cell)),
        stopping_actors=sum(1 for cell in cells if cell.stopping),
        restarting_actors=sum(1 for cell in cells if _is_restarting(cell)),
        registry_size=len(rt.names),
        registry_orphans=orphans,
        registry_dead=dead,
        dead_letters_count=rt.history.dead_letters.ever,
        actors=tuple(describe_actor(cell) for cell in cells) if details else (),
        timestamp=rt.history.clock(),
        mailbox_depth=_mailbox_depth(cells),
    )


def _mailbox_depth(cells: Iterable[Cell]) -> MailboxDepth:
    total = greatest = 0
    longest: Cell | None = None
    for cell in cells:
        waiting = waiting_messages(cell)
        total += waiting
        if waiting > greatest:
            greatest, longest = waiting, cell
    if longest is None:
        return MailboxDepth()
    return MailboxDepth(total, greatest, str(longest.address), longest.name)


def panel(rt: Runtime, state: str) -> dict[str, Any]:
    """Return an operator's overview of the system, ready for JSON."""
    report = audit(rt, details=False)
    busiest = sorted(rt.cells.values(), key=waiting_messages, reverse=True)[:5]
    return {
        "system_id": rt.system_id,
        "state": state,
        "actors": {
            "alive": report.alive_actors,
            "stopping": report.stopping_actors,
            "restarting": report.restarting_actors,
            "ever": report.total_actors,
        },
        "names": report.registry_size,
        "dead_letters": report.dead_letters_count,
        "expired_asks": rt.expired_asks,
        "events": rt.history.events_ever,
        "ready": len(rt.ready),
        "workers": {"running": _running(rt), "idle": len(rt.parked)},
        "threads": rt.threads.running,
        "longest_mailboxes": [
            {"actor": str(cell.address), "name": cell.name, "depth": waiting_messages(cell)}
            for cell in busiest
            if waiting_messages(cell)
        ],
        "facts": _facts(rt),
        "persistence": safe_metrics_snapshot(rt.fact_writer.backend),
        "hooks": rt.hooks.panel(),
        "instruments": rt.instruments.panel(),
    }


def statistics(rt: Runtime, state: str, walk: Walk) -> SystemStatistics:
    """Return a system in numbers; ``walk`` has counted the actors."""
    refused = rt.tallies.refused
    return SystemStatistics(
        system_id=rt.system_id,
        state=state,
        loop=rt.loop.name,
        kinds=walk.kinds(),
        ready=len(rt.ready),
        workers={"running": _running(rt), "idle": len(rt.parked)},
        spawned=rt.last_id,
        dead_letters={"refused": refused, "unhandled": max(0, rt.history.dead_letters.ever - refused)},
        facts=_facts(rt),
        store=safe_metrics_snapshot(rt.fact_writer.backend),
        hooks=rt.hooks.panel(),
    )


def _facts(rt: Runtime) -> dict[str, Any]:
    writer = rt.fact_writer
    share = writer.dropped_share.share()
    return {
        "buffered": writer.buffered,
        "store": writer.backend.name,
        "healthy": writer.backend.healthy and not share,
        "dropped_share": share,
    }


def _running(rt: Runtime) -> int:
    return sum(worker.cell is not None for worker in list(rt.workers.values()))
