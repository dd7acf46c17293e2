"""Ask several actors, and take the first reply."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from papyra import Request

__all__ = ["first_of"]

R = TypeVar("R")


async def first_of(*requests: Request[R], timeout: float | None = None) -> R:
    """Send all requests and return the first reply; later replies are dropped.

    Raises an `ExceptionGroup` of all errors, in the order of the requests, if none replies, and
    `TimeoutError` after ``timeout`` seconds.
    """
    if not requests:
        raise ValueError("first_of() needs at least one request")
    replies: list[R] = []
    errors: dict[int, Exception] = {}

    async def ask(number: int, request: Request[R]) -> None:
        try:
            reply = await request
        except Exception as error:  # noqa: BLE001 - an actor may reply with any error; all are raised below
            errors[number] = error
        else:
            replies.append(reply)
            group.cancel_scope.cancel()

    with anyio.fail_after(math.inf if timeout is None else timeout):
        async with anyio.create_task_group() as group:
            for number, request in enumerate(requests):
                group.start_soon(ask, number, request)
    if replies:
        return replies[0]
    raise ExceptionGroup(
        f"none of {len(requests)} requests was answered", [errors[number] for number in sorted(errors)]
    )
