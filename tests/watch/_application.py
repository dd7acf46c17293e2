"""An application that the commands look at: a process of its own, with the admin socket on."""

from __future__ import annotations

import sys

import anyio

from papyra import Actor, ActorSystem
from papyra_contrib.admin import AdminSocket

HOSTILE = "[bold red]evil\x1b[31m\u202e</b>"


class Session(Actor):
    async def receive(self, message: object) -> object:
        return message


class Orders(Actor):
    async def on_start(self) -> None:
        for _ in range(20):
            self.context.spawn_child(Session)

    async def receive(self, message: object) -> object:
        return message


async def main() -> None:
    admin = AdminSocket()
    async with ActorSystem(system_id="shop", instruments=[admin]) as system:
        orders = system.spawn(Orders, name="orders")
        system.spawn(Session, name=HOSTILE)
        for number in range(1_200):
            await orders.ask(number)
        while admin.path is None:  # noqa: ASYNC110 - the socket says nothing when it is ready
            await anyio.sleep(0.01)
        print(admin.path, flush=True)
        while True:  # some traffic, until the test ends the process
            await orders.ask("more")
            await anyio.sleep(0.01)


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1])
