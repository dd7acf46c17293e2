"""``papyra persistence startup-check``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from papyra_cli._options import store_command
from papyra_cli._run import run_on_store
from papyra_cli._startup import check, check_tables, exit_code, startup_config, startup_options, verdict

if TYPE_CHECKING:
    from papyra_cli._output import Output
    from papyra_cli._store import Store

__all__ = ["startup_check"]


@click.command("startup-check")
@startup_options
@store_command
def startup_check(out: Output, store: Store, **options: Any) -> None:
    """Do what a starting ActorSystem does with a store, and say whether it would start.

    With --mode recover that changes the store. Exits with 0 if it would start, with 1 if not, with 4 if a
    recovery left anomalies.
    """
    result = run_on_store(store, partial(check, out, startup_config(**options)))
    out.show(result, [result], check_tables(result), verdict(result))
    click.get_current_context().exit(exit_code(result))
