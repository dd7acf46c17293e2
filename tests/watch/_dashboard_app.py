"""An application with a mounted dashboard and hostile names; the tests look at it in a browser."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, suppress

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from papyra import Actor, ActorStopped, ActorSystem, Strategy, SupervisionPolicy
from papyra_contrib.asgi import papyra_lifecycle
from papyra_contrib.dashboard import Dashboard

HOSTILE = "<script>window.hurt=1</script>\x1b[31m\u202e\" onmouseover='window.hurt=1' <img src=x onerror=window.hurt=1>"
TOKEN = "a token for the browser"


class Echo(Actor):
    async def receive(self, message):
        if isinstance(message, Exception):
            raise message
        return message


class Parent(Actor):
    async def on_start(self):
        for _ in range(20):
            self.context.spawn_child(Echo)

    async def receive(self, message):
        return message


systems: list[ActorSystem] = []


async def setup(system: ActorSystem) -> None:
    systems.append(system)
    restart = SupervisionPolicy(Strategy.RESTART, max_restarts=1000)
    hostile = system.spawn(Echo, name=HOSTILE, policy=restart)
    system.spawn(Parent, name="parent")
    system.spawn(Echo, name="doomed")
    for number in range(60):
        system.spawn(Echo, name=f"echo-{number}")
    wide = type("VeryLongTypeName" * 8, (Parent,), {})
    await system.spawn(wide, name="w" * 3000).ask("hello")
    with suppress(ValueError):
        await hostile.ask(ValueError(HOSTILE))
    gone = system.spawn(Echo)
    await system.stop(gone)
    with suppress(ActorStopped):
        await gone.tell(HOSTILE)


async def chat() -> None:
    while True:
        for number in range(50):
            ref = systems[0].ref_for_name(f"echo-{number}")
            if ref is not None:  # a test has stopped it
                with suppress(ActorStopped):
                    await ref.tell("hello")
        await anyio.sleep(0.05)


@asynccontextmanager
async def lifespan(app):
    make = lambda: ActorSystem(system_id="shop")  # noqa: E731
    async with papyra_lifecycle(make, setup=setup), anyio.create_task_group() as tasks:
        tasks.start_soon(chat)
        yield
        tasks.cancel_scope.cancel()


dashboard = Dashboard(lambda: systems[0], token=TOKEN, actions=True, payloads=True)
app = Starlette(routes=[Mount("/watch", dashboard)], lifespan=lifespan)

if __name__ == "__main__":
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/watch/", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
