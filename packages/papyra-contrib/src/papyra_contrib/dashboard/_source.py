"""The interface of the sources from which the dashboard gets its numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

__all__ = ["Answer", "Source", "SourceGone", "SourceRefused"]

Answer: TypeAlias = dict[str, Any]
"""Plain data, as JSON has it; the operations of the admin socket define its fields."""


class SourceGone(Exception):
    """The system or the store does not answer; the text says why. A later look may succeed."""


class SourceRefused(Exception):
    """A question that can't be answered, as for an actor that is gone."""


class Source(ABC):
    """A running system or a record that the dashboard shows.

    ``views`` names the views that it can fill, ``actions`` the actions that it can do. Every method may
    raise `SourceGone` or `SourceRefused`.
    """

    kind: str = "live"
    views: tuple[str, ...] = ("overview", "actors", "tree", "letters", "timeline", "store", "plugins")
    actions: frozenset[str] = frozenset()

    @abstractmethod
    async def overview(self) -> Answer:
        """Return the totals, with the newest facts under ``events``."""

    @abstractmethod
    async def actors(self, *, by: str, limit: int, offset: int, find: str) -> Answer:
        """Return the actors whose name, class or number matches ``find``, in descending order of ``by``."""

    @abstractmethod
    async def tree(self, *, below: str, kind: str, limit: int, offset: int) -> Answer:
        """Return the tree as rows: below the actor ``below``, and of the class ``kind``, if given."""

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
        """Return the newest facts that match, newest first, and ``bars``: their number over time."""

    @abstractmethod
    async def store(self) -> Answer:
        """Return the store's health and its counters."""

    @abstractmethod
    async def plugins(self) -> Answer:
        """Return the installed plugins."""

    async def act(self, action: str, actor: str) -> str:
        """Do one of ``actions``, and return a short text that says what was done."""
        raise SourceRefused(f"{action} is not possible here")

    async def aclose(self) -> None:
        """Close the source."""
        return
