"""A receptionist for one actor system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary
from weakref import ref as weak

from papyra import Actor, ActorStopped, ActorTerminated
from papyra_contrib.receptionist._receptionist import Receptionist

if TYPE_CHECKING:
    from papyra import ActorRef, ActorSystem
    from papyra_contrib.receptionist._key import M, R, ServiceKey

__all__ = ["LocalReceptionist"]

_receptionists: WeakKeyDictionary[ActorSystem, LocalReceptionist] = WeakKeyDictionary()


class LocalReceptionist(Receptionist):
    """The receptionist of a system without a cluster; `Receptionist.of` makes it."""

    def __init__(self, system: ActorSystem) -> None:
        super().__init__()
        self._weak_system = weak(system)
        self._services: dict[str, dict[ActorRef[Any, Any], None]] = {}
        self._watch = system.spawn(lambda: _Watch(self), mailbox_capacity=None)
        self._watched: set[ActorRef[Any, Any]] = set()

    @classmethod
    def of_system(cls, system: ActorSystem) -> LocalReceptionist:
        """Return the one local receptionist of ``system``; the system must be running."""
        found = _receptionists.get(system)
        if found is None:
            found = _receptionists[system] = cls(system)
        return found

    async def register(self, key: ServiceKey[M, R], ref: ActorRef[M, R]) -> None:
        """Offer the service ``key`` by ``ref``."""
        if not ref.is_alive():
            raise ActorStopped(ref)
        services = self._services.setdefault(key.name, {})
        if ref in services:
            return
        services[ref] = None
        if ref not in self._watched:
            self._watched.add(ref)
            await self._watch.tell(ref)
        await self._inform(key.name)

    async def withdraw(self, key: ServiceKey[M, R], ref: ActorRef[M, R]) -> None:
        """Offer ``key`` by ``ref`` no more."""
        if self._remove(key.name, ref):
            await self._inform(key.name)

    def find(self, key: ServiceKey[M, R]) -> tuple[ActorRef[M, R], ...]:
        """Return the living actors registered under ``key``."""
        return tuple(ref for ref in self._services.get(key.name, ()) if ref.is_alive())

    def _system_of_couriers(self) -> ActorSystem:
        system = self._weak_system()
        if system is None:
            raise RuntimeError("the actor system of this receptionist is gone; use Receptionist.of(system)")
        return system

    def _remove(self, name: str, ref: ActorRef[Any, Any]) -> bool:
        services = self._services.get(name, {})
        if ref not in services:
            return False
        del services[ref]
        if not services:
            del self._services[name]
        return True

    async def terminated(self, ref: ActorRef[Any, Any]) -> None:
        """Forget an actor that has stopped."""
        self._watched.discard(ref)
        for name in [name for name, services in self._services.items() if ref in services]:
            self._remove(name, ref)
            await self._inform(name)

    def ended(self) -> None:
        """End every iterator: the system closes."""
        self._end()


class _Watch(Actor):
    """Is told when a registered actor stops."""

    def __init__(self, receptionist: LocalReceptionist) -> None:
        self._receptionist = receptionist

    async def on_stop(self) -> None:
        self._receptionist.ended()

    async def receive(self, message: object) -> None:
        if isinstance(message, ActorTerminated):
            await self._receptionist.terminated(message.ref)
        else:
            self.context.watch(cast("ActorRef[Any, Any]", message))
