"""A system's own events and dead letters, as events of its stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra import DeadLetter
    from papyra.events import ActorEvent
    from papyra_contrib.eventstream._stream import EventStream

__all__ = ["FactHooks"]


class FactHooks:
    """Give it to a system as ``hooks=`` and to `EventStream.of` as ``facts=``.

    It publishes each lifecycle event (`papyra.events.ActorEvent`) and each `papyra.DeadLetter`, and never
    waits.
    """

    def __init__(self) -> None:
        self.stream: EventStream | None = None

    def on_event(self, event: ActorEvent) -> None:
        """Publish a lifecycle event."""
        if self.stream is not None:
            self.stream.publish_nowait(event)

    def on_dead_letter(self, letter: DeadLetter) -> None:
        """Publish a dead letter."""
        if self.stream is not None:
            self.stream.publish_nowait(letter)
