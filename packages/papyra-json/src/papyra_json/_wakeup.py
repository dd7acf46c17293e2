"""Reach the running event loop from another thread, without waiting for it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Call: TypeAlias = Callable[[Callable[[], object]], object]

__all__ = ["loop_caller"]


def loop_caller() -> Call:
    """Return a function that, from any thread, has a callback run soon in the loop that runs here.

    It raises `RuntimeError` once that loop is closed. (`anyio.from_thread.run_sync` would make the thread
    wait for the callback.)
    """
    trio = sys.modules.get("trio")  # no trio loop runs where trio was never imported
    if trio is not None:
        try:
            call: Call = trio.lowlevel.current_trio_token().run_sync_soon
        except RuntimeError:
            pass
        else:
            return call
    return asyncio.get_running_loop().call_soon_threadsafe
