"""The views: they turn the parameters of a request into the model of a template."""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from papyra_contrib.dashboard._actor_rows import actor_row, link
from papyra_contrib.dashboard._fact_lines import fact_line
from papyra_contrib.dashboard._format import TIMES, count, counted, moment, short, span
from papyra_contrib.dashboard._overview import overview, record_overview

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from papyra_contrib.dashboard._poller import Poller, Snapshot

__all__ = ["BAR", "VIEWS", "Parameters", "bars_path"]

PAGE_ROWS = 50
TREE_ROWS = 300
MAX_OFFSET = 10_000_000
MAX_PARAMETER_CHARS = 300

BAR = (
    ("overview", "o", "Overview"),
    ("actors", "a", "Actors"),
    ("tree", "t", "Tree"),
    ("letters", "d", "Dead letters"),
    ("timeline", "l", "Timeline"),
    ("store", "s", "Store"),
    ("plugins", "g", "Plugins"),
)
"""The views in the navigation bar: name, key and label."""

ORDERS = (
    ("mailbox", "Mailbox"),
    ("rate", "msg/s"),
    ("processed", "Handled"),
    ("restarts", "Restarts"),
    ("latency", "Running"),
)
EVENT_TYPES = ("ActorStarted", "ActorCrashed", "ActorRestarted", "ActorStopped", "NodeUp", "NodeDown")
RECORD_TYPES = (*EVENT_TYPES, "SystemStarted", "SystemStopped")

BARS_WIDTH, BARS_HEIGHT = 1200.0, 80.0


class Parameters:
    """The parameters of a request. An invalid one counts as missing."""

    __slots__ = ("_given",)

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = {name: value[:MAX_PARAMETER_CHARS] for name, value in given.items()}

    def text(self, name: str) -> str:
        """Return a text without surrounding spaces."""
        return self._given.get(name, "").strip()

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        """Return one of some words, the first unless another was given."""
        word = self.text(name)
        return word if word in choices else choices[0]

    def offset(self) -> int:
        """Return how many rows to leave out."""
        digits = self.text("offset")
        return min(int(digits), MAX_OFFSET) if digits.isascii() and digits.isdigit() else 0

    def moment(self, name: str) -> float | None:
        """Return a time that was given as Unix time or in ISO 8601."""
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            try:
                value = datetime.fromisoformat(text).timestamp()
            except (ValueError, OverflowError, OSError):
                return None
        return value if isfinite(value) else None

    def key(self) -> tuple[tuple[str, str], ...]:
        """Return the parameters as a key of a cache."""
        return tuple(sorted(self._given.items()))


async def _overview(poller: Poller, snapshot: Snapshot, parameters: Parameters) -> dict[str, Any]:
    if "record" in snapshot.answer:
        return record_overview(snapshot)
    return await overview(poller, snapshot)


async def _actors(poller: Poller, snapshot: Snapshot, parameters: Parameters) -> dict[str, Any]:
    by, offset, find = (
        parameters.one_of("by", tuple(name for name, _ in ORDERS)),
        parameters.offset(),
        parameters.text("find"),
    )
    answer = await poller.source.actors(by=by, limit=PAGE_ROWS, offset=offset, find=find)
    rows = answer["rows"]
    rates = poller.rates_of(rows)
    busy = {actor["address"]: actor for actor in snapshot.answer.get("busy", ())}
    shown: list[dict[str, Any]] = []
    for row in rows:
        running = row if "seconds" in row else busy.get(row["address"])
        seconds = span(running["seconds"]) if running else ""
        shown.append(
            {**actor_row(row, rates), "seconds": seconds, "where": running["where"] if running else ""}
        )
    return {
        "by": by,
        "find": find,
        "orders": {name: link("actors", by=name, find=find) for name, _ in ORDERS},
        "rows": shown,
        "latency": by == "latency",
        "total": count(answer.get("total")),
        **_turning("actors", offset, len(rows), answer.get("more", False), by=by, find=find),
    }


def _turning(
    view: str, offset: int, rows: int, more: bool, limit: int = PAGE_ROWS, /, **parameters: object
) -> dict[str, Any]:
    """Return the links to the pages before and after, of ``limit`` rows, and which rows are shown."""
    before, after = max(0, offset - limit), offset + limit
    return {
        "shown": f"{count(offset + 1)} to {count(offset + rows)}" if rows else "none",
        "previous": link(view, offset=before, **parameters) if offset else "",
        "next": link(view, offset=after, **parameters) if more else "",
    }


async def _tree(poller: Poller, snapshot: Snapshot, parameters: Parameters) -> dict[str, Any]:
    below, kind, offset = parameters.text("below"), parameters.text("kind"), parameters.offset()
    limit = PAGE_ROWS if kind else TREE_ROWS
    answer = await poller.source.tree(below=below, kind=kind, limit=limit, offset=offset)
    rows = answer["rows"]
    rates = poller.rates_of(row["actor"] for row in rows if row["actor"] is not None)
    shown: list[dict[str, Any]] = []
    for row in rows:
        entry = {"level": min(row["level"], 12), "folded": row["actor"] is None}
        if row["actor"] is None:
            href = link("tree", below=row["parent"], kind=row["actor_type"])
            name = f"{count(row['count'])} {TIMES} {short(row['actor_type'])}"
            entry |= {
                "href": href,
                "name": name,
                "type": short(row["actor_type"]),
                "depth": count(row["waiting"]),
            }
            entry |= {"handled": count(row["processed"])}
        else:
            entry |= actor_row(row["actor"], rates) | {"parent": row["actor"]["children"] > 0}
        shown.append(entry)
    turning = _turning("tree", offset, len(rows), answer["more"], limit, below=below, kind=kind)
    return {"rows": shown, "below": below, "kind": kind, **turning}


async def _actor(poller: Poller, snapshot: Snapshot, parameters: Parameters) -> dict[str, Any]:
    answer = await poller.source.actor(parameters.text("id"))
    model: dict[str, Any] = {
        "answer": answer,
        "row": actor_row(answer, poller.rates_of([answer])) | {"name": answer["name"] or ""},
        "facts": [fact_line(row) for row in answer["events"][::-1]],
        "letters": [_letter(row) for row in answer["letters"]],
        "timeline": link("timeline", actor=answer["address"]),
        "timings": {},
    }
    if "state" not in answer:
        return model
    timings = snapshot.answer.get("timings", {}).get(answer["actor_type"], {})
    policy = answer["policy"]
    return model | {
        "timings": {name: span(timings.get(name)) for name in ("wait_p99", "takes_p50", "takes_p99")},
        "policy": _policy(policy, answer["restarts"]) if policy else "",
        "parent": answer["parent"],
        "parent_href": link("actor", id=answer["parent"]),
        "children_href": link("tree", below=answer["address"]),
        "running": span(answer["busy"]["seconds"]) if answer["busy"] else "",
    }


def _policy(policy: Mapping[str, Any], restarts: int) -> str:
    strategy = policy["strategy"]
    if strategy != "restart":
        return str(strategy)
    left = max(0, policy["max_restarts"] - restarts)
    return f"restart, {count(left)} of {count(policy['max_restarts'])} left within {span(policy['within_seconds'])}"


def _letter(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "name": short(row["name"] or ""),
        "actor_type": short(row["actor_type"]),
        "time": moment(row["timestamp"]),
        "href": link("actor", id=row["target"]),
        "payload": row.get("payload"),
    }


async def _letters(poller: Poller, snapshot: Snapshot, parameters: Parameters) -> dict[str, Any]:
    offset = parameters.offset()
    answer = await poller.source.letters(limit=PAGE_ROWS, offset=offset)
    rows = answer["rows"]
    return {
        "rows": [_letter(row) for row in rows],
        "payloads": any(row.get("payload") is not None for row in rows),
        "total": count(answer["total"]),
        **_turning("letters", offset, len(rows), answer.get("more", len(rows) == PAGE_ROWS)),
    }


async def _timeline(poller: Poller, snapshot: Snapshot, parameters: Parameters) -> dict[str, Any]:
    kind, actor, offset = parameters.text("kind"), parameters.text("actor"), parameters.offset()
    since, until = parameters.moment("since"), parameters.moment("until")
    answer = await poller.source.events(
        limit=PAGE_ROWS, offset=offset, kind=kind, actor=actor, since=since, until=until
    )
    bars, rows = answer["bars"], answer["rows"]
    older = answer.get("older")
    given = {
        "kind": kind,
        "actor": actor,
        "since": parameters.text("since"),
        "until": parameters.text("until"),
    }
    more = offset + len(rows) < answer["total"]
    return {
        **given,
        "types": RECORD_TYPES if poller.source.kind == "record" else EVENT_TYPES,
        "facts": [fact_line(row) for row in rows],
        "total": counted(answer["total"], "fact"),
        "peak": count(max(bars["facts"], default=0)),
        "span": span(bars["seconds"]),
        "begin": moment(bars["start"]),
        "end": moment(bars["start"] + bars["seconds"] * len(bars["facts"])) if bars["facts"] else "",
        "crashes": count(sum(bars["crashes"])),
        "facts_path": bars_path(bars["facts"], max(bars["facts"], default=0)),
        "crashes_path": bars_path(bars["crashes"], max(bars["facts"], default=0)),
        "older": link("timeline", **{**given, "until": repr(older)}) if older is not None else "",
        **_turning("timeline", offset, len(rows), more, **given),
    }


def bars_path(counts: list[int], highest: int) -> str:
    """Return bars as one path, side by side over the whole width."""
    if not highest:
        return ""
    width = BARS_WIDTH / len(counts)
    parts: list[str] = []
    for index, number in enumerate(counts):
        if number:
            height = max(1.0, number / highest * BARS_HEIGHT)
            inner = max(0.5, min(width - 1.0, 40.0))
            parts.append(f"M{index * width:.1f},{BARS_HEIGHT:.0f}v{-height:.1f}h{inner:.1f}v{height:.1f}z")
    return "".join(parts)


async def _store(poller: Poller, snapshot: Snapshot, parameters: Parameters) -> dict[str, Any]:
    answer = await poller.source.store()
    scan = answer.get("scan")
    return {
        "answer": answer,
        "retention": {name: value for name, value in answer["retention"].items() if value is not None},
        "metrics": sorted(answer["metrics"].items()),
        "facts": answer.get("facts", {}),
        "scan": scan,
    }


async def _plugins(poller: Poller, snapshot: Snapshot, parameters: Parameters) -> dict[str, Any]:
    return {"rows": (await poller.source.plugins())["rows"]}


VIEWS: dict[str, Callable[[Poller, Snapshot, Parameters], Awaitable[dict[str, Any]]]] = {
    "overview": _overview,
    "actors": _actors,
    "tree": _tree,
    "letters": _letters,
    "timeline": _timeline,
    "store": _store,
    "plugins": _plugins,
    "actor": _actor,
}
"""Each view's function; its template has the same name."""
