"""A small shop with work to watch: sessions, carts, payments that fail at times, a mailer that can't keep up.

Start it, and look at it from another terminal with ``papyra top`` or ``papyra dashboard --open``. It
runs until Ctrl-C, or for ``--seconds``. Its record is in memory, or in the store of ``--record``.
"""

from __future__ import annotations

import argparse
import logging
import random
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import anyio

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, Backoff, Strategy, SupervisionPolicy
from papyra_contrib.admin import AdminSocket
from papyra_contrib.running import run

rng = random.Random(4)
RESTARTS = SupervisionPolicy(Strategy.RESTART, max_restarts=100, backoff=Backoff(0.2, 1.0))


class Audit(Actor):
    """Takes note of everything."""

    async def receive(self, message: object) -> None:
        return


class Session(Actor):
    """One visitor."""

    def __init__(self, audit: ActorRef[object, None]) -> None:
        self.audit = audit

    async def receive(self, message: str) -> None:
        if rng.random() < 0.2:
            await self.audit.tell(message)


class Cart(Actor):
    """What a visitor wants to buy."""

    def __init__(self) -> None:
        self.items: list[int] = []

    async def receive(self, message: int) -> int:
        if message % 2500 == 0:
            raise KeyError(f"sku-{message}")
        self.items.append(message)
        return len(self.items)


class Payment(Actor):
    """Asks a bank, which does not always answer."""

    async def receive(self, message: int) -> None:
        await anyio.sleep(0.01 + rng.random() * 0.03)
        if rng.random() < 0.01:
            raise TimeoutError("the bank did not answer in 2 s")


class Mailer(Actor):
    """Sends one mail at a time, a little too slowly."""

    async def receive(self, message: int) -> None:
        await anyio.sleep(0.02)


class Importer(Actor):
    """Reads a feed that never ends."""

    async def receive(self, message: str) -> None:
        await anyio.sleep_forever()


class Department(Actor):
    """Has many actors of one type."""

    def __init__(self, kind: type[Actor], count: int, *args: Any) -> None:
        self.kind, self.count, self.args = kind, count, args
        self.refs: list[ActorRef[Any, Any]] = []

    async def on_start(self) -> None:
        make = partial(self.kind, *self.args)
        self.refs = [self.context.spawn_child(make, policy=RESTARTS) for _ in range(self.count)]

    async def receive(self, message: object) -> list[ActorRef[Any, Any]]:
        return self.refs


class Shop(NamedTuple):
    visitors: list[ActorRef[Any, Any]]
    baskets: list[ActorRef[Any, Any]]
    payments: list[ActorRef[Any, Any]]
    mailer: ActorRef[int, None]


async def open_shop(size: int, system: ActorSystem) -> Shop:
    audit = system.spawn(Audit, name="audit")
    sessions = system.spawn(Department, Session, 4 * size, audit, name="sessions")
    carts = system.spawn(Department, Cart, size, name="carts")
    await system.spawn(Importer, name="importer").tell("feed")
    payments = [system.spawn(Payment, name=f"payment-{i}", policy=RESTARTS) for i in range(4)]
    mailer = system.spawn(Mailer, name="mailer", mailbox_capacity=4096)
    return Shop(await sessions.ask("refs"), await carts.ask("refs"), payments, mailer)


async def sell(shop: Shop, system: ActorSystem) -> None:
    """Let visitors look at pages, fill carts and order."""
    for order in range(10**9):
        for _ in range(60):
            await rng.choice(shop.visitors).tell("page")
        for _ in range(20):
            await rng.choice(shop.baskets).tell(rng.randrange(10_000))
        if rng.random() < 0.7:
            await rng.choice(shop.payments).tell(order)
            await shop.mailer.tell(order)
        if order % 150 == 149:  # somebody writes to a visitor who has just left
            gone = system.spawn(Cart)
            await system.stop(gone)
            with suppress(ActorStopped):
                await gone.tell(order)
        await anyio.sleep(0.01)


async def trade(size: int, seconds: float | None, system: ActorSystem) -> None:
    shop = await open_shop(size, system)
    print("the shop is open: look at it with papyra top, or papyra dashboard --open", flush=True)
    with anyio.move_on_after(seconds):
        await sell(shop, system)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A small shop with work to watch.")
    parser.add_argument("--seconds", type=float, help="how long to trade; without it until Ctrl-C")
    parser.add_argument("--size", type=int, default=500, help="carts; there are four times as many sessions")
    parser.add_argument("--record", metavar="URL", help="a store of facts, as in json:./shop.ndjson")
    given = parser.parse_args()
    logging.getLogger("papyra").setLevel(logging.CRITICAL)  # its actors fail on purpose
    admin = AdminSocket(payloads=True)
    system = partial(ActorSystem, system_id="shop", persistence=given.record, instruments=[admin])
    run(partial(trade, given.size, given.seconds), system=system, deadline=1.0)  # the feed never ends
