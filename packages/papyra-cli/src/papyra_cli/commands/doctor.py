"""``papyra doctor``: a health check of a store and of the installation."""

from __future__ import annotations

from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

import click

from papyra.exceptions import PersistenceError
from papyra.persistence import backend_capabilities
from papyra_cli._click.commands import HelpfulGroup
from papyra_cli._click.options import store_command
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled, Table
from papyra_cli._store.session import run_on_store
from papyra_cli.commands._startup import (
    STARTUP_EXIT_CODES,
    STARTUP_LINES,
    check,
    check_tables,
    exit_code,
    startup_options,
    verdict,
)

if TYPE_CHECKING:
    from papyra.persistence import PersistenceBackend
    from papyra.persistence.startup import PersistenceStartupConfig, StartupCheck
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore

__all__ = ["doctor"]

_COLORS = {"ok": "green", "warning": "yellow", "failed": "red"}
_NEWEST_RUNS = 10

_EXAMPLE = ("papyra doctor run --path papyra.ndjson", "is all well with this store?")


class _Step(NamedTuple):
    """One check; field names are the keys of the JSON. A warning does not make the whole fail."""

    name: str
    status: str
    detail: str


@click.group(cls=HelpfulGroup, examples=[_EXAMPLE])
def doctor() -> None:
    """Check that a system would find its store in order."""


@doctor.command(
    lines={"check": _Step._fields, **STARTUP_LINES},
    exit_codes={**STARTUP_EXIT_CODES, 0: "all is well", 1: "it is not; or the time was up"},
    examples=[
        _EXAMPLE,
        (
            "papyra doctor run --mode recover --recovery-mode quarantine",
            "repair the configured store as a start would",
        ),
        ("papyra doctor run --path papyra.ndjson --timeout 30s -o json", "for a monitor that does not wait"),
    ],
)
@startup_options
@store_command
def run(out: Output, store: Store, config: PersistenceStartupConfig) -> None:
    """Check that a store is in order and takes records.

    Finds it, opens it, checks it as a starting ActorSystem does, probes whether a record could be written,
    and asks for its health. Warns of settings of the store that may lose records, of facts that the last runs
    dropped, and of two versions of Papyra in one environment.

    Only --mode recover changes the store.
    """
    steps, result = run_on_store(out, store, partial(_examine, store, config), may_be_missing=True)
    note = verdict(result)
    steps.append(_Step("startup", "ok" if result.passed else "failed", note.text))
    bad = any(step.status == "failed" for step in steps)
    checks = [step._asdict() for step in steps]
    document = {"status": "failed" if bad else "ok", "checks": checks, "startup": result}
    table = Table("check", "Checks", _Step._fields)
    table.rows.extend((step.name, Styled(step.status, _COLORS[step.status]), step.detail) for step in steps)
    out.show(document, checks, [table, *check_tables(result)], note)
    click.get_current_context().exit(exit_code(result) or int(bad))


async def _examine(
    store: Store, config: PersistenceStartupConfig, opened: OpenStore
) -> tuple[list[_Step], StartupCheck]:
    backend = opened.backend
    capabilities = " ".join(sorted(backend_capabilities(backend))) or "none"
    steps = [
        *installation(),
        _Step("store", "ok", f"{store.shown} (from {store.origin})"),
        _Step("backend", "ok", f"{backend.name or type(backend).__name__}; capabilities: {capabilities}"),
    ]
    result = await check(config, opened)
    problem = await _write_problem(backend)
    if not backend.healthy:
        problem = problem or "an acknowledged record may not be safe on disk"
    health = ("failed", problem) if problem else ("ok", "healthy, and a record could be written")
    settings = [_Step("settings", "warning", text) for text in backend.store_warnings]
    return [*steps, *settings, *await _dropped(opened), _Step("health", *health)], result


async def _write_problem(backend: PersistenceBackend) -> str:
    """Return why a record could not be written now, "" if nothing prevents it."""
    try:
        await backend.ping()
    except PersistenceError as error:
        return str(error)
    return ""


async def _dropped(opened: OpenStore) -> list[_Step]:
    """Return a step if the newest runs dropped facts: their systems could not write them in time.

    A store that is away raises here, because nothing can be said about it.
    """
    stopped = await opened.backend.list_events(limit=_NEWEST_RUNS, event_type="SystemStopped")
    dropped, facts = (
        sum(number for event in stopped if isinstance(number := event.payload.get(key), int))
        for key in ("facts_dropped", "facts")
    )
    if not dropped:
        return []
    share = f", {dropped / facts:.2%} of all," if facts else ""  # older runs did not count all
    detail = (
        f"the last {count(len(stopped), 'run', 'runs')} dropped {count(dropped, 'fact', 'facts')}{share} "
        "because the store did not take them in time"
    )
    return [_Step("dropped", "warning", detail)]


def installation() -> list[_Step]:
    """Return a warning if the published package papyra 0.3 and papyra-core are both installed."""
    versions = {
        distribution_name: _version(distribution_name) for distribution_name in ("papyra", "papyra-core")
    }
    if not (versions["papyra"].startswith("0.3") and versions["papyra-core"]):
        return []
    detail = (
        f"papyra {versions['papyra']} and papyra-core {versions['papyra-core']} are both installed, and write the same "
        "files. Uninstall both, then install papyra-core"
    )
    return [_Step("installation", "warning", detail)]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
