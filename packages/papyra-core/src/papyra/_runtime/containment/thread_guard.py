"""The check that a call comes from the thread of the event loop: all other calls would corrupt its queues."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime.runtime import Runtime

__all__ = ["IS_OWNED", "Owner", "check_thread", "owner_of_this_thread", "wrong_thread"]


class Owner(Protocol):
    """Knows whether the calling thread is the one of the event loop."""

    def _is_owned(self) -> bool: ...


IS_OWNED: Callable[[Any], bool] = type(RLock())._is_owned  # type: ignore[attr-defined]  # see `owner_of_this_thread`
"""Whether the calling thread is the one of an owner."""


def owner_of_this_thread() -> Owner:
    """Return a lock that this thread holds for ever, which nobody waits for.

    `threading.Condition` asks a lock in the same way whether the caller holds it. It takes 10 ns, and a
    comparison of `threading.get_ident` takes 45 ns. Every tell and ask needs the answer.
    """
    lock = RLock()
    lock.acquire()
    return cast("Owner", lock)


def check_thread(rt: Runtime, action: str) -> None:
    """Raise `RuntimeError` outside of the thread of the system's event loop."""
    if not rt.owner._is_owned():
        raise wrong_thread(rt, action)


def wrong_thread(rt: Runtime, action: str) -> RuntimeError:
    """Build the error of a call from another thread, which has changed nothing."""
    return RuntimeError(
        f"can't {action} in this thread: the event loop of actor system {rt.system_id!r} runs in another one. "
        "Make a portal on the loop with system.portal(), and use portal.tell(), portal.ask() or portal.call() here"
    )
