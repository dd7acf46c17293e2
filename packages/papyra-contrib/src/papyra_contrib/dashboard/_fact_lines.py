"""Facts in words, with similar ones grouped in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from papyra_contrib.dashboard._format import clock, moment, short, span

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FactLine", "describe", "fact_line", "grouped"]

MAX_TEXT_CHARS = 300

_WORDS = {
    "ActorStarted": "Started",
    "ActorStopped": "Stopped",
    "ActorCrashed": "Crashed",
    "ActorRestarted": "Restarted",
    "NodeUp": "Node up",
    "NodeDown": "Node down",
    "SystemStarted": "System started",
    "SystemStopped": "System stopped",
}
_TONES = {"ActorCrashed": "bad", "ActorRestarted": "odd", "NodeDown": "bad"}


@dataclass(slots=True)
class FactLine:
    """A fact, or ``count`` similar ones, as a page shows it; ``time`` is that of the newest."""

    time: str
    moment: str
    word: str
    tone: str
    kind: str
    name: str
    address: str
    text: str
    count: int = 1


def grouped(rows: Iterable[dict[str, Any]], max_lines: int) -> list[FactLine]:
    """Return facts, newest first. Those with the same type, class and text share a line."""
    lines: dict[tuple[str, str, str], FactLine] = {}
    for row in rows:
        line = fact_line(row)
        text = "" if row["type"] == "ActorRestarted" else line.text  # the delays of restarts differ
        group = lines.get((line.word, line.kind, text))
        if group is not None:
            group.count += 1
            group.text = text
        elif len(lines) < max_lines:
            lines[line.word, line.kind, text] = line
    return list(lines.values())


def fact_line(row: dict[str, Any]) -> FactLine:
    """Return one fact as a line."""
    payload: dict[str, Any] = row["payload"]
    kind, name = payload.get("type"), payload.get("name")
    return FactLine(
        clock(row["timestamp"]),
        moment(row["timestamp"]),
        _WORDS.get(row["type"]) or str(row["type"]),
        _TONES.get(row["type"], ""),
        short(kind.rpartition(".")[2]) if isinstance(kind, str) else "",
        short(name) if isinstance(name, str) else "",
        row["address"],
        describe(row),
    )


def describe(row: dict[str, Any]) -> str:
    """Return the details of a fact, without its type and its actor."""
    payload = row["payload"]
    if row["type"] == "ActorCrashed":
        parts = [_text(payload, "error")]
    elif row["type"] == "ActorStopped":
        reason = _text(payload, "reason")
        parts = [reason if reason != "stopped" else "", _text(payload, "error")]
    elif row["type"] == "ActorRestarted":
        delay = payload.get("delay")
        parts = [f"after {span(delay)}" if isinstance(delay, int | float) and delay else ""]
    elif row["type"] in ("SystemStarted", "SystemStopped"):
        parts = [
            f"{name} {payload[name]}" for name in ("pid", "host", "reason", "crashes") if name in payload
        ]
    elif row["type"] in ("NodeUp", "NodeDown"):
        parts = [_text(payload, "node"), _text(payload, "reason")]
    else:
        parts = []
    return ", ".join(filter(None, parts))[:MAX_TEXT_CHARS]


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    return value if isinstance(value, str) else ""
