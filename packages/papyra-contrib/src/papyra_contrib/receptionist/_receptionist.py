"""Receptionists: the interface, what a local and a clustered one share, and the local one.

The local one is in this file because `Receptionist.of` makes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, cast
from weakref import WeakKeyDictionary
from weakref import ref as weak

import anyio

from papyra import Actor, ActorRef, ActorStopped, ActorTerminated
from papyra_contrib.receptionist._courier import POKE, Courier
from papyra_contrib.receptionist._key import M, R

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from papyra import ActorSystem
    from papyra_contrib.receptionist._key import ServiceKey

__all__ = ["LocalReceptionist", "Receptionist"]

_receptionists: WeakKeyDictionary[ActorSystem, LocalReceptionist] = WeakKeyDictionary()


class Receptionist(ABC):
    """Register actors under service keys, and find them.

    Eventual by contract: `find` returns what is known here and now. A registration ends with its actor; a
    restart of the actor does not end it.
    """

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}
        self._couriers: dict[tuple[str, ActorRef[Any, Any]], ActorRef[Any, Any]] = {}
        self._ended = False

    @staticmethod
    def of(system: ActorSystem) -> Receptionist:
        """Return the receptionist of ``system``: its cluster, or a local one without a cluster."""
        cluster = getattr(system, "_cluster", None)
        return cluster if isinstance(cluster, Receptionist) else LocalReceptionist.of_system(system)

    @abstractmethod
    async def register(self, key: ServiceKey[M, R], ref: ActorRef[M, R]) -> None:
        """Offer the local actor ``ref`` under the service ``key``. Registering twice has no effect.

        Raises `ActorStopped` if the actor is stopped.
        """

    @abstractmethod
    async def withdraw(self, key: ServiceKey[M, R], ref: ActorRef[M, R]) -> None:
        """Stop offering ``ref``, if it is registered, under ``key``. The actor keeps running."""

    @abstractmethod
    def find(self, key: ServiceKey[M, R]) -> tuple[ActorRef[M, R], ...]:
        """Return the actors that are known to offer ``key`` here and now, in the order of registration."""

    @abstractmethod
    def _system_of_couriers(self) -> ActorSystem:
        """Return the system of the actors that carry listings to subscribers."""

    def listings(self, key: ServiceKey[M, R]) -> AsyncIterator[tuple[ActorRef[M, R], ...]]:
        """Iterate over the current actors of ``key``, then each newer tuple; a slow reader gets the latest.

        The iterator ends when the system closes.
        """
        return _Listings(self, key)

    async def subscribe(self, key: ServiceKey[M, R], ref: ActorRef[Any, Any]) -> None:
        """Send the actor ``ref`` a `Listing` now, and one for each change.

        A subscriber with a full mailbox skips to the newest listing. The subscription ends with the actor.
        """
        if (key.name, ref) in self._couriers:
            return
        system = self._system_of_couriers()
        courier: ActorRef[Any, Any] = system.spawn(
            lambda: Courier(key, ref, self.find, self._forget_courier), mailbox_capacity=None
        )
        self._couriers[key.name, ref] = courier
        await courier.tell(POKE)

    async def unsubscribe(self, key: ServiceKey[M, R], ref: ActorRef[Any, Any]) -> None:
        """Stop sending ``ref`` listings of ``key``. Does nothing if it is not subscribed."""
        courier = self._couriers.pop((key.name, ref), None)
        if courier is not None:
            await self._system_of_couriers().stop(courier, timeout=0)

    def _forget_courier(self, key: ServiceKey[Any, Any], subscriber: ActorRef[Any, Any]) -> None:
        self._couriers.pop((key.name, subscriber), None)

    async def _inform(self, name: str) -> None:
        """Wake the iterators and subscribers of the service ``name``."""
        self._changed(name)
        for (service, _), courier in list(self._couriers.items()):
            if service == name and courier.is_alive():
                await courier.tell(POKE)

    def _changed(self, name: str) -> None:
        """Wake every iterator over the service ``name``."""
        waiting = self._events.pop(name, None)
        if waiting is not None:
            waiting.set()

    def _end(self) -> None:
        """End every iterator: the system closes."""
        self._ended = True
        for name in list(self._events):
            self._changed(name)


class _Listings(Generic[M, R]):
    """An iterator without resources, so that it may be dropped before its end."""

    def __init__(self, receptionist: Receptionist, key: ServiceKey[M, R]) -> None:
        self._receptionist = receptionist
        self._key = key
        self._last: tuple[ActorRef[M, R], ...] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[ActorRef[M, R], ...]:
        receptionist = self._receptionist
        while not receptionist._ended:
            refs = receptionist.find(self._key)
            if refs != self._last:
                self._last = refs
                return refs
            await receptionist._events.setdefault(self._key.name, anyio.Event()).wait()
        raise StopAsyncIteration


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
        receptionist = _receptionists.get(system)
        if receptionist is None:
            receptionist = _receptionists[system] = cls(system)
        return receptionist

    async def register(self, key: ServiceKey[M, R], ref: ActorRef[M, R]) -> None:
        """Offer ``ref`` under the service ``key``."""
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
        """Stop offering ``ref`` under ``key``."""
        if self._remove(key.name, ref):
            await self._inform(key.name)

    def find(self, key: ServiceKey[M, R]) -> tuple[ActorRef[M, R], ...]:
        """Return the living actors registered under ``key``."""
        return tuple(ref for ref in self._services.get(key.name, ()) if ref.is_alive())

    def _system_of_couriers(self) -> ActorSystem:
        system = self._weak_system()
        if system is None:
            raise RuntimeError("the actor system of this receptionist is gone. Use Receptionist.of(system).")
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
    """Watch the registered actors."""

    def __init__(self, receptionist: LocalReceptionist) -> None:
        self._receptionist = receptionist

    async def on_stop(self) -> None:
        self._receptionist.ended()

    async def receive(self, message: object) -> None:
        if type(message) is ActorTerminated:
            await self._receptionist.terminated(message.ref)
        elif issubclass(type(message), ActorRef):
            self.context.watch(cast("ActorRef[Any, Any]", message))
        # Anything else is a broadcast to all actors. isinstance() would run code of its class.
