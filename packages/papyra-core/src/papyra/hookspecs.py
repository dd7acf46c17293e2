"""What plugins of the group ``papyra.hooks`` may implement, in pluggy's terms.

A plugin is a module or object whose functions carry ``hookimpl``::

    from papyra.hookspecs import hookimpl


    @hookimpl
    def on_event(event): ...

Each may be plain or async; the rules are those of `papyra.SystemHooks`. Importing this module imports
pluggy, which ``import papyra`` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from papyra.audit import AuditReport
    from papyra.events import ActorEvent
    from papyra.hooks import FailureInfo
    from papyra.messages import DeadLetter
    from papyra.persistence.models import PersistenceRecoveryReport, PersistenceScanReport

__all__ = ["hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("papyra")
hookimpl = pluggy.HookimplMarker("papyra")


@hookspec
def on_event(event: ActorEvent) -> object:
    """A lifecycle event happened."""


@hookspec
def on_dead_letter(dead_letter: DeadLetter) -> object:
    """A message was not handled."""


@hookspec
def on_failure(failure: FailureInfo) -> object:
    """An actor failed, and what becomes of it is decided."""


@hookspec
def on_audit(report: AuditReport) -> object:
    """Somebody asked for an audit."""


@hookspec
def on_persistence_scan(report: PersistenceScanReport) -> object:
    """The store was scanned at the start of the system."""


@hookspec
def on_persistence_recovery(report: PersistenceRecoveryReport) -> object:
    """The store was repaired at the start of the system."""


@hookspec
def on_persistence_error(error: Exception) -> object:
    """The store did not take some facts."""
