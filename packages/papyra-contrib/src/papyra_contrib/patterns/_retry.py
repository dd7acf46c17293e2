"""Asks again after a temporary error."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from papyra import AskTimeout, Backoff

if TYPE_CHECKING:
    from papyra import Request

__all__ = ["retry"]

R = TypeVar("R")

DEFAULT_BACKOFF = Backoff(initial=0.1, maximum=5.0)


async def retry(
    request: Request[R],
    *,
    attempts: int = 3,
    backoff: Backoff = DEFAULT_BACKOFF,
    on: tuple[type[Exception], ...] = (AskTimeout,),
    deadline: float | None = None,
) -> R:
    """Ask until there is a reply: at most ``attempts`` times and within ``deadline`` seconds.

    It asks again only after the errors named in ``on``; any other is raised at once. `ActorStopped` is not
    among them by default, because the message may have been handled. The last error is raised with a note
    of the number of attempts. A request that a retry may repeat should have a timeout, and its message
    should be safe to handle twice.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts!r}")
    if deadline is not None and not deadline > 0:
        raise ValueError(f"deadline must be more than 0 seconds or None, not {deadline!r}")
    began = anyio.current_time()
    end = began + deadline if deadline is not None else float("inf")
    attempt = 0
    while True:
        attempt += 1
        try:
            with anyio.fail_after(end - anyio.current_time()):
                return await request
        except on as error:
            pause = backoff.delay(attempt)
            if attempt == attempts or anyio.current_time() + pause >= end:
                _note(error, attempt, began)
                raise
        except TimeoutError as error:
            if anyio.current_time() >= end:
                _note(error, attempt, began)
            raise
        await anyio.sleep(pause)


def _note(error: Exception, attempts: int, began: float) -> None:
    error.add_note(f"given up after {attempts} attempts in {anyio.current_time() - began:.3g} s")
