"""Papyra: async actors for Python on anyio, with a durable record of what happened in them.

The names below are loaded when first used, so that ``import papyra`` costs next to nothing.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

from papyra._version import __version__
from papyra.settings import Settings, settings  # not lazy: the module of this name would hide the object

if TYPE_CHECKING:
    from papyra.actor import Actor
    from papyra.address import ActorAddress
    from papyra.audit import ActorInfo, AuditReport
    from papyra.context import ActorContext, current_actor
    from papyra.exceptions import (
        ActorStopped,
        AskDeadlock,
        AskTimeout,
        MailboxClosed,
        MailboxFull,
        PapyraError,
        Reject,
        ReplyDropped,
        StashOverflow,
        UnhandledMessage,
    )
    from papyra.hooks import FailureInfo, SystemHooks
    from papyra.messages import ActorTerminated, DeadLetter
    from papyra.portal import Portal
    from papyra.proxy import ActorProxy
    from papyra.ref import ActorRef
    from papyra.reply import Reply
    from papyra.request import Request, ask_all
    from papyra.supervision import (
        Backoff,
        GroupPolicy,
        RestartStrategy,
        Strategy,
        SupervisionPolicy,
        SupervisorDecision,
    )
    from papyra.system import ActorSystem
    from papyra.typing import Askable, Receives, ReceivesAny

__all__ = [
    "Actor",
    "ActorAddress",
    "ActorContext",
    "ActorInfo",
    "ActorProxy",
    "ActorRef",
    "ActorStopped",
    "ActorSystem",
    "ActorTerminated",
    "AskDeadlock",
    "AskTimeout",
    "Askable",
    "AuditReport",
    "Backoff",
    "DeadLetter",
    "FailureInfo",
    "GroupPolicy",
    "MailboxClosed",
    "MailboxFull",
    "PapyraError",
    "Portal",
    "Receives",
    "ReceivesAny",
    "Reject",
    "Reply",
    "ReplyDropped",
    "Request",
    "RestartStrategy",
    "Settings",
    "StashOverflow",
    "Strategy",
    "SupervisionPolicy",
    "SupervisorDecision",
    "SystemHooks",
    "UnhandledMessage",
    "__version__",
    "ask_all",
    "current_actor",
    "settings",
]

_HOMES = {
    "Actor": "papyra.actor",
    "ActorAddress": "papyra.address",
    "ActorContext": "papyra.context",
    "ActorInfo": "papyra.audit",
    "ActorProxy": "papyra.proxy",
    "ActorRef": "papyra.ref",
    "ActorStopped": "papyra.exceptions",
    "ActorSystem": "papyra.system",
    "ActorTerminated": "papyra.messages",
    "AskDeadlock": "papyra.exceptions",
    "AskTimeout": "papyra.exceptions",
    "Askable": "papyra.typing",
    "AuditReport": "papyra.audit",
    "Backoff": "papyra.supervision",
    "DeadLetter": "papyra.messages",
    "FailureInfo": "papyra.hooks",
    "GroupPolicy": "papyra.supervision",
    "MailboxClosed": "papyra.exceptions",
    "MailboxFull": "papyra.exceptions",
    "PapyraError": "papyra.exceptions",
    "Portal": "papyra.portal",
    "Receives": "papyra.typing",
    "ReceivesAny": "papyra.typing",
    "Reject": "papyra.exceptions",
    "Reply": "papyra.reply",
    "ReplyDropped": "papyra.exceptions",
    "Request": "papyra.request",
    "RestartStrategy": "papyra.supervision",
    "StashOverflow": "papyra.exceptions",
    "Strategy": "papyra.supervision",
    "SupervisionPolicy": "papyra.supervision",
    "SupervisorDecision": "papyra.supervision",
    "SystemHooks": "papyra.hooks",
    "UnhandledMessage": "papyra.exceptions",
    "ask_all": "papyra.request",
    "current_actor": "papyra.context",
}


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def _warn_of_published_package(folder: str) -> None:
    """Warn if ``folder`` also has the published package papyra 0.3, which shares a folder with this one."""
    try:
        distributions = [
            name
            for name in os.listdir(folder)  # noqa: PTH208 - without pathlib, see below
            if name.startswith("papyra-0.3.") and name.endswith(".dist-info")
        ]
    except OSError:  # not a folder, as in an archive
        return
    if distributions:
        warnings.warn(
            f"papyra 0.3 and papyra-core {__version__} are both installed and share the folder papyra, so parts of both "
            "are mixed. Uninstall both, then install papyra-core",
            RuntimeWarning,
            stacklevel=3,
        )


# Without pathlib, which `import papyra` does not load.
_warn_of_published_package(os.path.dirname(os.path.dirname(__file__)))  # noqa: PTH120 - see above


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
