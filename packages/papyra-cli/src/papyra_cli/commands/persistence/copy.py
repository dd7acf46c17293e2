"""``papyra persistence copy``, ``backup`` and ``restore``: copy a store, and check the copy."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from papyra.persistence.url import BackendURL
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import output_command, until_option, wait_option, with_options
from papyra_cli._errors import Failure
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled, Table
from papyra_cli._output.tables import ANOMALY_COLUMNS, anomaly_table
from papyra_cli._store.choose import named_store, new_store
from papyra_cli._store.session import open_store
from papyra_cli.commands._copy.draft import draft_of, remove_draft
from papyra_cli.commands._copy.engine import CopyReport, check_copy, copy_records, is_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore

__all__ = ["backup", "copy", "restore"]

_LINES = {"copy": ("field", "value"), "anomaly": ANOMALY_COLUMNS, "status": ("the outcome",)}


@dataclass(frozen=True, slots=True)
class _Job:
    """What to copy, and where to."""

    source: Store
    target: Store
    until: float | None = None
    append: bool = False
    whole: bool = False
    """Whether a new file gets its name only once it is complete."""


def _copying(
    done: str, *options: Callable[[Any], Any], examples: Iterable[tuple[str, str]]
) -> Callable[[Callable[..., None]], ManualCommand]:
    """Make a command that copies FROM to TO; ``done`` says what the exit code 0 means."""

    def decorate(function: Callable[..., None]) -> ManualCommand:
        places = click.argument("source", metavar="FROM"), click.argument("target", metavar="TO")
        codes = {0: done, 1: "the target holds other records, the copy differs, or a store is damaged"}
        command = click.command(cls=ManualCommand, lines=_LINES, exit_codes=codes, examples=examples)
        return command(with_options(*places, *options, wait_option)(output_command(function)))

    return decorate


@_copying(
    "all records are in the target, and both stores are in order",
    click.option("--append", is_flag=True, help="Add to the records that the target holds."),
    until_option,
    examples=[
        ("papyra persistence copy papyra.ndjson sqlite:./facts.db", "move from lines to a database"),
        ("papyra persistence copy papyra.ndjson json:./all.ndjson --append", "merge a store into another"),
        ("papyra persistence copy papyra.ndjson json:./old.ndjson --until 30d", "archive the oldest records"),
    ],
)
def copy(
    out: Output, source: str, target: str, append: bool, until: float | None, wait: float | None
) -> None:
    """Copy a store to another, and check the copy.

    FROM and TO are files or backend URLs, of any two backends. The records are appended to TO in their order.
    A target that holds other records is refused unless --append is given. Run an interrupted copy
    again to resume it. The check scans both stores and compares the number of records, the
    first and the last.
    """
    _run(out, _job(source, target, wait, until, append=append), "copied")


@_copying(
    "the backup is complete and in order",
    examples=[
        ("papyra persistence backup papyra.ndjson backup.ndjson", "also while an application writes"),
        ("papyra persistence backup sqlite:./papyra.db backup.db", "a database, by SQLite's own backup"),
    ],
)
def backup(out: Output, source: str, target: str, wait: float | None) -> None:
    """Make a consistent copy of a store, and check it.

    FROM and TO are files or backend URLs; a new file TO gets the format of FROM. Safe while applications
    write: the backup holds a state that the store had. A new file gets its name once the backup is complete
    and checked, so a backup that was interrupted leaves none. A target that holds other records is refused.
    """
    _run(out, _job(source, target, wait, whole=True), "backed up")


@_copying(
    "the store is restored and in order",
    examples=[
        ("papyra persistence restore papyra.ndjson new.ndjson", "from a backup to a store of that name")
    ],
)
def restore(out: Output, source: str, target: str, wait: float | None) -> None:
    """Make a store from a backup, and check it.

    FROM is the backup and TO the store, each a file or a backend URL. A store that holds other records is
    refused: move it away first, with its rotated files. A new file gets its name once it is complete.
    """
    _run(out, _job(source, target, wait, whole=True), "restored")


def _job(
    source: str,
    target: str,
    wait: float | None,
    until: float | None = None,
    *,
    append: bool = False,
    whole: bool = False,
) -> _Job:
    origin = replace(named_store(source, "FROM"), wait=wait)
    job = _Job(origin, replace(new_store(target, "TO", origin), wait=wait), until, append, whole)
    if _place(job.source) == _place(job.target):
        raise click.UsageError(f"FROM and TO are the same store, {target}", click.get_current_context())
    return job


def _place(store: Store) -> str:
    """Return what distinguishes two stores: a file, or the URL without its options."""
    parsed = BackendURL.parse(store.url)
    return str(Path(parsed.path).resolve()) if store.is_in_files else store.url.partition("?")[0]


def _run(out: Output, job: _Job, done: str) -> None:
    with redirect_stdout(sys.stderr):
        report = anyio.run(partial(_copy, out, job))
    out.show(report, [report], _tables(out, report), _note(report, done))
    if not report.ok:
        click.get_current_context().exit(ExitCode.NO)


async def _copy(out: Output, job: _Job) -> CopyReport:
    async with open_store(out, job.source) as source:
        if not job.whole or job.target.missing_file() is None:
            remove_draft(job.target)
            return await _copy_into(source, job, out)
        with draft_of(job.target) as draft:
            report = await _copy_into(source, replace(job, target=draft.store), out)
            if not report.problem:
                draft.publish()
            return report


async def _copy_into(source: OpenStore, job: _Job, out: Output) -> CopyReport:
    if not job.append and job.until is None and job.target.missing_file() is not None:
        report = await _copy_whole(source, job, out)
        if report is not None:
            return report
    async with open_store(out, job.target, may_be_missing=True) as target:
        report = await source.watch(
            "copying",
            lambda gauge: copy_records(source, target, job.until, append=job.append, gauge=gauge),
        )
        await check_copy(source, target, report)
        return report


async def _copy_whole(source: OpenStore, job: _Job, out: Output) -> CopyReport | None:
    """Let the backend make the copy of its own files, if it can; None if it can't."""
    if BackendURL.parse(job.source.url).scheme != BackendURL.parse(job.target.url).scheme:
        return None
    path = BackendURL.parse(job.target.url).path
    if not await source.watch("copying", lambda _: source.backend.backup(path)):
        return None
    async with open_store(out, job.target) as target:
        report = CopyReport()
        if await is_empty(target.backend) and not await is_empty(source.backend):
            raise Failure(f"the copy in {path} is empty; remove it and try again", ExitCode.NO)
        await check_copy(source, target, report, whole=True)
        return report


def _tables(out: Output, report: CopyReport) -> list[Table]:
    fields = {
        "copied": f"{report.copied}",
        "already_there": f"{report.already_there}",
        "target_records": f"{report.target_records}",
        "first_timestamp": out.time(report.first_timestamp),
        "last_timestamp": out.time(report.last_timestamp),
    }
    table = Table("copy", "Copy", _LINES["copy"], list(fields.items()))
    scans = (("Source", report.source_scan), ("Target", report.target_scan))
    return [table, *(anomaly_table(scan.anomalies, title) for title, scan in scans if scan is not None)]


def _note(report: CopyReport, done: str) -> Styled:
    copied = count(report.copied, "record", "records")
    if report.already_there:
        copied += f" more, {report.already_there:,} were there already"
    if report.problem:
        return Styled(f"{done}, but {report.problem}", "red")
    for name, scan in (("source", report.source_scan), ("target", report.target_scan)):
        if scan is not None and scan.has_anomalies:
            anomalies = count(len(scan.anomalies), "anomaly", "anomalies")
            return Styled(
                f"{done} {copied}; {anomalies} in the {name}: invalid records can't be copied", "red"
            )
    return Styled(f"{done} {copied}, checked", "green")
