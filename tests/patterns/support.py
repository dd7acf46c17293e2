"""What several tests of the patterns use."""

from __future__ import annotations

from collections.abc import Callable

import anyio


async def until(condition: Callable[[], object]) -> None:
    """Return once a condition holds; fail after a time that only a hang reaches."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - any condition, and nobody who signals it
            await anyio.sleep(0.001)
