"""Backends that tests open by URL, without an installed distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra.persistence.registry import register

if TYPE_CHECKING:
    from types import TracebackType

    from papyra.persistence.backend import PersistenceBackend

__all__ = ["Registration", "register_backend"]


class Registration:
    """A backend class that is known by its schemes until `undo`, or until its ``with`` block ends."""

    def __init__(self, kind: type[PersistenceBackend]) -> None:
        self.kind = kind
        self._undo = register(kind)

    def undo(self) -> None:
        """Forget the class; whatever had its schemes before has them again."""
        self._undo()

    def __enter__(self) -> type[PersistenceBackend]:
        return self.kind

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.undo()


def register_backend(kind: type[PersistenceBackend]) -> Registration:
    """Register a backend class for ``open_backend`` and the command, by its ``name`` and ``schemes``.

    It comes before installed plugins. Use it in a ``with`` block, or call ``undo()`` on the result. A class
    that is not a usable backend is a `PluginError`.
    """
    return Registration(kind)
