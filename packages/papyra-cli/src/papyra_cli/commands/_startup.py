"""The start-up check of `ActorSystem.start()`, as options and as a report."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra.persistence.startup import PersistenceStartupConfig, PersistenceStartupMode, run_startup_check
from papyra_cli._click.options import quarantine_dir_option, reading, with_options
from papyra_cli._errors import Failure
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.formats import count, duration_with_unit
from papyra_cli._output.output import Styled
from papyra_cli._output.tables import ANOMALY_COLUMNS, anomaly_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.persistence.startup import StartupCheck
    from papyra_cli._output.output import Table
    from papyra_cli._store.session import OpenStore

__all__ = [
    "STARTUP_EXIT_CODES",
    "STARTUP_LINES",
    "check",
    "check_tables",
    "exit_code",
    "startup_options",
    "verdict",
]

STARTUP_LINES = {"anomaly": ANOMALY_COLUMNS, "left": ANOMALY_COLUMNS, "status": ("what a system would do",)}
STARTUP_EXIT_CODES = {
    0: "a system would start",
    1: "it would not: there are anomalies, or the time was up",
    4: "it would not: a recovery ran, and anomalies are left",
}


_mode_option = click.option(
    "--mode",
    type=click.Choice([mode.value for mode in PersistenceStartupMode]),
    default=PersistenceStartupMode.FAIL_ON_ANOMALY.value,
    show_default=True,
    help="What to do about damage: ignore it, report it and start, repair it and start, or not start.",
)
_recovery_mode_option = click.option(
    "--recovery-mode",
    type=click.Choice(["repair", "quarantine"]),
    help="How --mode recover removes invalid records. [default: repair]",
)
_timeout_option = click.option(
    "--timeout",
    metavar="DURATION",
    callback=reading(duration_with_unit),
    help="Give up after this time, as in 500ms, 30s, 5m. [default: wait]",
)


def startup_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a start, and what they ask for as one argument ``config``."""

    @with_options(_mode_option, _recovery_mode_option, quarantine_dir_option, _timeout_option)
    @wraps(function)
    def wrapped(
        mode: str, recovery_mode: str | None, quarantine_dir: str | None, timeout: float | None, **kwargs: Any
    ) -> None:
        ctx = click.get_current_context()
        if recovery_mode is not None and mode != PersistenceStartupMode.RECOVER:
            raise click.UsageError("--recovery-mode goes with --mode recover", ctx)
        if quarantine_dir is not None and recovery_mode != "quarantine":
            raise click.UsageError(
                "--quarantine-dir goes with --mode recover --recovery-mode quarantine", ctx
            )
        if timeout == 0:
            raise click.UsageError("--timeout must be above 0; leave it out to wait", ctx)
        recovery = None
        if mode == PersistenceStartupMode.RECOVER:
            recovery = PersistenceRecoveryConfig(
                PersistenceRecoveryMode(recovery_mode or "repair"), quarantine_dir
            )
        function(config=PersistenceStartupConfig(PersistenceStartupMode(mode), recovery, timeout), **kwargs)

    return wrapped


async def check(config: PersistenceStartupConfig, opened: OpenStore) -> StartupCheck:
    """Check the store as a starting system does."""
    try:
        return await opened.watch("checking", lambda _: run_startup_check(opened.backend, config))
    except RuntimeError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise Failure(str(error), ExitCode.NO) from error
        raise


def check_tables(result: StartupCheck) -> list[Table]:
    """Return the anomalies found, and those that a recovery left."""
    tables: list[Table] = []
    if result.scan:
        tables.append(anomaly_table(result.scan.anomalies, "Found"))
    if result.left:
        tables.append(anomaly_table(result.left.anomalies, "Left"))
        tables[-1].key = "left"
    return tables


def verdict(result: StartupCheck) -> Styled:
    """Return a short text that says whether a system would start."""
    anomalies = count(len(result.scan.anomalies) if result.scan else 0, "anomaly", "anomalies")
    if result.scan is None:
        return Styled("a system would start: it does not look at the store", "green")
    if result.left is not None:
        left = f"{anomalies} found, {len(result.left.anomalies):,} left after the recovery"
        return Styled(
            f"a system {'would' if result.passed else 'would not'} start: {left}",
            "green" if result.passed else "red",
        )
    if result.passed:
        return Styled(f"a system would start: {anomalies}", "green")
    return Styled(f"a system would not start: {anomalies}; 'papyra persistence recover' repairs", "red")


def exit_code(result: StartupCheck) -> ExitCode:
    """Return the exit code for a check."""
    if result.passed:
        return ExitCode.OK
    return ExitCode.NOT_RECOVERED if result.recovery is not None else ExitCode.NO
