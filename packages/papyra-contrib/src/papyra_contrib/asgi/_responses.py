"""Answers of the endpoints, without a framework."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from papyra_contrib.asgi._scope import Scope, Send

__all__ = ["allows", "query_of", "send_json", "send_text", "wants_json"]


async def send_body(
    scope: Scope, send: Send, status: int, body: bytes, content_type: str, headers: Mapping[str, str]
) -> None:
    """Send a complete response, or only its head to a HEAD request."""
    fields = {"content-type": content_type, "content-length": str(len(body)), "cache-control": "no-store"}
    raw = [(name.encode(), value.encode()) for name, value in (fields | dict(headers)).items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def send_text(
    scope: Scope, send: Send, status: int, text: str, headers: Mapping[str, str] | None = None
) -> None:
    """Send plain text."""
    await send_body(scope, send, status, f"{text}\n".encode(), "text/plain; charset=utf-8", headers or {})


async def send_json(
    scope: Scope,
    send: Send,
    status: int,
    value: Any,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> None:
    """Send JSON."""
    body = json.dumps(value, default=str).encode() + b"\n"
    await send_body(scope, send, status, body, content_type, headers or {})


async def allows(scope: Scope, send: Send) -> bool:
    """Whether the request is GET or HEAD. Answer any other with 405."""
    if scope["method"] in ("GET", "HEAD"):
        return True
    await send_text(scope, send, 405, "method not allowed", {"allow": "GET, HEAD"})
    return False


def query_of(scope: Scope) -> dict[str, list[str]]:
    """Return the parameters of the query, including blank ones."""
    text: bytes = scope.get("query_string", b"")
    return parse_qs(text.decode("latin-1"), keep_blank_values=True)


def wants_json(scope: Scope, query: Mapping[str, list[str]]) -> bool:
    """Whether ``?format=`` or the ``Accept`` header asks for JSON."""
    if "format" in query:
        return query["format"][-1] == "json"
    accepts = b",".join(value for name, value in scope.get("headers", ()) if name.lower() == b"accept")
    return b"json" in accepts and b"text/plain" not in accepts
