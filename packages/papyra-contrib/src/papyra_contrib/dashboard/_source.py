"""Where the dashboard gets its numbers from: one interface, whatever is behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

__all__ = ["Answer", "Source", "SourceGone", "SourceRefused"]

Answer: TypeAlias = dict[str, Any]
"""Plain data, as JSON has it; the operations of the admin socket define its fields."""


class SourceGone(Exception):
    """The system or the store does not answer now; its text says why. Another look may succeed."""


class SourceRefused(Exception):
    """A question that can't be answered, as for an actor that is gone."""


class Source(ABC):
    """A running system or a record, as the dashboard asks it.

    ``views`` names the views that it has something to say for, ``actions`` what it can do. Every method may
    raise `SourceGone` or `SourceRefused`.
    """

    kind: str = "live"
    views: tuple[str, ...] = ("overview", "actors", "tree", "letters", "timeline", "store", "plugins")
    actions: frozenset[str] = frozenset()

    @abstractmethod
    async def overview(self) -> Answer:
        """Return the whole in numbers, with the newest facts under ``events``."""

    @abstractmethod
    async def actors(self, *, by: str, limit: int, offset: int, find: str) -> Answer:
        """Return actors, most first, whose name, class or number fits ``find``."""

    @abstractmethod
    async def tree(self, *, below: str, kind: str, limit: int, offset: int) -> Answer:
        """Return the tree as rows; with ``below`` or ``kind``, the children of one actor that have a type."""

    @abstractmethod
    async def actor(self, actor: str) -> Answer:
        """Return one actor, by its address or name, with its newest facts and dead letters."""

    @abstractmethod
    async def letters(self, *, limit: int, offset: int) -> Answer:
        """Return the newest dead letters, newest first."""

    @abstractmethod
    async def events(
        self, *, limit: int, offset: int, kind: str, actor: str, since: float | None, until: float | None
    ) -> Answer:
        """Return the newest facts that match, newest first, and ``bars``: how many there were over time."""

    @abstractmethod
    async def store(self) -> Answer:
        """Return the store's health and its counters."""

    @abstractmethod
    async def plugins(self) -> Answer:
        """Return the installed plugins."""

    async def act(self, action: str, actor: str) -> str:
        """Do one of ``actions``, and return what was done in a few words."""
        raise SourceRefused(f"{action} is not possible here")

    async def aclose(self) -> None:
        """Leave."""
        return
