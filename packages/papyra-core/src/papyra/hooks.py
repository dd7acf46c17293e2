"""Hooks: callbacks for what happens in a running system."""

from __future__ import annotations

from dataclasses import dataclass, field
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

if TYPE_CHECKING:
    _T = TypeVar("_T")
    Hook: TypeAlias = Callable[[_T], Awaitable[object] | object]


@dataclass(frozen=True, slots=True)
class FailureInfo:
    """A failure of an actor.

    ``strategy`` is that of the actor's policy, and ``supervisor_decision`` the decision of its parent, if
    there was one. ``message`` is the message that was handled, None outside of ``receive``; the ``repr`` does
    not show it, because it may hold secrets. ``actor_type`` is the module and qualified name of the actor's
    class.
    """

    address: ActorAddress
    error: Exception
    strategy: Strategy
    supervisor_decision: SupervisorDecision | None
    message: object = field(default=None, repr=False, compare=False)
    name: str | None = field(default=None, compare=False)
    actor_type: str = field(default="", compare=False)


@dataclass(kw_only=True, eq=False, repr=False)
class SystemHooks:
    """Callbacks, each plain or async, all optional; pass them here or define them in a subclass.

    A plain hook is called at once, in the middle of an actor's work, and must be quick. Async hooks run
    later, in order, in a task of their own. An error of a hook harms nothing. A failing, a slow and a hanging
    hook are logged once each, and counted in ``control_panel()["hooks"]``.
    """

    on_event: Hook[ActorEvent] | None = None
    on_dead_letter: Hook[DeadLetter] | None = None
    on_failure: Hook[FailureInfo] | None = None
    on_audit: Hook[AuditReport] | None = None
    on_persistence_scan: Hook[PersistenceScanReport] | None = None
    on_persistence_recovery: Hook[PersistenceRecoveryReport] | None = None
    on_persistence_error: Hook[Exception] | None = None

    def __post_init__(self) -> None:
        for name in HOOK_NAMES:
            hook = vars(self)[name]
            if hook is None:
                delattr(self, name)  # so that a method of a subclass stays
            elif not callable(hook):
                raise TypeError(
                    f"{name} must be a function or an async function of one argument, not {hook!r}"
                )


HOOK_NAMES = tuple(SystemHooks.__annotations__)
"""The names of all hooks. The fields of `SystemHooks` are the one list of them."""
