"""The class that users derive their actors from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from papyra._runtime.resources import become, unbecome
from papyra.context import ActorContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from papyra._runtime.cell import Cell
    from papyra.ref import ActorRef
    from papyra.supervision import GroupPolicy, SupervisorDecision
    from papyra.typing import M, R, Receives

__all__ = ["Actor"]


class _Context:
    """Makes the context of an actor when it is first used, and keeps it in the instance.

    Reading it then costs no call: a property takes 10 times as long, and many actors send their own reference
    with each message. `functools.cached_property` fills ``__dict__`` itself, and on Python 3.11 an instance
    whose ``__dict__`` was asked for has slower attributes.
    """

    def __get__(self, actor: Actor | None, owner: type[Actor]) -> Self | ActorContext:
        if actor is None:
            return self
        cell = actor._papyra_cell
        if cell is None:
            raise RuntimeError(
                f"{type(actor).__name__}.context does not exist yet: the actor is not spawned. "
                "Use it in on_start(), receive() and on_stop(), not in __init__()"
            )
        context = ActorContext(cell)
        object.__setattr__(actor, "context", context)
        return context


class Actor:
    """Handle one message at a time, with state that no other code touches.

    Subclass it, define `receive`, and give the class (or any function that returns an instance) to
    `ActorSystem.spawn`. A subclass's ``__init__`` takes no arguments and need not call this one's.
    """

    _papyra_cell: Cell | None = None

    own_task: bool = False
    """Whether `on_start`, every message and `on_stop` run in one task of the actor's own.

    Then a task group, a client session or a lock may span them. It costs a task for each such actor and a
    wake-up for each message that finds it idle. A restart gets a new task.
    """

    stash_capacity: int | None = 1024
    """The most messages that `ActorContext.stash` holds; None means no limit."""

    children_policy: GroupPolicy | None = None
    """How the children of this actor restart together. It is read at each failure of a child.

    It applies where `on_child_failure` makes no decision and the child's own policy is to restart. A child
    that is spawned without a policy restarts.
    """

    if TYPE_CHECKING:  # pyright does not take a descriptor for the property of a protocol

        @property
        def context(self) -> ActorContext:
            """The actor's place in the system: from `on_start` to `on_stop`, not in ``__init__``."""
            ...

    else:
        context = _Context()
        """The actor's place in the system: from `on_start` to `on_stop`, not in ``__init__``."""

    async def on_start(self) -> None:
        """Run before the first message. An error counts as a failure of the actor."""

    async def receive(self, message: Any) -> Any:
        """Handle one message. The return value is the reply to an ask; an error is a failure of the actor."""
        raise NotImplementedError(f"{type(self).__name__} defines no `async def receive(self, message)`")

    def become(self: Receives[M, R], behaviour: Callable[[M], Awaitable[R]]) -> None:
        """Handle messages with ``behaviour`` in place of `receive`, from the next message on.

        Called in `on_start`, it counts from the first message on. It holds for tells, asks and ticks alike; a
        proxy still calls the actor's methods. A restart goes back to `receive`.
        """
        become(cast("Actor", self)._papyra_cell, behaviour)

    def unbecome(self) -> None:
        """Handle messages with `receive` again, from the next message on."""
        unbecome(self._papyra_cell)

    async def on_stop(self) -> None:
        """Run once when this instance ends, whatever happened before."""

    async def on_child_failure(
        self, child_ref: ActorRef[Any, Any], exc: Exception
    ) -> SupervisorDecision | None:
        """Decide what happens to a child that failed with ``exc``; None leaves it to the child's own policy.

        Runs between two messages of this actor, like all code of an actor. If this actor itself waits for
        that child, it runs at once, because the wait could never end otherwise.
        """
        return None
