"""The state of a system at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from papyra.address import ActorAddress
    from papyra.supervision import SupervisionPolicy

__all__ = ["ActorInfo", "AuditReport", "MailboxDepth", "TreeRow"]


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """An actor at one moment.

    ``rid`` is its number in the system; ``state`` is one of ``starting idle ready running failed restarting
    stopping stopped``; ``mailbox_depth`` counts the messages that wait, ``processed`` the messages that were
    taken out. ``mailbox_capacity`` is None for a mailbox without a limit. ``restarts`` are those that
    ``policy`` counts, within its window.
    """

    rid: int
    address: ActorAddress
    name: str | None
    parent_rid: int | None
    children_rids: tuple[int, ...]
    alive: bool
    stopping: bool
    restarting: bool
    actor_type: str
    state: str
    mailbox_depth: int
    processed: int = 0
    mailbox_capacity: int | None = None
    restarts: int = 0
    policy: SupervisionPolicy | None = None


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One row of the tree of actors: one actor, or many siblings of one type that are folded into a row.

    ``level`` is 0 for the actors right below the system. ``count`` is 1 for a single actor, which ``actor``
    describes; a folded row has the number of siblings, ``actor`` is None, and ``waiting`` and ``processed``
    are their sums. ``parent`` is the address of the actor above, None at level 0.
    """

    level: int
    count: int
    actor_type: str
    waiting: int
    processed: int
    parent: str | None
    actor: ActorInfo | None = None


@dataclass(frozen=True, slots=True)
class MailboxDepth:
    """How many messages wait: ``sum`` in all mailboxes, ``greatest`` in the longest one.

    ``whose`` is the address of the actor with the longest mailbox and ``name`` its name, if it has one; both
    are None if no message waits.
    """

    sum: int = 0
    greatest: int = 0
    whose: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """A system at one moment.

    ``total_actors`` and ``dead_letters_count`` count since the start of the system; the other counts are of
    this moment. ``registry_size`` counts the names in use. ``actors`` is empty if the details were not asked
    for.
    """

    system_id: str
    total_actors: int
    alive_actors: int
    stopping_actors: int
    restarting_actors: int
    registry_size: int
    registry_orphans: tuple[str, ...]
    registry_dead: tuple[str, ...]
    dead_letters_count: int
    actors: tuple[ActorInfo, ...] = field(default=(), repr=False)
    timestamp: float = 0.0
    mailbox_depth: MailboxDepth = MailboxDepth()

    def summary_lines(self) -> list[str]:
        """Return the report as lines for a person."""
        lines = [
            f"system {self.system_id}",
            f"actors: {self.alive_actors} alive, {self.stopping_actors} stopping, {self.restarting_actors} restarting, {self.total_actors} ever",
            f"names: {self.registry_size} in use",
            f"dead letters: {self.dead_letters_count} ever",
        ]
        depth = self.mailbox_depth
        if depth.whose is not None:
            longest = f"{depth.whose} {depth.name}" if depth.name else depth.whose
            lines.append(f"messages waiting: {depth.sum}, at most {depth.greatest} ({longest})")
        for problem, names in (("orphaned", self.registry_orphans), ("dead", self.registry_dead)):
            if names:
                lines.append(f"{problem} names: {', '.join(names)}")
        lines += [
            f"  {info.address} {info.actor_type} {info.name or '-'} {info.state} mailbox={info.mailbox_depth}"
            for info in self.actors
        ]
        return lines

    def __await__(self) -> Generator[None, None, AuditReport]:
        # `await system.audit()` and `system.audit()` are both in use; an audit needs no waiting.
        return self
        yield
