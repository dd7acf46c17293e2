"""Requests to a dashboard without a server, and actors to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio

from papyra import Actor

TOKEN = "a token for the tests"
SIGNED_IN = {"x-papyra-token": TOKEN}
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\" onload='x"
VIEWS = ("overview", "actors", "tree", "letters", "timeline", "store", "plugins")


class Echo(Actor):
    async def receive(self, message: Any) -> Any:
        if isinstance(message, Exception):
            raise message
        return message


class Sleeper(Actor):
    async def receive(self, message: Any) -> Any:
        await anyio.sleep_forever()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str


async def ask(
    app: Any, path: str, method: str = "GET", headers: dict[str, str] | None = None, *, root: str = ""
) -> Answer:
    """Send a request as ASGI; a dashboard has to answer at once."""
    place, _, query = path.partition("?")
    given = {"host": "localhost:8000"} | (SIGNED_IN if headers is None else headers)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": place,
        "raw_path": place.encode(),
        "query_string": query.encode(),
        "root_path": root,
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 8000),
        "state": {},
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    with anyio.fail_after(60):
        await app(scope, receive, send)
    fields = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(each.get("body", b"") for each in sent[1:])
    return Answer(sent[0]["status"], fields, body.decode())
