"""``papyra inspect audits``: the newest audits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra.persistence.models import PersistedAudit
from papyra_cli._output.records import AUDITS
from papyra_cli.commands.inspect._record_list import record_command, run_option

if TYPE_CHECKING:
    from papyra_cli.commands.inspect._record_list import RecordList

__all__ = ["audits"]


@record_command(
    PersistedAudit,
    AUDITS,
    run_option,
    exit_codes={0: "done, also if no audit matches"},
    examples=[
        ("papyra inspect audits --path papyra.ndjson --limit 1", "the newest audit"),
        ("papyra inspect audits --since 7d -o jsonl", "those of a week, one JSON object a line"),
    ],
)
def audits(records: RecordList[PersistedAudit]) -> None:
    """Show the newest audits.

    Each says how many actors there were and in which state. An orphan is a name that leads to no actor; a
    dead name leads to an actor that has stopped.
    """
    records.show()
