"""The things in a running system or a record that need attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from papyra_contrib.dashboard._actor_rows import ATTENTION_MAILBOX_RATIO, link
from papyra_contrib.dashboard._format import count, counted, short, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from papyra_contrib.dashboard._poller import Snapshot, Totals

__all__ = ["Note", "attention", "record_attention"]

STUCK_SECONDS = 30.0
SLOW_SECONDS = 5.0
RESTARTS_A_MINUTE = 10
RESTART_LOOP_A_MINUTE = 60
CRASHES_IN_A_RECORD = 10
KILLED_RUNS_NAMED = 4


class Note(NamedTuple):
    """One thing that needs attention: ``tone`` is ``bad`` or ``odd``, ``detail`` is a short explanation."""

    tone: str
    text: str
    detail: str = ""
    href: str = ""


def attention(snapshot: Snapshot) -> list[Note]:
    """Return the notes on a running system, the worst first."""
    answer = snapshot.answer
    kinds: dict[str, dict[str, Any]] = answer["statistics"]["kinds"]
    notes = [
        *_stuck(answer["busy"]),
        *_store(answer["statistics"], snapshot.totals),
        *_mailboxes(kinds, answer["longest"]),
        *_restarts(kinds, snapshot.totals),
        *_hooks(answer["statistics"]["hooks"]),
    ]
    return sorted(notes, key=lambda note: note.tone != "bad")


def _stuck(busy: list[dict[str, Any]]) -> Iterator[Note]:
    for actor in busy:
        if actor["seconds"] >= SLOW_SECONDS:
            name = short(actor["name"] or f"{actor['actor_type']} {actor['address']}")
            where = actor["where"] + (f", awaits {actor['awaits']}" if actor["awaits"] else "")
            yield Note(
                "bad" if actor["seconds"] >= STUCK_SECONDS else "odd",
                f"{name} has handled one message for {span(actor['seconds'])}",
                where,
                link("actor", id=actor["address"]),
            )


def _store(statistics: Mapping[str, Any], totals: Totals) -> Iterator[Note]:
    facts = statistics["facts"]
    if not facts["healthy"]:
        yield Note("bad", f"the store {facts['store']} is not healthy", "", "store")
    dropped = totals.new_dropped
    if dropped:
        yield Note("bad", f"{counted(dropped, 'fact')} dropped in the last minute", "", "store")
    elif totals.dropped:
        yield Note("odd", f"{counted(totals.dropped, 'fact')} dropped since the start", "", "store")


def _mailboxes(kinds: Mapping[str, dict[str, Any]], longest: list[dict[str, Any]]) -> Iterator[Note]:
    shown: set[str] = set()
    for actor in longest:
        capacity = actor["mailbox_capacity"]
        if capacity and actor["mailbox_depth"] / capacity >= ATTENTION_MAILBOX_RATIO:
            shown.add(actor["actor_type"])
            senders = kinds.get(actor["actor_type"], {}).get("senders", 0)
            yield Note(
                "bad" if senders else "odd",
                f"the mailbox of {short(actor['name'] or actor['address'])} is {actor['mailbox_depth'] / capacity:.0%} full",
                f"{count(actor['mailbox_depth'])} of {count(capacity)}"
                + (f", {counted(senders, 'sender')} waiting" if senders else ""),
                link("actor", id=actor["address"]),
            )
    for name, kind in kinds.items():
        if kind["fullest"] >= ATTENTION_MAILBOX_RATIO and name not in shown:
            yield Note(
                "odd", f"a mailbox of {name} is {kind['fullest']:.0%} full", "", link("actors", find=name)
            )


def _restarts(kinds: Mapping[str, dict[str, Any]], totals: Totals) -> Iterator[Note]:
    for name, kind in kinds.items():
        grown = totals.new_restarts_of.get(name, 0)
        if grown >= RESTARTS_A_MINUTE:
            yield Note(
                "bad" if grown >= RESTART_LOOP_A_MINUTE else "odd",
                f"{name}: {count(grown)} restarts in the last minute",
                f"{count(kind['restarting'])} restarting now" if kind["restarting"] else "",
                link("timeline", kind="ActorCrashed", actor=name),
            )


def _hooks(hooks: list[dict[str, Any]]) -> Iterator[Note]:
    for hook in hooks:
        for field, text in (
            ("failed", "failed call"),
            ("slow", "slow call"),
            ("dropped", "dropped call"),
        ):
            if hook.get(field):
                yield Note("odd", f"{hook['observer']}: {counted(hook[field], text)} since the start")


def record_attention(record: Mapping[str, Any]) -> list[Note]:
    """Return the notes on a record, the worst first."""
    notes: list[Note] = []
    killed = [run["run"] for run in record["runs"] if run["ended"] == "killed"]
    if killed:
        text = f"run {killed[0]} was killed" if len(killed) == 1 else f"{count(len(killed))} runs were killed"
        names = ", ".join(killed[:KILLED_RUNS_NAMED]) + (", …" if len(killed) > KILLED_RUNS_NAMED else "")
        notes.append(Note("bad", text, names if len(killed) > 1 else "its process is gone"))
    for run in record["runs"]:
        if run["ended"] == "failed":
            notes.append(Note("bad", f"run {run['run']} ended with an error"))
        if run.get("dropped"):
            notes.append(Note("bad", f"run {run['run']} dropped {counted(run['dropped'], 'fact')}"))
    for name, kind in record["kinds"].items():
        if kind["crashes"] >= CRASHES_IN_A_RECORD:
            href = link("timeline", kind="ActorCrashed", actor=name)
            notes.append(
                Note(
                    "odd",
                    f"{name}: {count(kind['crashes'])} crashes",
                    counted(kind["restarts"], "restart"),
                    href,
                )
            )
    return sorted(notes, key=lambda note: note.tone != "bad")
