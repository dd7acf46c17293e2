"""An actor's view of the system it lives in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra._runtime import watching
from papyra._runtime._eventloop import current_tasks
from papyra._runtime.cell import NO_LIMIT
from papyra._runtime.stopping import stop_from_inside
from papyra._runtime.worker import WORKERS
from papyra.ref import ActorRef

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from papyra._runtime.cell import Cell
    from papyra.supervision import SupervisionPolicy
    from papyra.system import ActorSystem
    from papyra.typing import M, R, Receives, Ts

__all__ = ["ActorContext", "current_actor"]


def current_actor() -> ActorRef[Any, Any] | None:
    """Return the reference of the actor whose code runs here; None outside of actors.

    It may be called anywhere, in any thread. A task that an actor started is not the actor's own code.
    """
    for task in current_tasks():
        worker = WORKERS.get(task)
        if worker is not None and worker.cell is not None:
            return ActorRef(worker.cell)
    return None


class _Done:
    """An awaitable that is done, so that ``context.watch(ref)`` and ``await context.watch(ref)`` both work."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()


class ActorContext:
    """The actor's own reference, its parent, its children and its system, and the operations on them."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    @property
    def system(self) -> ActorSystem:
        """The system the actor lives in."""
        return self._cell.rt.system

    @property
    def self_ref(self) -> ActorRef[Any, Any]:
        """The actor's own reference."""
        return ActorRef(self._cell)

    @property
    def parent(self) -> ActorRef[Any, Any] | None:
        """The parent's reference; None for an actor that was spawned by the system itself."""
        parent = self._cell.parent
        return ActorRef(parent) if parent is not None and parent.parent is not None else None

    @property
    def children(self) -> tuple[ActorRef[Any, Any], ...]:
        """The living children, oldest first."""
        return tuple(ActorRef(child) for child in (self._cell.children or {}).values())

    def spawn_child(
        self,
        factory: Callable[[*Ts], Receives[M, R]],
        *args: *Ts,
        name: str | None = None,
        mailbox_capacity: int | None = 1024,
        policy: SupervisionPolicy | None = None,
    ) -> ActorRef[M, R]:
        """Spawn an actor below this one; see `ActorSystem.spawn`."""
        return self.system.spawn(
            factory,
            *args,
            name=name,
            mailbox_capacity=mailbox_capacity,
            policy=policy,
            parent=ActorRef(self._cell),
        )

    def stop_self(self) -> Awaitable[None]:
        """Stop after the current message; the queued messages become dead letters. Returns at once."""
        stop_from_inside(self._cell, self._cell)
        return _DONE

    async def stop(self, ref: ActorRef[Any, Any], *, timeout: float | None = None) -> None:
        """Stop an actor; see `ActorSystem.stop`."""
        await self.system.stop(ref, timeout=timeout)

    def watch(self, ref: ActorRef[Any, Any]) -> Awaitable[None]:
        """Receive one `ActorTerminated` message when the actor ``ref`` has stopped; at once if it has already.

        Watchers are not notified of a restart. Watching an actor twice has the same effect as once.
        """
        watching.watch(self._cell, ref._cell)
        return _DONE

    def unwatch(self, ref: ActorRef[Any, Any]) -> Awaitable[None]:
        """Stop watching ``ref``: no `ActorTerminated` arrives for it."""
        watching.unwatch(self._cell, ref._cell)
        return _DONE

    @property
    def mailbox_capacity(self) -> int | None:
        """The most messages that may wait in the actor's mailbox; None for no limit."""
        capacity = self._cell.capacity
        return None if capacity >= NO_LIMIT else capacity

    def __repr__(self) -> str:
        return f"<ActorContext of {self._cell}>"
