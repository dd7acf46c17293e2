"""``papyra doctor``: whether everything is as a system needs it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from papyra.persistence import backend_capabilities
from papyra_cli._group import HelpfulGroup
from papyra_cli._options import store_command
from papyra_cli._output import Styled, Table
from papyra_cli._run import run_on_store
from papyra_cli._startup import check, check_tables, exit_code, startup_config, startup_options, verdict

if TYPE_CHECKING:
    from papyra.persistence import PersistenceBackend
    from papyra.persistence.startup import PersistenceStartupConfig, StartupCheck
    from papyra_cli._output import Output
    from papyra_cli._store import Store

__all__ = ["doctor"]


class _Step(NamedTuple):
    """One thing that was looked at; field names are the keys of the JSON."""

    name: str
    status: str
    detail: str


@click.group(cls=HelpfulGroup)
def doctor() -> None:
    """Check that a system would find its store in order."""


@doctor.command()
@startup_options
@store_command
def run(out: Output, store: Store, **options: Any) -> None:
    """Find the store, open it, ask for its health, and do what a starting ActorSystem does.

    With --mode recover that changes the store. Exits with 0 if all is well, with 1 if not, with 3 if the store
    can't be had, with 4 if a recovery left anomalies.
    """
    steps, result = run_on_store(store, partial(_examine, out, store, startup_config(**options)))
    note = verdict(result)
    steps.append(_Step("startup", "ok" if result.passed else "failed", note.text))
    bad = any(step.status != "ok" for step in steps)
    checks = [step._asdict() for step in steps]
    document = {"status": "failed" if bad else "ok", "checks": checks, "startup": result}
    table = Table("check", "Checks", _Step._fields)
    table.rows.extend(
        (s.name, Styled(s.status, "green" if s.status == "ok" else "red"), s.detail) for s in steps
    )
    out.show(document, checks, [table, *check_tables(result)], note)
    click.get_current_context().exit(exit_code(result) or int(bad))


async def _examine(
    out: Output, store: Store, config: PersistenceStartupConfig, backend: PersistenceBackend
) -> tuple[list[_Step], StartupCheck]:
    capabilities = " ".join(sorted(backend_capabilities(backend))) or "none"
    steps = [
        _Step("store", "ok", f"{store.shown} (from {store.origin})"),
        _Step("backend", "ok", f"{backend.name or type(backend).__name__}; capabilities: {capabilities}"),
    ]
    result = await check(out, config, backend)
    health = (
        ("ok", "healthy") if backend.healthy else ("failed", "what was acknowledged is not known to be safe")
    )
    steps.append(_Step("health", *health))
    return steps, result
