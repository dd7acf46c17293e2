"""``papyra doctor``: whether everything is as a system needs it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from papyra.persistence import backend_capabilities
from papyra_cli._click.commands import HelpfulGroup
from papyra_cli._click.options import store_command
from papyra_cli._output.output import Styled, Table
from papyra_cli._store.session import run_on_store
from papyra_cli.commands._startup import (
    STARTUP_EXIT_CODES,
    STARTUP_LINES,
    check,
    check_tables,
    exit_code,
    startup_config,
    startup_options,
    verdict,
)

if TYPE_CHECKING:
    from papyra.persistence.startup import PersistenceStartupConfig, StartupCheck
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore

__all__ = ["doctor"]

_EXAMPLE = ("papyra doctor run --path papyra.ndjson", "is all well with this store?")


class _Step(NamedTuple):
    """One thing that was looked at; field names are the keys of the JSON."""

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
def run(out: Output, store: Store, **options: Any) -> None:
    """Tell whether all is well with a store.

    Finds it, opens it, asks for its health, and checks it as a starting ActorSystem does.

    Only --mode recover changes the store.
    """
    steps, result = run_on_store(
        out, store, partial(_examine, store, startup_config(**options)), may_be_missing=True
    )
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
    store: Store, config: PersistenceStartupConfig, opened: OpenStore
) -> tuple[list[_Step], StartupCheck]:
    backend = opened.backend
    capabilities = " ".join(sorted(backend_capabilities(backend))) or "none"
    steps = [
        _Step("store", "ok", f"{store.shown} (from {store.origin})"),
        _Step("backend", "ok", f"{backend.name or type(backend).__name__}; capabilities: {capabilities}"),
    ]
    result = await check(config, opened)
    health = (
        ("ok", "healthy") if backend.healthy else ("failed", "what was acknowledged is not known to be safe")
    )
    steps.append(_Step("health", *health))
    return steps, result
