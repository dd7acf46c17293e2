"""Run a command's work on an open backend, and close it in all cases."""

from __future__ import annotations

import sys
from contextlib import aclosing, asynccontextmanager, redirect_stdout
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel

from papyra.exceptions import BackendURLError, PapyraError, PersistenceError
from papyra.persistence import open_backend
from papyra_cli._errors import Failure, say
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.progress import Gauge, beside, watched
from papyra_cli._store.lock_watch import LockTimeout, watch_lock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from papyra.persistence import PersistenceBackend
    from papyra.persistence.models import (
        CompactionReport,
        PersistedRecord,
        PersistenceRecoveryConfig,
        PersistenceRecoveryReport,
        PersistenceScanReport,
    )
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store

__all__ = ["OpenStore", "open_store", "run_on_store"]

_R = TypeVar("_R")

_CLOSING_SECONDS = 30.0
"""The time that closing a backend may take, even after Ctrl-C."""

_GIVING_UP_SECONDS = 0.5
"""The same when another process kept a lock for too long: another wait would end like the first."""

_CHECKPOINT_RECORDS = 1000
"""The records between two checkpoints, at which progress is drawn and Ctrl-C is noticed."""


@dataclass(frozen=True, slots=True)
class OpenStore:
    """An open backend; long work on it shows its progress.

    Third-party backends may be older than some keywords of the contract, so a keyword is passed only to
    methods that have it.
    """

    backend: PersistenceBackend
    out: Output
    in_bytes: bool
    wait: float | None = None
    """The seconds to wait for a lock that another process holds, None for any time."""

    async def scan(self, label: str = "scanning") -> PersistenceScanReport:
        """Look for damage."""
        scan = self.backend.scan
        return await self.watch(label, lambda gauge: scan(**_taken(scan, progress=gauge)))

    async def compact(self, *, dry_run: bool, max_files: int | None = None) -> CompactionReport:
        """Make retention physical, or report what that would do.

        ``max_files`` is for stores that are sets of files.
        """
        compact = self.backend.compact
        size = {} if max_files is None else _taken(compact, max_files=max_files)
        if max_files is not None and not size:
            raise PersistenceError(
                f"the {self.backend.name} store has no max_files, because it is not a rotating set of files. "
                "Leave out --max-files."
            )
        return await self.watch(
            "compacting", lambda gauge: compact(dry_run=dry_run, **size, **_taken(compact, progress=gauge))
        )

    async def recover(self, config: PersistenceRecoveryConfig) -> PersistenceRecoveryReport:
        """Repair what a scan finds."""
        recover = self.backend.recover
        return await self.watch(
            "recovering", lambda gauge: recover(config, **_taken(recover, progress=gauge))
        )

    async def rehearse(self, config: PersistenceRecoveryConfig) -> PersistenceRecoveryReport | None:
        """Report what a recovery would do.

        None if the backend has no dry run, and then nothing was changed.
        """
        recover = self.backend.recover
        rehearsal = _taken(recover, dry_run=True)
        if not rehearsal:
            return None
        return await self.watch(
            "scanning", lambda gauge: recover(config, **rehearsal, **_taken(recover, progress=gauge))
        )

    async def read(
        self, since: float | None, until: float | None, take: Callable[[PersistedRecord], bool | None]
    ) -> None:
        """Give the records between two Unix times to ``take``, newest first, until it returns True.

        They are never all in memory.
        """

        async def work(gauge: Gauge) -> None:
            async with aclosing(self.backend.stream(since=since, until=until)) as records:
                async for record in records:
                    if take(record):
                        return
                    gauge.records += 1
                    if gauge.records % _CHECKPOINT_RECORDS == 0:  # a stream from memory never waits
                        await anyio.lowlevel.checkpoint()

        await self.watch("reading", work)

    async def watch(self, label: str, work: Callable[[Gauge], Awaitable[_R]]) -> _R:
        """Await ``work``, which may report its progress to the gauge."""
        gauge = Gauge(in_bytes=self.in_bytes)
        return await beside(
            lambda: watched(self.out.display, label, gauge, lambda: work(gauge)),
            lambda: watch_lock(gauge, self.wait),
        )


def _taken(method: Callable[..., object], **keywords: object) -> dict[str, Any]:
    """Return the keywords that a method names in its signature."""
    named = signature(method).parameters
    return {name: value for name, value in keywords.items() if name in named}


def run_on_store(
    out: Output, store: Store, work: Callable[[OpenStore], Awaitable[_R]], *, may_be_missing: bool = False
) -> _R:
    """Open ``store``, do ``work`` with it, and close it whatever happens.

    A store whose file does not exist is a `Failure`, or a note if it ``may_be_missing``. Anything that a
    backend prints goes to stderr, because stdout is for results.
    """

    async def run() -> _R:
        async with open_store(out, store, may_be_missing=may_be_missing) as opened:
            return await work(opened)

    with redirect_stdout(sys.stderr):
        return anyio.run(run)


@asynccontextmanager
async def open_store(out: Output, store: Store, *, may_be_missing: bool = False) -> AsyncGenerator[OpenStore]:
    """Open a store as `run_on_store` does, for commands that work on two."""
    backend = _opened(store, may_be_missing=may_be_missing)
    seconds = _CLOSING_SECONDS
    try:
        await backend.open()
        yield OpenStore(backend, out, type(backend).in_files, store.wait)
    except LockTimeout:
        seconds = _GIVING_UP_SECONDS
        raise
    finally:
        with anyio.move_on_after(seconds, shield=True):
            await backend.aclose()


def _opened(store: Store, *, may_be_missing: bool) -> PersistenceBackend:
    try:
        missing = store.missing_file()  # asked first, because some backends create their file
        if missing is not None and not may_be_missing:
            raise Failure(
                f"there is no file {missing} (from {store.origin}). Is its disk mounted? An application creates the "
                "file with its first record"
            )
        backend = open_backend(store.url)
    except BackendURLError as error:
        code = ExitCode.USAGE if store.origin.startswith("--") else ExitCode.UNAVAILABLE
        raise Failure(f"{error} (from {store.origin})", code) from error
    except (Failure, PapyraError, OSError):
        raise
    except Exception as error:  # a third party's constructor may raise anything; all of it means: no store
        raise Failure(f"can't open {store.shown}: {type(error).__name__}: {error}") from error
    if missing is not None and store.is_noted:
        say("note", f"{missing} does not exist yet, so the store is empty (from {store.origin})")
    return backend
