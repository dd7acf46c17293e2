"""Supervisors as data: which children an actor has, and what happens when one ends."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from papyra import Actor, ActorTerminated, PapyraError, Strategy, SupervisionPolicy
from papyra.supervision import GroupPolicy, RestartStrategy

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra import ActorRef
    from papyra.typing import Receives

__all__ = [
    "PERMANENT",
    "TEMPORARY",
    "TRANSIENT",
    "ChildSpec",
    "Restart",
    "Supervisor",
    "SupervisorFailed",
]


class Restart(StrEnum):
    """When a child is started again; the words are Erlang/OTP's."""

    PERMANENT = "permanent"
    """After any end: a failure or any stop."""
    TRANSIENT = "transient"
    """After a failure."""
    TEMPORARY = "temporary"
    """Never."""


PERMANENT = Restart.PERMANENT
TRANSIENT = Restart.TRANSIENT
TEMPORARY = Restart.TEMPORARY


class SupervisorFailed(PapyraError):
    """Permanent children ended too often; this is the failure of their supervisor."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start a child: its factory without arguments, its name, and when it is started again."""

    factory: Callable[[], Receives[Any, Any]]
    name: str | None = None
    restart: Restart = PERMANENT


class Supervisor(Actor):
    """An actor that only starts children and keeps them running.

    ``system.spawn(Supervisor, ChildSpec(Cache, "cache"), ChildSpec(Api, "api"))``. Order and intensity are
    those of `papyra.GroupPolicy`: past ``max_restarts`` within ``within_seconds`` the supervisor itself
    fails, and its parent decides. A permanent child that stops is spawned again, which counts as a
    restart.

    Send it a `ChildSpec`, or call ``start_child`` through its proxy, to start one more; both return its
    reference.
    """

    def __init__(
        self,
        *specs: ChildSpec,
        strategy: RestartStrategy = RestartStrategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        within_seconds: float = 60.0,
    ) -> None:
        for spec in specs:
            _check(spec)
        self.children_policy = self._intensity = GroupPolicy(
            strategy, max_restarts=max_restarts, within_seconds=within_seconds
        )
        self._first_specs = specs
        self._specs: dict[ActorRef[Any, Any], ChildSpec] = {}
        self._respawned_at: deque[float] = deque(maxlen=max(1, max_restarts))

    async def on_start(self) -> None:
        """Start the children, in order."""
        for spec in self._first_specs:
            self._start(spec)

    async def receive(self, message: ChildSpec | ActorTerminated) -> ActorRef[Any, Any] | None:
        """Start one more child, or start a child again that has ended."""
        match message:
            case ChildSpec():
                return self._start(message)
            case ActorTerminated(ref):
                self._handle_end(ref)
        return None

    async def start_child(self, spec: ChildSpec) -> ActorRef[Any, Any]:
        """Start one more child and return its reference."""
        _check(spec)
        return self._start(spec)

    def _start(self, spec: ChildSpec) -> ActorRef[Any, Any]:
        strategy = Strategy.STOP if spec.restart is TEMPORARY else Strategy.RESTART
        ref = self.context.spawn_child(spec.factory, name=spec.name, policy=SupervisionPolicy(strategy))
        self._specs[ref] = spec
        self.context.watch(ref)
        return ref

    def _handle_end(self, ref: ActorRef[Any, Any]) -> None:
        spec = self._specs.pop(ref, None)  # None: a child of this supervisor before it was restarted
        if spec is None or spec.restart is not PERMANENT:
            return
        policy = self._intensity
        now = self.context.system.monotonic()
        recent = [time for time in self._respawned_at if now - time < policy.within_seconds]
        if len(recent) >= policy.max_restarts:
            raise SupervisorFailed(
                f"child {spec.name or spec.factory!r} ended once more: {policy.max_restarts} children were started "
                f"again within {policy.within_seconds:g} s already"
            )
        self._respawned_at.append(now)
        self._start(spec)


def _check(spec: ChildSpec) -> None:
    if not isinstance(spec, ChildSpec):
        raise TypeError(f"expected a ChildSpec, as in ChildSpec(Cache, 'cache'), not {spec!r}")
