"""The overview: tiles, what needs attention, the latest facts, types and the longest mailboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra_contrib.dashboard._actor_rows import actor_row, link
from papyra_contrib.dashboard._attention import attention, record_attention
from papyra_contrib.dashboard._fact_lines import grouped
from papyra_contrib.dashboard._format import DASH, count, counted, moment, rate, short, span
from papyra_contrib.dashboard._series import Series, spark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from papyra_contrib.dashboard._poller import Poller, Snapshot

__all__ = ["overview", "record_overview"]

MAX_FACT_LINES = 14
MAX_TYPES = 12
MAX_LONGEST_ROWS = 9


async def overview(poller: Poller, snapshot: Snapshot) -> dict[str, Any]:
    """Return the model of a running system's overview."""
    rows: list[dict[str, Any]] = []
    if not snapshot.gone:
        rows = (await poller.source.actors(by="mailbox", limit=MAX_LONGEST_ROWS, offset=0, find=""))["rows"]
    rates = poller.rates_of(rows)
    return {
        "tiles": _tiles(snapshot),
        "notes": attention(snapshot),
        "facts": grouped(snapshot.answer["events"], MAX_FACT_LINES),
        "facts_note": f"similar ones in one line; {count(snapshot.totals.written)} written",
        **_types(snapshot),
        "longest": [actor_row(row, rates) for row in rows],
    }


def _tiles(snapshot: Snapshot) -> list[dict[str, Any]]:
    totals, statistics = snapshot.totals, snapshot.answer["statistics"]
    kinds: list[dict[str, Any]] = list(statistics["kinds"].values())
    longest = max((kind["longest"] for kind in kinds), default=0)
    restarting = sum(kind["restarting"] for kind in kinds)
    ready = statistics["ready"]
    cells = (
        (
            "rate",
            "Messages a second",
            rate(totals.rate),
            f"{counted(ready, 'actor')} ready to run",
        ),
        ("waiting", "Waiting in mailboxes", count(totals.waiting), f"longest {count(longest)}"),
        ("alive", "Actors alive", count(totals.alive), f"{count(restarting)} restarting"),
        (
            "restarts",
            "Restarts, last minute",
            count(totals.new_restarts),
            f"{count(totals.restarts)} since the start",
        ),
        (
            "letters",
            "Dead letters",
            count(sum(statistics["dead_letters"].values())),
            f"+{count(totals.new_letters)} in the last minute",
        ),
        (
            "facts",
            "Facts a second",
            rate(totals.facts_rate),
            f"{count(totals.written)} written, {count(totals.dropped)} dropped",
        ),
    )
    return [
        {"label": label, "figure": figure, "note": note, "spark": spark(snapshot.series[name].points)}
        for name, label, figure, note in cells
    ]


def _types(snapshot: Snapshot) -> dict[str, Any]:
    """Return the types with messages or restarts, the fastest first, and the names of the quiet ones."""
    kinds: dict[str, dict[str, Any]] = snapshot.answer["statistics"]["kinds"]
    rates, timings = snapshot.kind_rates, snapshot.answer.get("timings", {})

    def quiet(kind: Mapping[str, Any]) -> bool:
        series = snapshot.kind_series.get(kind["actor_type"])
        moved = series is not None and any(value for _, value in series.points)
        return not (moved or kind["waiting"] or kind["restarting"])

    order = sorted(kinds.values(), key=lambda kind: (-rates.get(kind["actor_type"], 0.0), -kind["processed"]))
    shown = [kind for kind in order if not quiet(kind)][:MAX_TYPES]
    names = [kind["actor_type"] for kind in order if quiet(kind) and kind["alive"]]
    rest = len([kind for kind in order if not quiet(kind)]) - len(shown)
    heading = "by messages a second" + (f"; {count(rest)} more" if rest else "")
    if names:
        listed = ", ".join(map(short, names[:6])) + (", …" if len(names) > 6 else "")
        heading += f"; {count(len(names))} quiet: {listed}"
    return {
        "types_note": heading,
        "types": [
            {
                "name": short(kind["actor_type"]),
                "href": link("actors", find=kind["actor_type"]),
                "alive": count(kind["alive"]),
                "rate": rate(rates.get(kind["actor_type"])),
                "spark": spark(snapshot.kind_series.get(kind["actor_type"], Series()).points),
                "waiting": count(kind["waiting"]),
                "longest": count(kind["longest"]),
                "restarts": kind["restarts"],
                **{
                    name: span(timings.get(kind["actor_type"], {}).get(name))
                    for name in ("wait_p99", "takes_p50", "takes_p99")
                },
            }
            for kind in shown
        ],
    }


def record_overview(snapshot: Snapshot) -> dict[str, Any]:
    """Return the model of a record's overview: the newest facts that were read."""
    record = snapshot.answer["record"]
    counts, bars = record["counts"], record["bars"]
    closed = sum(1 for run in record["runs"] if run["ended"] in ("clean", "failed"))
    kinds: list[tuple[str, dict[str, Any]]] = sorted(
        record["kinds"].items(), key=lambda each: (-each[1]["crashes"], -each[1]["started"], each[0])
    )
    line = Series()
    for index, number in enumerate(bars["facts"]):
        line.points.append((float(index), float(number)))
    cells = (
        ("Facts read", record["read"], "older ones exist" if record["more"] else "all facts"),
        ("Actors started", counts.get("ActorStarted", 0), f"{count(counts.get('ActorStopped', 0))} stopped"),
        ("Crashes", counts.get("ActorCrashed", 0), counted(counts.get("ActorRestarted", 0), "restart")),
        ("Dead letters", record["letters"], "messages that no actor handled"),
        ("Runs", len(record["runs"]), f"{count(closed)} with an end"),
        ("Classes", len(record["kinds"]), "that facts name"),
    )
    return {
        "tiles": [
            {"label": label, "figure": count(number), "note": note, "spark": None}
            for label, number, note in cells
        ],
        "notes": record_attention(record),
        "facts": grouped(snapshot.answer["events"], MAX_FACT_LINES),
        "facts_note": f"similar ones in one line; from {moment(record['oldest'])} to {moment(record['newest'])}",
        "record_types": [
            {"name": name, **kind, "handled": _handled(kind)} for name, kind in kinds[: 2 * MAX_TYPES]
        ],
        "runs": [
            {
                **run,
                "start": moment(run.get("start")),
                # The time of its newest fact: a killed run ended later, and an unknown one may still run.
                "end": ("≥ " if run["ended"] in ("killed", "unknown") else "") + moment(run.get("end")),
            }
            for run in record["runs"][:MAX_LONGEST_ROWS]
        ],
    }


def _handled(kind: Mapping[str, Any]) -> str:
    """Return how many messages the stopped actors of a type handled: only an end says it."""
    return count(kind["handled"]) if kind["stopped"] else DASH
