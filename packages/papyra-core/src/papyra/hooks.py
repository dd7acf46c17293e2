"""Callbacks into a running system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra.address import ActorAddress
    from papyra.audit import AuditReport
    from papyra.events import ActorEvent
    from papyra.messages import DeadLetter
    from papyra.persistence.models import PersistenceRecoveryReport, PersistenceScanReport
    from papyra.supervision import Strategy, SupervisorDecision

__all__ = ["HOOK_NAMES", "FailureInfo", "SystemHooks"]

HOOK_NAMES = (
    "on_event",
    "on_dead_letter",
    "on_failure",
    "on_audit",
    "on_persistence_scan",
    "on_persistence_recovery",
    "on_persistence_error",
)

if TYPE_CHECKING:
    _T = TypeVar("_T")
    Hook: TypeAlias = Callable[[_T], Awaitable[object] | object]


@dataclass(frozen=True, slots=True)
class FailureInfo:
    """An actor's failure: who, the exception, the strategy of its policy, and what its parent decided, if anything."""

    address: ActorAddress
    error: Exception
    strategy: Strategy
    supervisor_decision: SupervisorDecision | None


class SystemHooks:
    """Callbacks, each plain or async, all optional; pass them here or define them in a subclass.

    A plain one is called on the spot, in the middle of what an actor does, and must be quick. Async ones run after,
    in order, in a task of their own. What a hook raises harms nothing. A failing, a slow and a hanging one are logged
    once each, and counted in ``control_panel()["hooks"]``.
    """

    on_event: Hook[ActorEvent] | None = None
    on_dead_letter: Hook[DeadLetter] | None = None
    on_failure: Hook[FailureInfo] | None = None
    on_audit: Hook[AuditReport] | None = None
    on_persistence_scan: Hook[PersistenceScanReport] | None = None
    on_persistence_recovery: Hook[PersistenceRecoveryReport] | None = None
    on_persistence_error: Hook[Exception] | None = None

    def __init__(
        self,
        *,
        on_event: Hook[ActorEvent] | None = None,
        on_dead_letter: Hook[DeadLetter] | None = None,
        on_failure: Hook[FailureInfo] | None = None,
        on_audit: Hook[AuditReport] | None = None,
        on_persistence_scan: Hook[PersistenceScanReport] | None = None,
        on_persistence_recovery: Hook[PersistenceRecoveryReport] | None = None,
        on_persistence_error: Hook[Exception] | None = None,
    ) -> None:
        given = {
            "on_event": on_event,
            "on_dead_letter": on_dead_letter,
            "on_failure": on_failure,
            "on_audit": on_audit,
            "on_persistence_scan": on_persistence_scan,
            "on_persistence_recovery": on_persistence_recovery,
            "on_persistence_error": on_persistence_error,
        }
        for name, hook in given.items():
            if hook is None:
                continue  # so that a method of a subclass stays
            if not callable(hook):
                raise TypeError(
                    f"{name} must be a function or an async function of one argument, not {hook!r}"
                )
            setattr(self, name, hook)
