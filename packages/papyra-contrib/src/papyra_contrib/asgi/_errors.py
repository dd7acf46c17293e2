"""Responses to the client of a web application if an actor is gone or slow: 503 and 504."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from papyra.exceptions import ActorStopped, AskTimeout, SystemNotRunning
from papyra_contrib.asgi._responses import send_json

if TYPE_CHECKING:
    from papyra_contrib.asgi._scope import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ERRORS", "ErrorResponses", "headers_for", "problem"]

ERRORS: dict[type[Exception], HTTPStatus] = {
    ActorStopped: HTTPStatus.SERVICE_UNAVAILABLE,
    SystemNotRunning: HTTPStatus.SERVICE_UNAVAILABLE,
    AskTimeout: HTTPStatus.GATEWAY_TIMEOUT,
}

TRY_AGAIN_LATER = 1013
"""The code that a WebSocket is closed with (RFC 6455, registry of close codes)."""

CONTENT_TYPE = "application/problem+json"


def problem(status: HTTPStatus) -> dict[str, object]:
    """Return the body (RFC 9457). It has no details of the error."""
    return {"type": "about:blank", "title": status.phrase, "status": status.value}


def headers_for(status: HTTPStatus) -> dict[str, str]:
    """Return the headers, without the content type."""
    return {"retry-after": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}


class ErrorResponses:
    """Answer with 503 or 504 if an application raises one of `ERRORS` before it starts its response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        ended = False

        async def watched(message: Message) -> None:
            nonlocal ended
            ended = ended or message["type"] in ("http.response.start", "websocket.close")
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except tuple(ERRORS) as error:
            if ended:
                raise  # the response is under way: only the server can cut it off
            status = next(status for kind, status in ERRORS.items() if isinstance(error, kind))
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": status.phrase})
            else:
                await send_json(scope, send, status, problem(status), headers_for(status), CONTENT_TYPE)
