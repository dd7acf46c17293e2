"""A fixed number of actors behind one handle, replaced when they stop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from papyra import Actor, ActorContext, ActorTerminated, PapyraError
from papyra.typing import M, R
from papyra_contrib.routing._router import Router
from papyra_contrib.routing._strategies import Broadcast, RoundRobin, ScatterGatherFirst

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from papyra import ActorRef, ActorSystem, SupervisionPolicy
    from papyra.typing import Receives
    from papyra_contrib.routing._strategies import Strategy

__all__ = ["Pool", "PoolFailed"]

MAX_REPLACEMENTS = 3
WITHIN_SECONDS = 60.0


class PoolFailed(PapyraError):
    """Too many actors of a pool stopped within a minute; this is the failure of the pool's own actor."""


class Pool(Router[M, R]):
    """A handle to ``size`` actors of one kind; `spawn` makes it.

    The strategy picks in the sender's task, so an `ask` through a pool is one ask. An actor that restarts
    keeps its place and its mailbox. One that stops gets no more messages and is replaced in its slot, at most
    3 times in 60 seconds; then the pool's own actor fails with `PoolFailed`, and its parent decides.
    """

    def __init__(
        self,
        ref: ActorRef[M, R],
        slots: list[ActorRef[M, R]],
        strategy: Strategy | Broadcast | ScatterGatherFirst,
    ) -> None:
        super().__init__(strategy)
        self._ref = ref
        self._members = slots

    @classmethod
    async def spawn(
        cls,
        parent: ActorSystem | ActorContext,
        factory: Callable[[], Receives[M, R]],
        size: int,
        strategy: Strategy | Broadcast | ScatterGatherFirst | None = None,
        *,
        name: str | None = None,
        policy: SupervisionPolicy | None = None,
        routee_policy: SupervisionPolicy | None = None,
        mailbox_capacity: int | None = 1024,
    ) -> Pool[M, R]:
        """Spawn the pool below a system or below the actor of a context, and return when its actors exist.

        ``name`` and ``policy`` are those of the pool's own actor; ``routee_policy`` and ``mailbox_capacity``
        those of each actor in it. Without a strategy it is `RoundRobin`.
        """
        _check_size(size)
        strategy = RoundRobin() if strategy is None else strategy
        slots: list[ActorRef[Any, Any]] = []
        plan = _Plan(factory, routee_policy, mailbox_capacity, strategy, size)
        ref: ActorRef[Any, Any]
        if isinstance(parent, ActorContext):
            ref = parent.spawn_child(_PoolActor, plan, slots, name=name, policy=policy)
        else:
            ref = parent.spawn(_PoolActor, plan, slots, name=name, policy=policy)
        pool = cls(ref, slots, strategy)
        await ref.ask(_Resize(size))
        return pool

    @property
    def ref(self) -> ActorRef[M, R]:
        """The pool's own actor, for code that needs a reference.

        It forwards each message, which is a hop more.
        """
        return self._ref

    async def resize(self, size: int) -> None:
        """Change the number of actors to ``size``, and return when the surplus ones have stopped.

        Surplus actors are the newest ones. They get no more messages, and handle those in their mailboxes.
        """
        _check_size(size)
        own: ActorRef[Any, Any] = self._ref  # the pool's own messages are not among M
        retired: list[ActorRef[Any, Any]] = await own.ask(_Resize(size))
        async with anyio.create_task_group() as group:
            for ref in retired:
                group.start_soon(ref.stop)

    async def stop(self) -> None:
        """Stop the pool and return when its actors have worked off their mailboxes and stopped."""
        await self._ref.stop()

    def _slots(self) -> Sequence[ActorRef[M, R]]:
        return self._members

    def _nobody(self) -> ActorRef[M, R]:
        return self._ref  # it knows when a stopped actor has been replaced


def _check_size(size: int) -> None:
    if type(size) is not int or size < 1:
        raise ValueError(f"the size of a pool must be a whole number of at least 1, not {size!r}")


@dataclass(frozen=True, slots=True)
class _Resize:
    size: int


@dataclass(slots=True)
class _Plan:
    """What the pool's own actor needs again after a restart."""

    factory: Callable[[], Receives[Any, Any]]
    policy: SupervisionPolicy | None
    mailbox_capacity: int | None
    strategy: Strategy | Broadcast | ScatterGatherFirst
    size: int


class _PoolActor(Actor):
    """Supervises the actors of a pool, and forwards what is sent to `Pool.ref`."""

    def __init__(self, plan: _Plan, slots: list[ActorRef[Any, Any]]) -> None:
        self._plan = plan
        self._slots = slots
        self._replaced_at: deque[float] = deque(maxlen=MAX_REPLACEMENTS)

    async def on_start(self) -> None:
        self._slots[:] = [self._spawn() for _ in range(self._plan.size)]
        self._pool = Pool[Any, Any](self.context.self_ref, self._slots, self._plan.strategy)

    def _spawn(self) -> ActorRef[Any, Any]:
        plan = self._plan
        ref = self.context.spawn_child(
            plan.factory, policy=plan.policy, mailbox_capacity=plan.mailbox_capacity
        )
        self.context.watch(ref)
        return ref

    async def receive(self, message: Any) -> Any:
        match message:
            case _Resize(size):
                return self._resize(size)
            case ActorTerminated(ref):
                return self._replace(ref)
            case _ if any(ref.is_alive() for ref in self._slots):
                return await self._route(message)
            case _:
                # Until a stopped actor has been replaced.
                return self.context.stash(message)  # pyright: ignore[reportUnknownVariableType] - not a reply

    async def _route(self, message: Any) -> Any:
        strategy = self._plan.strategy
        if isinstance(strategy, ScatterGatherFirst):
            return await self._pool.ask(message)
        if isinstance(strategy, Broadcast):
            return await self._pool.tell(message)
        return await self.context.forward(self._pool._pick(message), message)

    def _resize(self, size: int) -> list[ActorRef[Any, Any]]:
        self._plan.size = size
        retired = self._slots[size:]
        del self._slots[size:]
        self._slots.extend(self._spawn() for _ in range(size - len(self._slots)))
        return retired

    def _replace(self, ref: ActorRef[Any, Any]) -> None:
        if ref not in self._slots:
            return  # it was retired, or belonged to this actor before a restart
        now = self.context.system.monotonic()
        if len(self._replaced_at) == MAX_REPLACEMENTS and now - self._replaced_at[0] < WITHIN_SECONDS:
            raise PoolFailed(
                f"{MAX_REPLACEMENTS + 1} actors of the pool stopped within {WITHIN_SECONDS:g} s. "
                "The log has their errors; give them a routee_policy that restarts them."
            )
        self._replaced_at.append(now)
        self._slots[self._slots.index(ref)] = self._spawn()
        self.context.unstash_all()
