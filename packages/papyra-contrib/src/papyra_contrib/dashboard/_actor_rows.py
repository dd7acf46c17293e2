"""Rows of actors, as several views show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from papyra_contrib.dashboard._format import count, rate, short

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["actor_row", "link"]

BAR_WIDTH = 90.0
"""Width of a full bar, in units of its drawing."""

ATTENTION_MAILBOX_RATIO = 0.8
"""A mailbox that is fuller than this needs attention."""

_TONES = {"restarting": "odd", "failed": "bad", "stopping": "odd", "idle": "quiet"}


def link(view: str, **parameters: object) -> str:
    """Return the address of a view, relative to the other views; empty parameters are left out."""
    given = {name: str(value) for name, value in parameters.items() if value not in (None, "", 0)}
    return f"{view}?{urlencode(given)}" if given else view


def actor_row(actor: Mapping[str, Any], rates: Mapping[str, float | None]) -> dict[str, Any]:
    """Return an actor's cells; a busy actor, which has no mailbox, has fewer."""
    depth, capacity = actor.get("mailbox_depth"), actor.get("mailbox_capacity")
    share = depth / capacity if depth is not None and capacity else None
    state = actor.get("state", "running")
    return {
        "href": link("actor", id=actor["address"]),
        "name": short(actor["name"] or ""),
        "address": actor["address"],
        "type": short(actor["actor_type"]),
        "state": state,
        "tone": _TONES.get(state, ""),
        "depth": count(depth),
        "capacity": count(capacity) if capacity else "",
        "bar": None if share is None else round(min(1.0, share) * BAR_WIDTH, 1),
        "bar_tone": "bad" if share is not None and share >= ATTENTION_MAILBOX_RATIO else "",
        "rate": rate(rates.get(actor["address"])),
        "handled": count(actor.get("processed")),
        "restarts": actor.get("restarts", 0),
        "children": count(actor.get("children", 0)),
    }
