"""A short run for `test_cost_off`: ``ROW OPERATIONS``. It is run under cachegrind, which counts its instructions."""

from __future__ import annotations

import sys

import anyio

from papyra.actor import Actor
from papyra.system import ActorSystem


class Echo(Actor):
    async def receive(self, message):
        return message


class Player(Actor):
    def __init__(self):
        self.peer = self.done = None

    async def receive(self, message):
        if message:
            await self.peer.tell(message - 1)
        else:
            self.done.set()


async def main(row, operations):
    async with ActorSystem() as system:
        echo, done = system.spawn(Echo, mailbox_capacity=None), anyio.Event()
        left, right = Player(), Player()
        refs = system.spawn(lambda: left), system.spawn(lambda: right)
        left.peer, right.peer, left.done, right.done = refs[1], refs[0], done, done
        if row == "tell":
            for _ in range(operations):
                await echo.tell(1)
        if row == "ask":
            for _ in range(operations):
                await echo.ask(1)
        if row == "pingpong":
            await refs[0].tell(operations)
            await done.wait()
        await echo.ask(1)


anyio.run(main, sys.argv[1], int(sys.argv[2]))
