"""The check that a call comes from the thread of the event loop: all other calls would corrupt its queues."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra._runtime.runtime import Runtime

__all__ = ["check_thread", "wrong_thread"]


def check_thread(rt: Runtime, action: str) -> None:
    """Raise `RuntimeError` outside of the thread of the system's event loop."""
    if get_ident() != rt.thread:
        raise wrong_thread(rt, action)


def wrong_thread(rt: Runtime, action: str) -> RuntimeError:
    """Build the error of a call from another thread, which has changed nothing."""
    return RuntimeError(
        f"can't {action} in this thread: the event loop of actor system {rt.system_id!r} runs in another one. "
        "Make a portal on the loop with system.portal(), and use portal.tell(), portal.ask() or portal.call() here"
    )
