"""The protocol: JSON, one object a line, UTF-8. A greeting from the server, then requests and answers.

Greeting: ``{"papyra_admin": 1, "version", "system_id", "run", "pid", "loop", "ops"}``. Request: ``{"id",
"op", ...}``. Answer: ``{"id", "ok": true, "result"}`` or ``{"id", "ok": false, "error"}``.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, cast

__all__ = [
    "IDLE_SECONDS",
    "MAX_ANSWER_BYTES",
    "MAX_CLIENTS",
    "MAX_REQUEST_BYTES",
    "MAX_ROWS",
    "PROTOCOL_VERSION",
    "RequestRefused",
    "answer",
    "encode",
    "parse",
    "read_object",
    "refusal",
]

PROTOCOL_VERSION = 1
MAX_REQUEST_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_ROWS = 500
MAX_CLIENTS = 8
IDLE_SECONDS = 60.0


class RequestRefused(Exception):
    """A request that can't be answered; its text goes to the client."""


def parse(line: bytes) -> dict[str, Any]:
    """Return the request in a line."""
    with suppress(ValueError):
        request = read_object(line)
        if isinstance(request.get("op"), str):
            return request
    raise RequestRefused("a request must be one JSON object on a line, with the fields id and op")


def read_object(line: bytes) -> dict[str, Any]:
    """Return the object in a line. Raise `ValueError` for anything else that the other side sends."""
    try:
        value: Any = json.loads(line)
    except RecursionError:
        raise ValueError("the line is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("the line is not a JSON object")
    return cast("dict[str, Any]", value)


def answer(request: dict[str, Any], result: object) -> bytes:
    """Return the line that answers a request."""
    return encode({"id": request.get("id"), "ok": True, "result": result})


def refusal(request: dict[str, Any], text: str) -> bytes:
    """Return the line that refuses a request."""
    return encode({"id": request.get("id"), "ok": False, "error": text})


def encode(value: object) -> bytes:
    """Return a value as a line. A value without an equivalent in JSON becomes text."""
    return json.dumps(value, default=str, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
