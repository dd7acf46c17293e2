"""What measures and traces a running system from outside its actors: see `Instrument`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from papyra.actor import Actor
    from papyra.address import ActorAddress
    from papyra.system import ActorSystem

__all__ = ["Instrument", "Target"]


class Target(Protocol):
    """The actor that a message is sent to."""

    @property
    def id(self) -> int:
        """The actor's number in its system."""
        ...

    @property
    def name(self) -> str | None:
        """The actor's name, if it has one."""
        ...

    @property
    def actor_type(self) -> type[Actor] | None:
        """The actor's class."""
        ...

    @property
    def address(self) -> ActorAddress:
        """The actor's address."""
        ...


class Instrument:
    """Look at a running system. Subclass it; every method here does nothing.

    Pass it as ``ActorSystem(instruments=[...])``, or install it as a plugin of the group
    ``papyra.instruments`` and name it in the setting ``instruments``. Apart from `run`, the methods are plain
    functions, called in the middle of what an actor does: they must be quick. What they raise harms nobody.
    The first error is logged, all are counted in ``control_panel()["instruments"]``, and after 10 errors the
    instrument is removed.
    """

    def started(self, system: ActorSystem) -> None:
        """Called once, before the system has any actor.

        It runs in the context variables that all tasks begin with: a variable that is set or cleared here is
        set or cleared for every actor.
        """

    def send(self, target: Target, message: object, asks: bool) -> tuple[object, int]:
        """Return a mark for the message that is about to be sent (None for none), and when to call again.

        The second value is a number of sends: 1 means the next one. Tells and asks are counted apart;
        ``asks`` says which of the two this is. A mark travels with its message to `begin`, `end` and
        `replied`. Sends in between run at full speed, and an instrument without this method costs them
        nothing.
        """
        return None, sys.maxsize

    def begin(self, target: Target, mark: object) -> None:
        """Called before ``receive`` gets a marked message, in the task and context variables of the actor."""

    def end(self, target: Target, mark: object, error: BaseException | None) -> None:
        """Called once after each `begin`, in the same task; ``error`` is what ``receive`` raised."""

    def replied(self, target: Target, mark: object, error: BaseException | None) -> None:
        """Called in the asker's task when a marked ask has ended.

        With a reply, an error, a time-out or a cancellation.
        """

    async def run(self, system: ActorSystem) -> None:
        """Run as a task for the system's life; it is cancelled when the actors have stopped."""
