"""Calling the factories that users give to spawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra.actor import Actor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["build"]


def build(factory: Callable[[], Any]) -> Actor:
    """Call a factory; what it returns must be an actor nobody else has."""
    if not callable(factory):
        hint = " (give the class or a function, not an instance)" if isinstance(factory, Actor) else ""
        raise TypeError(
            f"spawn() needs an Actor subclass or a function that returns an Actor, not {factory!r}{hint}"
        )
    actor = factory()
    if not isinstance(actor, Actor):
        close_coroutine = getattr(actor, "close", None)
        if hasattr(actor, "__await__") and callable(close_coroutine):
            close_coroutine()
        raise TypeError(
            f"spawn() needs an Actor subclass or a function that returns an Actor; {factory!r} returned {actor!r}"
        )
    if actor._papyra_cell is not None:
        raise ValueError(
            f"{factory!r} returned an actor that was spawned already; each spawn needs a new instance"
        )
    return actor
