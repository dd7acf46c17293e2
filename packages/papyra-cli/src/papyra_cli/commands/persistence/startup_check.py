"""``papyra persistence startup-check``: whether a system would start on a store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import store_command
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
    from papyra.persistence.startup import PersistenceStartupConfig
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store

__all__ = ["startup_check"]


@click.command(
    "startup-check",
    cls=ManualCommand,
    lines=STARTUP_LINES,
    exit_codes=STARTUP_EXIT_CODES,
    examples=[
        ("papyra persistence startup-check --path papyra.ndjson", "would a system start on this store?"),
        (
            "papyra persistence startup-check --mode recover --recovery-mode quarantine",
            "repair as a start would",
        ),
    ],
)
@startup_options
@store_command
def startup_check(out: Output, store: Store, config: PersistenceStartupConfig) -> None:
    """Check whether a system would start on a store.

    Checks as a starting ActorSystem does before any actor exists. Only --mode recover changes the store.
    """
    result = run_on_store(out, store, partial(check, config), may_be_missing=True)
    out.show(result, [result], check_tables(result), verdict(result))
    click.get_current_context().exit(exit_code(result))
