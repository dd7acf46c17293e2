"""The operations of the admin socket, which return plain data."""

from __future__ import annotations

import time
from dataclasses import asdict
from heapq import nlargest
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from papyra.exceptions import NotClustered, PersistenceError
from papyra.persistence import safe_metrics_snapshot
from papyra_contrib._cached import Cached
from papyra_contrib._timings.timings import PapyraTimings
from papyra_contrib.admin._budget import in_thread
from papyra_contrib.admin._fact_rows import FactFilter, bars, fact_rows
from papyra_contrib.admin._percentiles import Percentiles
from papyra_contrib.admin._plugins import plugin_rows
from papyra_contrib.admin._protocol import MAX_ROWS, RequestRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra import ActorSystem, DeadLetter
    from papyra.audit import ActorInfo, TreeRow

__all__ = ["Views"]

_T = TypeVar("_T")

WALK_SECONDS = 0.25  # how long a walk over all actors is reused, for all clients
SELECT_SECONDS = 5.0  # how long the events that match a filter are reused
PROBE_SECONDS = 10.0  # how long a probe of the store is reused
PROBE_PATIENCE_SECONDS = 2.0
MAX_DEAD_LETTERS = 10  # of one actor
PLUGIN_SECONDS = 60.0  # how long a list of the plugins is reused


class Views:
    """The operations on one system: `operations` has their names and functions, each of a request."""

    def __init__(self, system: ActorSystem, *, actions: bool, payloads: bool) -> None:
        self._system = system
        self._payloads = payloads
        self._started = system.now()
        self._walks: dict[object, Cached[Any]] = {}
        self._sample: Cached[dict[str, Any]] = Cached(WALK_SECONDS)
        self._selection: Cached[tuple[list[dict[str, Any]], dict[str, Any]]] = Cached(SELECT_SECONDS)
        self._problem: Cached[str] = Cached(PROBE_SECONDS)
        self._plugins: Cached[list[dict[str, Any]]] = Cached(PLUGIN_SECONDS)
        self._percentiles = Percentiles(system)
        self._handled: tuple[float, dict[int, int]] = (0.0, {})
        self._rates: dict[int, float] = {}
        self.operations: dict[str, Callable[[dict[str, Any]], Awaitable[object]]] = {
            "overview": self.overview,
            "top": self.top,
            "tree": self.tree,
            "actor": self.actor,
            "busy": self.busy,
            "dead_letters": self.dead_letters,
            "events": self.events,
            "store": self.store,
            "plugins": self.plugins,
            "metrics": self.metrics,
            "scrape": self.scrape,
        }
        if _is_clustered(system):
            self.operations["cluster"] = self.cluster
        if actions:
            self.operations["stop"] = self.stop

    async def overview(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the statistics, the timings, five busy actors and the five longest mailboxes."""
        system = self._system
        statistics = await self._statistics()
        return {
            "system_id": system.system_id,
            "run": system.run_id,
            "now": system.now(),
            "seconds": system.now() - self._started,
            "statistics": statistics,
            "timings": self._walk("timings", self._percentiles.look),
            "busy": [actor.to_dict() for actor in self._walk("busy", system.busy)[:5]],
            "longest": self._walk(
                "longest", lambda: [_actor(info) for info in system.list_actors(by="mailbox", limit=5)]
            ),
        }

    async def _statistics(self) -> dict[str, Any]:
        if not self._sample.is_fresh():
            self._sample.keep((await self._system.sample()).to_dict())
        return self._sample.value

    async def top(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return actors, the busiest first: ``by`` is mailbox, rate, restarts, processed or latency."""
        by = request.get("by", "mailbox")
        if by == "latency":
            rows = [
                actor.to_dict()
                for actor in sorted(self._walk("busy", self._system.busy), key=lambda actor: -actor.seconds)
            ]
            limit, offset = _span(request)
            return {
                "rows": rows[offset : offset + limit],
                "total": len(rows),
                "more": len(rows) > offset + limit,
            }
        find = request.get("find")
        if find is not None and not isinstance(find, str):
            raise RequestRefused(f"find must be a string, not {find!r}")
        if by == "rate" and not find:
            return self._fastest(*_span(request))
        if by not in ("mailbox", "processed", "restarts", "rate"):
            raise RequestRefused(f"by must be one of mailbox, rate, restarts, processed, latency, not {by!r}")
        limit, offset = _span(request)
        order = "processed" if by == "rate" else by
        rows = self._walk(
            ("top", order, limit, offset, find),
            lambda: [
                _actor(info)
                for info in self._system.list_actors(by=order, limit=limit + 1, offset=offset, matching=find)
            ],
        )
        kinds = (await self._statistics())["kinds"].values()
        total = sum(kind[state] for kind in kinds for state in ("alive", "restarting", "stopping"))
        return {"rows": rows[:limit], "total": total, "more": len(rows) > limit}

    def _fastest(self, limit: int, offset: int) -> dict[str, Any]:
        """Return the actors that handled most messages since the last look, or ever if this is the first."""
        now = time.monotonic()
        before, earlier = self._handled
        if now - before >= 4 * WALK_SECONDS:
            handled = self._system.handled()
            since = earlier if now - before < 20 * WALK_SECONDS else {}
            seconds = now - before if since else 1.0
            self._rates = {
                rid: (count - since.get(rid, 0 if not since else count)) / seconds
                for rid, count in handled.items()
            }
            self._handled = (now, handled)
        rates = self._rates
        chosen = nlargest(offset + limit, rates, key=rates.__getitem__)[offset:]
        infos = [self._system.actor_info(f"{self._system.system_id}:{rid}") for rid in chosen]
        rows = [_actor(info) for info in infos if info is not None]
        return {"rows": rows, "total": len(rates), "more": len(rates) > offset + limit}

    async def tree(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the tree as rows. With ``all``, siblings are not folded; ``below`` selects a part."""
        limit, offset = _span(request)
        below = self._find(request["below"]) if request.get("below") is not None else None
        level = request.get("depth")
        if level is not None and (type(level) is not int or level < 0):
            raise RequestRefused(f"depth must be a whole number of at least 0, not {level!r}")
        kind = request.get("type")
        if kind is not None and not isinstance(kind, str):
            raise RequestRefused("type must be the name of a class")
        rows = self._walk(
            ("tree", below, bool(request.get("all")), level, kind, limit, offset),
            lambda: self._system.tree(
                below,
                fold=None if request.get("all") else 12,
                max_level=level,
                actor_type=kind,
                limit=limit + 1,
                offset=offset,
            ),
        )
        return {"rows": [_tree_row(row) for row in rows[:limit]], "more": len(rows) > limit}

    async def actor(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return one actor: its state, where its code is, and its latest facts."""
        ref = self._find(request.get("actor"))
        info = self._system.actor_info(ref)
        assert info is not None  # noqa: S101 - its reference was found just now
        address = str(info.address)
        busy = [
            actor.to_dict()
            for actor in self._walk("busy", self._system.busy)
            if str(actor.address) == address
        ]
        parent = self._system.ref_for(f"{info.address.system}:{info.parent_rid}") if info.parent_rid else None
        above = self._system.actor_info(parent) if parent is not None else None
        facts = fact_rows(self._system.events(actor=info.address))
        letters = [
            letter for letter in self._system.dead_letters.messages if str(letter.target.address) == address
        ]
        return {
            **_actor(info),
            "parent": str(parent.address) if parent is not None else None,
            "parent_name": above.name if above is not None else None,
            "policy": asdict(info.policy) if info.policy is not None else None,
            "busy": busy[0] if busy else None,
            "events": facts[-20:],
            "letters": [self._letter(letter) for letter in letters[: -MAX_DEAD_LETTERS - 1 : -1]],
        }

    async def busy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the actors whose code runs now."""
        limit, offset = _span(request)
        busy = self._walk("busy", self._system.busy)
        rows = [actor.to_dict() for actor in busy[offset : offset + limit]]
        return {"rows": rows, "total": len(busy)}

    async def dead_letters(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the newest dead letters, newest first; payloads only if the socket has ``payloads=True``."""
        limit, offset = _span(request)
        letters = self._system.dead_letters
        kept = letters.messages[::-1]
        rows = [self._letter(letter) for letter in kept[offset : offset + limit]]
        return {"rows": rows, "total": letters.count, "more": offset + limit < len(kept)}

    def _letter(self, letter: DeadLetter) -> dict[str, Any]:
        info = self._system.actor_info(letter.target)
        row = {
            "timestamp": letter.timestamp,
            "target": str(letter.target.address),
            "name": info.name if info is not None else None,
            "actor_type": info.actor_type if info is not None else "",
            "message_type": type(letter.message).__name__,
            "expects_reply": letter.expects_reply,
            "reason": letter.reason,
        }
        if not self._payloads:
            return row
        _, payload = self._system.dead_letters.describe(letter)
        return {**row, "payload": "" if payload is None else str(payload)[:4096]}

    async def events(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the newest lifecycle events, newest first.

        ``type``, ``actor``, ``since`` and ``until`` select some of them. With ``bars``, return their number
        over time, too.
        """
        limit, offset = _span(request)
        wanted = FactFilter(
            _text(request, "type"),
            _text(request, "actor"),
            _moment(request, "since"),
            _moment(request, "until"),
        )
        newest: list[dict[str, Any]] = []
        if wanted == FactFilter():
            newest = fact_rows(self._system.events(offset + limit))[::-1][offset:]
            if not request.get("bars"):
                return {"rows": newest}
        rows, counted = await self._selected(wanted)
        page = newest or rows[::-1][offset : offset + limit]
        return {"rows": page, "total": len(rows), "bars": counted}

    async def _selected(self, wanted: FactFilter) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return all events that match and their number over time, at most a few seconds old."""

        def select() -> tuple[list[dict[str, Any]], dict[str, Any]]:
            rows = [row for row in fact_rows(self._system.events()) if wanted.matches(row)]
            return rows, bars(rows)

        if self._selection.is_fresh(wanted):
            return self._selection.value
        return self._selection.keep(await in_thread(select), wanted)

    async def store(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the store: its backend, its health and its counters."""
        store = self._system.persistence
        return {
            "backend": store.name or type(store).__name__,
            "healthy": self._system.statistics().facts["healthy"],
            "problem": await self._probed(),
            "warnings": list(store.store_warnings),
            "retention": asdict(store.retention),
            "facts": self._system.control_panel()["facts"],
            "metrics": safe_metrics_snapshot(store),
        }

    async def _probed(self) -> str:
        """Return why a record could not be written, or ""."""
        if self._problem.is_fresh():
            return self._problem.value
        problem = f"no answer within {PROBE_PATIENCE_SECONDS:.0f} s"
        with anyio.move_on_after(PROBE_PATIENCE_SECONDS):
            try:
                await self._system.persistence.ping()
                problem = ""
            except PersistenceError as error:
                problem = str(error)
        return self._problem.keep(problem)

    async def cluster(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the members of the cluster, and this node's lease, reconnects and peers."""
        panel: dict[str, Any] = self._system.control_panel()["cluster"]
        return panel

    async def metrics(self, request: dict[str, Any]) -> dict[str, int]:
        """Return the counters of the store in this process."""
        return safe_metrics_snapshot(self._system.persistence)

    async def scrape(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the data of a scrape, with the mailboxes of the actors in ``names``."""
        names = [name for name in request.get("names", ()) if isinstance(name, str)][:MAX_ROWS]
        named = [info for name in names if (info := self._system.actor_info(name)) is not None]
        busy = self._walk("longest running", lambda: self._system.busy(1))
        timings = [timings for timings in self._system.instruments if isinstance(timings, PapyraTimings)][:1]
        return {
            "statistics": await self._statistics(),
            "longest_running": busy[0].seconds if busy else 0.0,
            "timings": [instrument.to_dict() for instrument in timings],
            "named": [
                {"name": info.name, "mailbox_depth": info.mailbox_depth, "processed": info.processed}
                for info in named
            ],
        }

    async def plugins(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the installed plugins, without loading them."""
        if not self._plugins.is_fresh():
            self._plugins.keep(await in_thread(plugin_rows))
        return {"rows": self._plugins.value, "total": len(self._plugins.value)}

    async def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stop one actor, waiting at most 10 seconds."""
        ref = self._find(request.get("actor"))
        await self._system.stop(ref, timeout=10.0)
        return {"stopped": str(ref.address)}

    def _find(self, target: object) -> Any:
        if not isinstance(target, str):
            raise RequestRefused("actor must be a name or an address, as in local:7")
        ref = self._system.ref_for_name(target)
        if ref is None:
            try:
                ref = self._system.ref_for(target)
            except ValueError:
                ref = None
        if ref is None:
            raise RequestRefused(f"there is no actor {target!r} any more")
        return ref

    def _walk(self, key: object, function: Callable[[], _T]) -> _T:
        """Return the result of a walk over all actors, at most `WALK_SECONDS` old."""
        cached: Cached[_T] | None = self._walks.get(key)
        if cached is None or not cached.is_fresh():
            self._walks = {other: walk for other, walk in self._walks.items() if walk.is_fresh()}
            cached = self._walks[key] = Cached(WALK_SECONDS)
            cached.keep(function())
        return cached.value


def _is_clustered(system: ActorSystem) -> bool:
    """Return whether a system, which may not be started yet, is a node of a cluster."""
    try:
        _ = system.cluster
    except NotClustered:
        return False
    return True


def _text(request: dict[str, Any], name: str) -> str | None:
    value = request.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestRefused(f"{name} must be a string, not {value!r}")
    return value


def _moment(request: dict[str, Any], name: str) -> float | None:
    value = request.get(name)
    if value is not None and type(value) not in (int, float):
        raise RequestRefused(f"{name} must be a Unix time, not {value!r}")
    return value


def _span(request: dict[str, Any]) -> tuple[int, int]:
    limit, offset = request.get("limit", 50), request.get("offset", 0)
    for name, value in (("limit", limit), ("offset", offset)):
        if type(value) is not int or value < 0:
            raise RequestRefused(f"{name} must be a whole number of at least 0, not {value!r}")
    return min(limit, MAX_ROWS), offset


def _actor(info: ActorInfo) -> dict[str, Any]:
    return {
        "rid": info.rid,
        "address": str(info.address),
        "name": info.name,
        "actor_type": info.actor_type,
        "state": info.state,
        "mailbox_depth": info.mailbox_depth,
        "mailbox_capacity": info.mailbox_capacity,
        "restarts": info.restarts,
        "children": len(info.children_rids),
        "processed": info.processed,
        "parent_rid": info.parent_rid,
    }


def _tree_row(row: TreeRow) -> dict[str, Any]:
    return {
        "level": row.level,
        "count": row.count,
        "actor_type": row.actor_type,
        "waiting": row.waiting,
        "processed": row.processed,
        "parent": row.parent,
        "actor": _actor(row.actor) if row.actor is not None else None,
    }
