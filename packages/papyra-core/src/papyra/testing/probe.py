"""An actor that a test looks through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from papyra.actor import Actor
from papyra.messages import ActorTerminated

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.ref import ActorRef
    from papyra.system import ActorSystem

__all__ = ["Probe"]


class _Ear(Actor):
    """Hands on what it hears."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    async def receive(self, message: object) -> object:
        return self._probe.hear(message)


class Probe:
    """Stands where an actor is expected, and lets a test expect messages.

    ``probe = Probe(system)`` spawns it; give ``probe.ref`` to the actors under test. ``reply`` is what asks
    get: a value, or a function of the message.
    """

    def __init__(self, system: ActorSystem, *, name: str | None = None, reply: object = None) -> None:
        self.messages: list[object] = []
        self.reply = reply
        self._waiting: list[object] = []
        self._heard = anyio.Event()
        self.ref: ActorRef[Any, Any] = system.spawn(lambda: _Ear(self), name=name, mailbox_capacity=None)

    def hear(self, message: object) -> object:
        """Take a message in; called by the probe's actor."""
        self.messages.append(message)
        self._waiting.append(message)
        self._heard.set()
        self._heard = anyio.Event()
        return self.reply(message) if callable(self.reply) else self.reply

    async def expect(
        self, what: object = object, *, within: float = 3.0, where: Callable[[Any], bool] | None = None
    ) -> Any:
        """Return the next message, which must come ``within`` seconds and be ``what``.

        ``what`` is a type, or a value that the message has to equal; ``where`` is a further condition.
        Anything else is an `AssertionError` that says what came instead.
        """
        try:
            with anyio.fail_after(within):
                while not self._waiting:
                    await self._heard.wait()
        except TimeoutError:
            raise AssertionError(f"expected {what!r} within {within} s, but no message came") from None
        message = self._waiting.pop(0)
        fits = isinstance(message, what) if isinstance(what, type) else message == what
        if not fits or (where is not None and not where(message)):
            raise AssertionError(
                f"expected {what!r}{' with a condition' if where else ''}, but {message!r} came"
            )
        return message

    async def expect_none(self, *, within: float = 0.05) -> None:
        """Wait ``within`` seconds; a message that is or comes there is an `AssertionError`."""
        with anyio.move_on_after(within):
            while not self._waiting:
                await self._heard.wait()
        if self._waiting:
            raise AssertionError(f"expected no message within {within} s, but {self._waiting[0]!r} came")

    async def expect_terminated(self, ref: ActorRef[Any, Any], *, within: float = 3.0) -> ActorTerminated:
        """Return the `ActorTerminated` of a watched actor, which must be the next message."""
        terminated: ActorTerminated = await self.expect(
            ActorTerminated, within=within, where=lambda m: m.ref == ref
        )
        return terminated

    async def watch(self, ref: ActorRef[Any, Any]) -> None:
        """Notify the probe when an actor stops."""
        await self.ref.proxy().context.watch(ref)
