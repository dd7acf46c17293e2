"""``papyra persistence recover``: repair what a scan finds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import dry_run_option, quarantine_dir_option, store_command, yes_option
from papyra_cli._errors import Failure
from papyra_cli._escape import printable
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled, Table
from papyra_cli._output.tables import ANOMALY_COLUMNS, anomaly_table
from papyra_cli._store.session import OpenStore, run_on_store

if TYPE_CHECKING:
    from papyra.persistence.models import PersistenceRecoveryReport, PersistenceScanReport
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store

__all__ = ["recover"]


@dataclass(frozen=True, slots=True)
class _Outcome:
    scan: PersistenceScanReport
    recovery: PersistenceRecoveryReport | None = None
    left: PersistenceScanReport | None = None


@click.command(
    cls=ManualCommand,
    lines={
        "anomaly": ANOMALY_COLUMNS,
        "repaired": ("path",),
        "quarantined": ("path",),
        "left": ANOMALY_COLUMNS,
        "status": ("the outcome",),
    },
    exit_codes={
        0: "the store is in order now, or it was a dry run",
        1: "the answer was no",
        4: "there are anomalies left",
    },
    examples=[
        ("papyra persistence recover --path papyra.ndjson --dry-run", "what would be done?"),
        (
            "papyra persistence recover --path papyra.ndjson --quarantine-dir ./kept --yes",
            "do it, ask nothing",
        ),
        (
            "papyra persistence recover --backend sqlite:./papyra.db --mode repair --yes",
            "drop the damage",
        ),
    ],
)
@click.option(
    "--mode",
    type=click.Choice(["repair", "quarantine"]),
    default="quarantine",
    show_default=True,
    help="Drop invalid records, or move them to a quarantine file first.",
)
@quarantine_dir_option
@dry_run_option
@yes_option
@store_command
def recover(
    out: Output, store: Store, mode: str, quarantine_dir: str | None, dry_run: bool, yes: bool
) -> None:
    """Repair what a scan finds; valid records stay as they are.

    Asks first on a terminal; elsewhere --yes is needed in place of the answer. Safe while applications write,
    and safe to interrupt and to run again.
    """
    ctx = click.get_current_context()
    if quarantine_dir is not None and mode != "quarantine":
        raise click.UsageError("--quarantine-dir goes with --mode quarantine", ctx)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError(
            "there is no terminal to ask on: add --yes to recover, or --dry-run to look", ctx
        )
    config = PersistenceRecoveryConfig(PersistenceRecoveryMode(mode), quarantine_dir)
    if dry_run:
        outcome = run_on_store(out, store, partial(_rehearse, config))
    else:
        outcome = _Outcome(run_on_store(out, store, OpenStore.scan))
        if outcome.scan.has_anomalies:
            # Asked between two runs of the event loop: inside one, Ctrl-C does not reach a prompt.
            _ask(outcome.scan, mode, yes)
            outcome = run_on_store(out, store, partial(_recover, config))
    _show(out, outcome, mode, dry_run)
    if outcome.left is not None and outcome.left.has_anomalies:
        ctx.exit(ExitCode.NOT_RECOVERED)


def _ask(scan: PersistenceScanReport, mode: str, yes: bool) -> None:
    anomalies = count(len(scan.anomalies), "anomaly", "anomalies")
    question = printable(f"{anomalies} found in the {scan.backend} store: {mode}?")
    if not yes and not click.confirm(question, err=True):
        raise Failure("nothing was changed; --dry-run shows what a recovery would do", ExitCode.NO)


async def _recover(config: PersistenceRecoveryConfig, opened: OpenStore) -> _Outcome:
    recovery = await opened.recover(config)
    left = await opened.scan("scanning again")
    return _Outcome(recovery.scan, recovery, left)


async def _rehearse(config: PersistenceRecoveryConfig, opened: OpenStore) -> _Outcome:
    recovery = await opened.rehearse(config)
    return _Outcome(recovery.scan, recovery) if recovery else _Outcome(await opened.scan())


def _show(out: Output, outcome: _Outcome, mode: str, dry_run: bool) -> None:
    recovery = outcome.recovery
    document = {
        "backend": outcome.scan.backend,
        "mode": mode,
        "dry_run": dry_run,
        "scan": outcome.scan,
        "repaired_files": recovery.repaired_files if recovery else (),
        "quarantined_files": recovery.quarantined_files if recovery else (),
        "left": outcome.left,
    }
    tables = [anomaly_table(outcome.scan.anomalies, "Found")]
    if recovery:
        for key, files in (
            ("repaired", recovery.repaired_files),
            ("quarantined", recovery.quarantined_files),
        ):
            title = f"Would be {key}" if dry_run else key.capitalize()
            tables.append(Table(key, title, ("path",), [(path,) for path in files]))
    if outcome.left:
        tables.append(anomaly_table(outcome.left.anomalies, "Left"))
        tables[-1].key = "left"
    out.show(document, [document], tables, _note(outcome, mode, dry_run))


def _note(outcome: _Outcome, mode: str, dry_run: bool) -> Styled:
    anomalies = count(len(outcome.scan.anomalies), "anomaly", "anomalies")
    if not outcome.scan.has_anomalies:
        return Styled("clean: nothing to recover", "green")
    if dry_run:
        return Styled(f"dry run: would {mode} {anomalies}; nothing was changed", "yellow")
    left = len(outcome.left.anomalies) if outcome.left else 0
    if left:
        return Styled(f"{anomalies} found, {left:,} left after the recovery", "red")
    return Styled(f"recovered: {anomalies} found, none left", "green")
