"""An application for `test_servers`.

``python _server_app.py SERVER PORT STORE`` runs it under a real server.
"""

from __future__ import annotations

import os
import sys

import anyio

from papyra import Actor, ActorSystem
from papyra_contrib.asgi import ASGIPapyra, system_of
from papyra_contrib.dashboard import Dashboard


class Worker(Actor):
    async def receive(self, seconds):
        await anyio.sleep(seconds)
        return f"slept {seconds}"

    async def on_stop(self):
        async with await anyio.open_file(os.environ["STOPPED"], "a") as file:
            await file.write("stopped\n")


def make():
    return ActorSystem(system_id="web", persistence=f"json:{os.environ['STORE']}", shutdown_timeout=3.0)


async def answer(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    if scope["path"].startswith("/watch"):
        await dashboard({**scope, "root_path": "/watch"}, receive, send)
        return
    seconds = float(scope["path"].rpartition("/")[2])
    text = await system_of(scope).ref_for_name("worker").ask(seconds)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})


papyra = ASGIPapyra(make, setup=lambda system: system.spawn(Worker, name="worker"))
dashboard = Dashboard(lambda: papyra.system, authorize=Dashboard.OPEN)
app = papyra.wrap(answer)


def uvicorn(port):
    import uvicorn

    patience = int(os.environ.get("PATIENCE", "0")) or None
    uvicorn.run(app, port=port, log_level="warning", timeout_graceful_shutdown=patience, lifespan="on")


def hypercorn(port, worker="asyncio"):
    from hypercorn.config import Config
    from hypercorn.run import run

    config = Config()
    config.application_path = "_server_app:app"
    config.bind = [f"127.0.0.1:{port}"]
    config.worker_class = worker
    config.graceful_timeout = float(os.environ.get("PATIENCE", "5"))
    sys.exit(run(config))


def hypercorn_trio(port):
    hypercorn(port, "trio")


def granian(port):
    from granian import Granian
    from granian.constants import Interfaces

    Granian("_server_app:app", port=port, interface=Interfaces.ASGI, workers_kill_timeout=10).serve()


if __name__ == "__main__":
    globals()[sys.argv[1]](int(sys.argv[2]))
