"""The names of classes as facts have them: module and qualified name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra.persistence.payload import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ClassNames", "full_name"]

MAX_NAME_CHARACTERS = 500
MAX_CLASSES = 1_000
"""Names kept. A program that makes classes without end must not keep all of them alive."""

# The attributes of `type` itself: a metaclass may define others, which are user code.
_qualname: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_module: Callable[[type], object] = type.__dict__["__module__"].__get__


def full_name(kind: type) -> str:
    """Return the module and the qualified name of a class."""
    try:
        module = _module(kind)
    except AttributeError:  # deleted from the class
        module = None
    prefix = f"{module}." if type(module) is str else ""
    return clean_text(prefix + _qualname(kind), MAX_NAME_CHARACTERS)


class ClassNames:
    """The full names of the classes of one system, each made once."""

    def __init__(self) -> None:
        # By id, because a metaclass may make its classes unhashable. The class is kept, so that no other gets
        # its id.
        self.by_id: dict[int, tuple[type, str]] = {}

    def of(self, kind: type) -> str:
        """Return the full name of a class."""
        name = self.by_id.get(id(kind))
        return self._add(kind) if name is None else name[1]

    def _add(self, kind: type) -> str:
        if len(self.by_id) >= MAX_CLASSES:
            self.by_id.clear()
        name = full_name(kind)
        self.by_id[id(kind)] = kind, name
        return name
