"""Run a command's work on an open backend, closed in all cases."""

from __future__ import annotations

import sys
from contextlib import aclosing, redirect_stdout
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel

from papyra.exceptions import BackendURLError, PapyraError
from papyra.persistence import open_backend
from papyra_cli._errors import Failure, say
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.progress import Gauge, watched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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

__all__ = ["OpenStore", "run_on_store"]

_R = TypeVar("_R")

_CLOSING = 30.0
"""Seconds that closing a backend may take, even after Ctrl-C."""

_BREATH = 1000
"""Records between two looks at what else is to do: drawing, Ctrl-C."""


@dataclass(frozen=True, slots=True)
class OpenStore:
    """An open backend; what takes long with it shows how far it is.

    Backends of others may be older than some keywords of the contract, so these are passed to who takes them.
    """

    backend: PersistenceBackend
    out: Output
    in_bytes: bool

    async def scan(self, label: str = "scanning") -> PersistenceScanReport:
        """Look for damage."""
        scan = self.backend.scan
        return await self.watch(label, lambda gauge: scan(**_taken(scan, progress=gauge)))

    async def compact(self, *, dry_run: bool) -> CompactionReport:
        """Make retention physical, or tell what that would do."""
        compact = self.backend.compact
        return await self.watch(
            "compacting", lambda gauge: compact(dry_run=dry_run, **_taken(compact, progress=gauge))
        )

    async def recover(self, config: PersistenceRecoveryConfig) -> PersistenceRecoveryReport:
        """Repair what a scan finds."""
        recover = self.backend.recover
        return await self.watch(
            "recovering", lambda gauge: recover(config, **_taken(recover, progress=gauge))
        )

    async def rehearse(self, config: PersistenceRecoveryConfig) -> PersistenceRecoveryReport | None:
        """Tell what a recovery would do; None from a backend that can't, and then nothing has happened."""
        recover = self.backend.recover
        rehearsal = _taken(recover, dry_run=True)
        if not rehearsal:
            return None
        return await self.watch(
            "scanning", lambda gauge: recover(config, **rehearsal, **_taken(recover, progress=gauge))
        )

    async def read(
        self, since: float | None, until: float | None, take: Callable[[PersistedRecord], object]
    ) -> None:
        """Give every record between two Unix times to ``take``, newest first; all of them are never in memory."""

        async def work(gauge: Gauge) -> None:
            async with aclosing(self.backend.stream(since=since, until=until)) as records:
                async for record in records:
                    take(record)
                    gauge.records += 1
                    if gauge.records % _BREATH == 0:  # a stream of what is in memory never waits
                        await anyio.lowlevel.checkpoint()

        await self.watch("reading", work)

    async def watch(self, label: str, work: Callable[[Gauge], Awaitable[_R]]) -> _R:
        """Await ``work``, which may tell its gauge how far it is."""
        gauge = Gauge(in_bytes=self.in_bytes)
        return await watched(self.out.display, label, gauge, lambda: work(gauge))


def _taken(method: Callable[..., object], **keywords: object) -> dict[str, Any]:
    """Return those keywords that a method names; one that takes any may do anything with them."""
    named = signature(method).parameters
    return {name: value for name, value in keywords.items() if name in named}


def run_on_store(out: Output, store: Store, work: Callable[[OpenStore], Awaitable[_R]]) -> _R:
    """Open ``store``, do ``work`` with it, and close it whatever happens.

    What a backend prints, while it is imported or later, goes to stderr: stdout is for results.
    """

    async def run() -> _R:
        backend = _opened(store)
        try:
            return await work(OpenStore(backend, out, in_bytes=type(backend).in_files))
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
