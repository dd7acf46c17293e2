"""A server and a client in one, for tests of ASGI applications on either event loop."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


class Client:
    def __init__(self, app, state):
        self._app, self._state = app, state

    def _scope(self, kind, target):
        path, _, query = target.partition("?")
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http" if kind == "http" else "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"test")],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
            "subprotocols": [],
            "state": dict(self._state),
        }

    async def request(self, method, target, headers=()):
        scope = self._scope("http", target)
        scope["method"] = method
        scope["headers"] += [(name.encode(), value.encode()) for name, value in headers]
        sent, body = [], b""

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        with anyio.fail_after(20):
            await self._app(scope, receive, send)
        body = b"".join(each.get("body", b"") for each in sent[1:])
        fields = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], fields, body)

    async def get(self, target, headers=()):
        return await self.request("GET", target, headers)

    async def post(self, target):
        return await self.request("POST", target)

    async def websocket(self, target):
        """Return what was sent, and the code where it was closed with another one than 1000."""
        received = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            if message["type"] == "websocket.send":
                received.append(message.get("text"))
            elif message["type"] == "websocket.close" and message.get("code", 1000) != 1000:
                received.append(message["code"])

        with anyio.fail_after(20):
            await self._app(self._scope("websocket", target), receive, send)
        return received


@asynccontextmanager
async def running(app, *, lifespan=True, sent=None):
    """Run an application's lifespan and yield a client of it."""
    sent = [] if sent is None else sent
    state: dict = {}
    if not lifespan:
        yield Client(app, state)
        return
    to_app, at_app = anyio.create_memory_object_stream(2)
    answered = {"startup": anyio.Event(), "shutdown": anyio.Event()}
    errors, ended = [], anyio.Event()

    async def send(message):
        sent.append(message)
        answered[message["type"].split(".")[1]].set()

    async def run():
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}, at_app.receive, send)
        except Exception as error:
            errors.append(error)
        for event in (*answered.values(), ended):
            event.set()

    with to_app, at_app:
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(20):
                tasks.start_soon(run)
                await to_app.send({"type": "lifespan.startup"})
                await answered["startup"].wait()
                if errors or sent[-1]["type"].endswith("failed"):
                    await ended.wait()
            if not errors:
                yield Client(app, state)
                with anyio.fail_after(20):
                    await to_app.send({"type": "lifespan.shutdown"})
                    await answered["shutdown"].wait()
                    await ended.wait()
    if errors:
        raise errors[0]
