"""A program as a user would write it, fully typed: mypy's strict mode and pyright's have nothing to say.

A type is Any only where the comment says so: a bare `ActorRef` is a reference to whatever actor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_type

from papyra import (
    Actor,
    ActorAddress,
    ActorInfo,
    ActorRef,
    ActorSystem,
    ActorTerminated,
    AuditReport,
    DeadLetter,
    SupervisionPolicy,
    SupervisorDecision,
    SystemHooks,
)
from papyra.events import ActorEvent, ActorStarted
from papyra.persistence import InMemoryPersistence, PersistenceBackend, RetentionPolicy, open_backend
from papyra.persistence.models import CompactionReport, PersistedEvent, PersistenceScanReport


@dataclass(frozen=True)
class Deposit:
    amount: int


@dataclass(frozen=True)
class Balance:
    amount: int


class Account(Actor):
    def __init__(self, opening: int = 0) -> None:
        self.amount = opening

    async def receive(self, message: Deposit | Literal["balance"]) -> Balance:
        if not isinstance(message, str):
            self.amount += message.amount
        return Balance(self.amount)


class Bank(Actor):
    def __init__(self) -> None:
        self.accounts: dict[str, ActorRef[Deposit | Literal["balance"], Balance]] = {}

    async def on_start(self) -> None:
        assert_type(self.context.self_ref.address, ActorAddress)  # Any

    async def receive(self, message: str | ActorTerminated) -> int:
        if isinstance(message, ActorTerminated):  # Any
            return len(self.accounts)
        account = self.context.spawn_child(Account, 10, name=message)
        assert_type(account, ActorRef[Deposit | Literal["balance"], Balance])
        self.accounts[message] = account
        await self.context.watch(account)
        return (await account.ask(Deposit(1))).amount

    async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision | None:
        return SupervisorDecision.RESUME if isinstance(exc, ValueError) else None


class Forgetful(Actor):
    async def receive(self, message: object) -> None:
        return None


def on_letter(letter: DeadLetter) -> None:
    print(letter.target.address)  # Any


async def main() -> None:
    hooks = SystemHooks(on_dead_letter=on_letter)
    store: PersistenceBackend = InMemoryPersistence(RetentionPolicy(max_records=10))
    async with ActorSystem(persistence=store, hooks=hooks) as system:
        account = system.spawn(Account, name="account", policy=SupervisionPolicy(max_restarts=1))
        assert_type(account, ActorRef[Deposit | Literal["balance"], Balance])
        assert_type(await account.ask("balance", timeout=1.0), Balance)
        await account.tell(Deposit(1))
        bank = system.spawn(Bank)
        assert_type(await bank.ask("mine"), int)
        anything = system.spawn(Forgetful)
        await anything.tell(object())
        narrowed: ActorRef[Deposit, object] = account  # takes less, says less
        await narrowed.tell(Deposit(2))
        refs: list[ActorRef] = [account, bank]
        for ref in refs:  # Any
            assert_type(ref.is_alive(), bool)  # Any
        assert_type(system.audit(), AuditReport)
        assert_type(system.list_actors(), list[ActorInfo])
        assert_type(system.events(), list[ActorEvent])
        assert_type(system.dead_letters.messages, list[DeadLetter])
        assert_type(await system.wait_for_event(ActorStarted), ActorEvent)
        assert_type(await system.compact(), CompactionReport)
        assert_type(await store.scan(), PersistenceScanReport)
        events = list(await store.list_events(limit=1))
        assert_type(events, list[PersistedEvent])
    backend = open_backend("memory:")
    assert_type(backend, PersistenceBackend)
