"""``papyra persistence compact``: drop the records that retention does not keep."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from papyra import units
from papyra.exceptions import PersistenceError
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import dry_run_option, reading, store_command, yes_option
from papyra_cli._errors import Failure, say
from papyra_cli._escape import printable
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.formats import count, duration_with_unit, format_span, size, size_with_unit
from papyra_cli._output.json import as_json
from papyra_cli._output.output import Styled, Table
from papyra_cli._store.session import run_on_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.persistence.models import CompactionReport
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore

__all__ = ["compact"]


_F = TypeVar("_F", bound="Callable[..., Any]")


_MAX_LIMIT = 2**63 - 1
"""A larger limit can only be a mistake, and no backend could store it."""

_OLD_SECONDS = 30 * 86400.0
_AHEAD_SECONDS = 300.0

_READERS: dict[str, Callable[[str], float]] = {
    "max_records": units.count,
    "max_age_seconds": duration_with_unit,
    "max_total_bytes": size_with_unit,
}

_NO_LIMIT = (
    "every record stays, since no limit was given and the store has none of its own; "
    "give --max-records N, --max-age 7d or --max-bytes 100MB"
)


def _limit(flag: str, option: str, metavar: str, text: str) -> Callable[[_F], _F]:
    def read(text: str) -> float:
        value: float = _READERS[option](text)
        if value > _MAX_LIMIT:
            raise ValueError(f"expected at most {_MAX_LIMIT}, which is more than any store has")
        return value

    text = f"{text} [default: the store's own limit]"
    return click.option(flag, option, metavar=metavar, callback=reading(read), help=text)


@click.command(
    cls=ManualCommand,
    lines={"compaction": ("field", "value"), "quarantined": ("path",), "status": ("the outcome",)},
    exit_codes={0: "done, also if there was nothing to remove", 1: "the answer was no"},
    examples=[
        (
            "papyra persistence compact --path papyra.ndjson --max-age 7d --dry-run",
            "what would a week leave?",
        ),
        ("papyra persistence compact --path papyra.ndjson --max-records 1000", "keep the newest thousand"),
        (
            "papyra persistence compact --backend 'sqlite:./papyra.db?max_records=500'",
            "as the URL says",
        ),
    ],
)
@_limit("--max-records", "max_records", "N", "Keep the newest N records.")
@_limit("--max-age", "max_age_seconds", "DURATION", "Keep records younger than this, as in 15m, 12h, 7d.")
@_limit(
    "--max-bytes", "max_total_bytes", "SIZE", "Keep the newest records up to this size, as in 100MB, 1GiB."
)
@click.option(
    "--max-files",
    metavar="N",
    type=click.IntRange(min=1),
    help="Keep the newest N files of a rotating set, which has that size from now on.",
)
@dry_run_option
@yes_option
@store_command
def compact(
    out: Output, store: Store, dry_run: bool, yes: bool, max_files: int | None, **limits: float | None
) -> None:
    """Drop the records that retention does not keep.

    The store is rewritten, so that only the records that stay take up space. Limits given here replace those
    of the store's own policy. Safe on a file that an application writes. Invalid records go to a quarantine
    file beside the store, which a note names. On a terminal it asks first if more than half of the records
    would go.
    """
    given = {name: value for name, value in limits.items() if value is not None}
    store = store.with_options(given)
    if not (dry_run or yes) and sys.stdin.isatty():
        # Asked between two runs of the event loop: inside one, Ctrl-C does not reach a prompt.
        _ask(run_on_store(out, store, partial(_compact, True, max_files))[0])
    report, keeps_all, newest = run_on_store(out, store, partial(_compact, dry_run, max_files))
    if report.invalid_records:
        say("note", _note_on_invalid(report, dry_run))
    if newest is not None and not out.is_json:
        _note_an_odd_clock(time.time() - newest)
    document = {**_fields(report), "dry_run": dry_run, "newest_timestamp": newest}
    out.show(document, [document], _tables(out, report), _note(report, dry_run, keeps_all))


async def _compact(
    dry_run: bool, max_files: int | None, opened: OpenStore
) -> tuple[CompactionReport, bool, float | None]:
    """Return the report, whether no limit was set, and with a limit of age the newest event's time."""
    await _refuse_what_is_not_a_store(opened)
    newest = None
    if opened.backend.retention.max_age_seconds is not None:
        newest = next((event.timestamp for event in await opened.backend.list_events(limit=1)), None)
    report = await opened.compact(dry_run=dry_run, max_files=max_files)
    return report, opened.backend.retention.keeps_all and max_files is None, newest


def _ask(report: CompactionReport) -> None:
    if report.removed_records * 2 <= report.before_records:
        return
    gone, there = f"{report.removed_records:,}", count(report.before_records, "record", "records")
    if not click.confirm(printable(f"remove {gone} of {there} in the {report.backend} store?"), err=True):
        raise Failure("nothing was changed; --dry-run shows what a compaction would do", ExitCode.NO)


def _note_an_odd_clock(age: float) -> None:
    """Say so if the newest event is far from now.

    A limit of age then removes more, or less, than it seems.
    """
    if age > _OLD_SECONDS:
        say("note", f"the newest event is {format_span(age)} old. Is the clock of this machine right?")
    elif age < -_AHEAD_SECONDS:
        say(
            "note",
            f"the newest event lies {format_span(-age)} in the future. Is the clock of this machine right?",
        )


async def _refuse_what_is_not_a_store(opened: OpenStore) -> None:
    """Raise if a file has content but not one record.

    Its path was probably mistyped, and a compaction would move its bytes away.
    """
    if await opened.backend.list_events(limit=1):
        return
    report = await opened.compact(dry_run=True)
    if not report.before_records and report.before_bytes:
        raise PersistenceError(
            "there is not one record of Papyra in it, so it is not a store. Nothing was changed; "
            "`papyra persistence scan` lists what is in it"
        )


def _fields(report: CompactionReport) -> dict[str, object]:
    return cast("dict[str, object]", as_json(report))


def _tables(out: Output, report: CompactionReport) -> list[Table]:
    if out.format == "plain":
        values = {name: value for name, value in _fields(report).items() if name != "quarantined_files"}
        rows = [(name, "-" if value is None else str(value)) for name, value in values.items()]
        return [Table("compaction", "Compaction", ("field", "value"), list(rows)), _quarantined(report)]
    table = Table(
        "compaction", f"Compaction of the {report.backend} store", ("", "before", "after", "reclaimed")
    )
    table.rows.append(
        ("records", f"{report.before_records:,}", f"{report.after_records:,}", f"{report.removed_records:,}")
    )
    table.rows.append(
        ("bytes", size(report.before_bytes), size(report.after_bytes), size(report.reclaimed_bytes))
    )
    return [table, _quarantined(report)]


def _quarantined(report: CompactionReport) -> Table:
    return Table("quarantined", "Quarantined", ("path",), [(path,) for path in report.quarantined_files])


def _note_on_invalid(report: CompactionReport, dry_run: bool) -> str:
    lines = count(report.invalid_records, "invalid line", "invalid lines")
    if dry_run:
        return f"{lines}; a compaction would move them to a quarantine file beside the store"
    return f"{lines} moved to {', '.join(report.quarantined_files) or 'the quarantine'}"


def _note(report: CompactionReport, dry_run: bool, keeps_all: bool) -> Styled:
    removed = count(report.removed_records, "record", "records")
    reclaimed = "" if report.reclaimed_bytes is None else f" and {size(report.reclaimed_bytes)}"
    hint = f"; {_NO_LIMIT}" if keeps_all else ""
    if dry_run:
        return Styled(f"dry run: would remove {removed}{reclaimed}; nothing was changed{hint}", "yellow")
    return Styled(f"removed {removed}{reclaimed}{hint}", "green")
