"""Run a command's work on an open backend: closed in all cases, with a sign of life if it takes long."""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, TypeVar

import anyio

from papyra.exceptions import BackendURLError, PapyraError
from papyra.persistence import open_backend
from papyra_cli._exit import ExitCode
from papyra_cli._failure import Failure, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra.persistence import PersistenceBackend
    from papyra_cli._output import Output
    from papyra_cli._store import Store

__all__ = ["run_on_store", "with_progress"]

_R = TypeVar("_R")

_SILENCE = 1.0
"""Seconds of work before anything is drawn."""

_CLOSING = 30.0
"""Seconds that closing a backend may take, even after Ctrl-C."""


def run_on_store(store: Store, work: Callable[[PersistenceBackend], Awaitable[_R]]) -> _R:
    """Open ``store``, do ``work`` with it, and close it whatever happens.

    What a backend prints, while it is imported or later, goes to stderr: stdout is for results.
    """

    async def run() -> _R:
        backend = _opened(store)
        try:
            return await work(backend)
        finally:
            with anyio.move_on_after(_CLOSING, shield=True):
                await backend.aclose()

    with redirect_stdout(sys.stderr):
        return anyio.run(run)


def _opened(store: Store) -> PersistenceBackend:
    try:
        missing = store.missing_file()  # asked first: some backends create their file
        backend = open_backend(store.url)
    except BackendURLError as error:
        code = ExitCode.USAGE if store.origin.startswith("--") else ExitCode.UNAVAILABLE
        raise Failure(f"{error} (from {store.origin})", code) from error
    except (PapyraError, OSError):
        raise
    except Exception as error:  # a third party's constructor may raise anything; all of it means: no store
        raise Failure(f"can't open {store.shown}: {type(error).__name__}: {error}") from error
    if missing is not None:
        say("note", f"{missing} does not exist yet, so the store is empty (from {store.origin})")
    return backend


async def with_progress(out: Output, label: str, work: Callable[[], Awaitable[_R]]) -> _R:
    """Await ``work``; past a second, and only on a terminal, show on stderr that it goes on."""
    if not out.display.animated():
        return await work()
    # Errors are carried out by hand: a task group would wrap them.
    outcome: list[_R] = []
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_draw, label)
        try:
            outcome.append(await work())
        except Exception as error:  # noqa: BLE001 - raised again below, outside the group
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return outcome[0]


async def _draw(label: str) -> None:
    began = time.monotonic()
    await anyio.sleep(_SILENCE)
    try:
        while True:
            sys.stderr.write(f"\r\x1b[K{label} ... {time.monotonic() - began:.0f} s")
            sys.stderr.flush()
            await anyio.sleep(0.2)
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
