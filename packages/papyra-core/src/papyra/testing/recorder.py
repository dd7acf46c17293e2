"""A set of hooks that keeps all that it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from papyra.hooks import SystemHooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.audit import AuditReport
    from papyra.events import ActorEvent
    from papyra.hooks import FailureInfo
    from papyra.messages import DeadLetter

__all__ = ["EventRecorder"]

_T = TypeVar("_T")


class EventRecorder(SystemHooks):
    """Give it to ``ActorSystem(hooks=...)``.

    Lists of all events, dead letters, failures, audits and store errors.
    """

    def __init__(self) -> None:
        self.events: list[ActorEvent] = []
        self.dead_letters: list[DeadLetter] = []
        self.failures: list[FailureInfo] = []
        self.audits: list[AuditReport] = []
        self.errors: list[Exception] = []
        self._changed = anyio.Event()
        super().__init__(
            on_event=self._keep(self.events),
            on_dead_letter=self._keep(self.dead_letters),
            on_failure=self._keep(self.failures),
            on_audit=self._keep(self.audits),
            on_persistence_error=self._keep(self.errors),
        )

    def _told(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _keep(self, kept: list[_T]) -> Callable[[_T], None]:
        def keep(fact: _T) -> None:
            kept.append(fact)
            self._told()

        return keep

    async def wait_until(self, condition: Callable[[EventRecorder], bool], *, within: float = 3.0) -> None:
        """Return once ``condition(recorder)`` holds; not ``within`` seconds is an `AssertionError`."""
        try:
            with anyio.fail_after(within):
                while not condition(self):
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"the condition did not hold within {within} s; events: {self.names()}, "
                f"dead letters: {len(self.dead_letters)}, failures: {self.failures}"
            ) from None

    def names(self) -> list[str]:
        """Return the events as ``"ActorStarted 1"``, in order."""
        return [f"{type(event).__name__} {event.address['actor_id']}" for event in self.events]
