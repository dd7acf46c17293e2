"""Papyra: async actors for Python on anyio, with a durable record of what happened in them."""

from papyra._version import __version__
from papyra.actor import Actor
from papyra.address import ActorAddress
from papyra.audit import ActorInfo, AuditReport
from papyra.context import ActorContext
from papyra.exceptions import ActorStopped, AskDeadlock, AskTimeout, MailboxClosed, PapyraError
from papyra.hooks import FailureInfo, SystemHooks
from papyra.messages import ActorTerminated, DeadLetter
from papyra.proxy import ActorProxy
from papyra.ref import ActorRef
from papyra.settings import Settings, settings
from papyra.supervision import Backoff, Strategy, SupervisionPolicy, SupervisorDecision
from papyra.system import ActorSystem
from papyra.typing import Receives, ReceivesAny

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
    "AuditReport",
    "Backoff",
    "DeadLetter",
    "FailureInfo",
    "MailboxClosed",
    "PapyraError",
    "Receives",
    "ReceivesAny",
    "Settings",
    "Strategy",
    "SupervisionPolicy",
    "SupervisorDecision",
    "SystemHooks",
    "__version__",
    "settings",
]
