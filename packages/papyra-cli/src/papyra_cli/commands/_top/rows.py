"""The rows of the screen of ``papyra top``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from papyra_cli.commands._top.snapshot import Snapshot

__all__ = [
    "ACTOR_COLUMNS",
    "FIGURES",
    "TYPE_COLUMNS",
    "WIDE_COLUMNS",
    "actor_lines",
    "actor_rows",
    "totals",
    "type_rows",
]

TYPE_COLUMNS = ("type", "alive", "msg/s", "waiting", "longest", "wait p99", "takes p99", "restarts")
ACTOR_COLUMNS = ("actor", "type", "state", "mailbox", "handled", "restarts", "runs for", "where")
FIGURES = {*TYPE_COLUMNS[1:], "mailbox", "handled", "runs for"}
"""Columns whose cells end at the right."""

WIDE_COLUMNS = 110
"""From this width on there is room for the process, and for where an actor's code is."""


def totals(snapshot: Snapshot, width: int) -> str:
    """Return the whole system in a line of a terminal of ``width`` columns."""
    kinds = snapshot.kinds
    alive, waiting, restarts = (
        sum(kind[name] for kind in kinds) for name in ("alive", "waiting", "restarts")
    )
    letters = sum(snapshot.statistics["dead_letters"].values())
    greeting = snapshot.greeting
    place = f" (pid {greeting['pid']}, {greeting['loop']})" if width >= WIDE_COLUMNS else ""
    rate = f"  {snapshot.rate:,.0f} msg/s" if snapshot.rates else ""
    rest = f"  {restarts:,} restarts  {letters:,} dead letters"
    return f"{greeting['system_id']}{place}  {alive:,} actors{rate}  {waiting:,} waiting{rest}"


def type_rows(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """Return a row for each type; those without traffic are one."""
    timings: Mapping[str, Mapping[str, float | None]] = snapshot.overview.get("timings", {})
    rows: dict[str, tuple[str, ...]] = {}
    quiet: list[dict[str, Any]] = []
    for kind in snapshot.kinds:
        name = kind["actor_type"]
        if not (kind["alive"] or kind["restarting"] or kind["processed"]):
            continue
        if snapshot.rates and not (snapshot.rates.get(name) or kind["waiting"] or kind["restarting"]):
            quiet.append(kind)
            continue
        timing = timings.get(name, {})
        rows[name] = (
            name,
            f"{kind['alive']:,}",
            f"{snapshot.rates[name]:,.0f}" if name in snapshot.rates else "-",
            f"{kind['waiting']:,}",
            f"{kind.get('longest', 0):,}",
            _span(timing.get("wait_p99")),
            _span(timing.get("takes_p99")),
            f"{kind['restarts']:,}",
        )
    if quiet:
        alive, restarts = (sum(kind[name] for kind in quiet) for name in ("alive", "restarts"))
        rows["(quiet)"] = (f"{len(quiet)} quiet", f"{alive:,}", "0", "0", "0", "-", "-", f"{restarts:,}")
    return rows


def actor_rows(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """Return a row for each actor, by its address."""
    return {actor["address"]: _actor_row(snapshot, actor) for actor in snapshot.actors}


def _actor_row(snapshot: Snapshot, actor: Mapping[str, Any]) -> tuple[str, ...]:
    busy = next((row for row in snapshot.overview["busy"] if row["address"] == actor["address"]), actor)
    depth, capacity = actor.get("mailbox_depth"), actor.get("mailbox_capacity")
    return (
        actor["name"] or actor["address"],
        actor["actor_type"],
        actor.get("state", "running"),
        "-" if depth is None else f"{depth:,}/{capacity:,}" if capacity else f"{depth:,}",
        f"{actor['processed']:,}" if "processed" in actor else "-",
        f"{actor['restarts']:,}" if "restarts" in actor else "-",
        f"{busy['seconds']:,.0f} s" if "seconds" in busy else "-",
        busy.get("where") or "-",
    )


def actor_lines(actor: Mapping[str, Any]) -> list[str]:
    """Return the details of one actor, line by line."""
    busy: dict[str, Any] | None = actor["busy"]
    policy: dict[str, Any] = actor.get("policy") or {}
    capacity = actor.get("mailbox_capacity")
    lines = [
        f"{actor['name'] or actor['address']}  {actor['actor_type']} {actor['address']}",
        "",
        f"state     {actor['state']}",
        f"mailbox   {actor['mailbox_depth']:,}" + (f" of {capacity:,}" if capacity else ""),
        f"handled   {actor['processed']:,}",
        f"parent    {actor['parent'] or 'the system'}",
        f"children  {actor['children']:,}",
        f"policy    {policy.get('strategy', '-')}, {actor.get('restarts', 0):,} restarts count",
    ]
    if busy:
        awaits = f", awaits {busy['awaits']}" if busy["awaits"] else ""
        lines.append(f"runs      {busy['where']}{awaits}, for {_span(busy['seconds'])}")
    lines += ["", "its facts, newest first"]
    for fact in actor["events"][::-1]:
        lines.append(
            f"  {fact['type']} {fact['payload'].get('error') or fact['payload'].get('reason') or ''}"
        )
    return lines


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for limit, unit, factor in ((0.9995e-3, "us", 1e6), (0.9995, "ms", 1e3)):
        if seconds < limit:
            return f"{seconds * factor:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:,.0f} s"
