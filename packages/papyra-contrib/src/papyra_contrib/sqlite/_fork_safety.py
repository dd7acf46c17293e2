"""Keep a forked child from inheriting an open database.

SQLite counts the locks of a process itself, and POSIX hands none of them to a child. A child that inherited
an open database would work without any lock, even if it opened the database again. So each store closes its
database during a fork. If it can't, because another thread is working with it, the child is refused to open
that database.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import TYPE_CHECKING, Protocol

from papyra.exceptions import PersistenceError

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["forget", "forks_with", "refuse_if_taken_along", "taken_along"]

_taken_along: set[Path] = set()


class Forks(Protocol):
    """An object that is called around forks, always in the thread that forks."""

    def before_fork(self) -> None:
        """Release everything that a child must not inherit."""

    def after_fork(self) -> None:
        """Continue, in the parent."""

    def in_child(self) -> bool:
        """Let go of inherited resources; return whether the child may use this object."""
        ...


_forking: list[Forks] = []
_all: weakref.WeakSet[Forks] = weakref.WeakSet()


def forks_with(store: Forks) -> None:
    """Call ``one`` around every fork from now on, for as long as it lives."""
    _all.add(store)


def taken_along(path: Path) -> None:
    """Note, in a child, that the database at ``path`` was in use during the fork."""
    _taken_along.add(path)


def refuse_if_taken_along(path: Path) -> None:
    """Raise if this process inherited the database at ``path`` while it was in use."""
    if path in _taken_along:
        raise PersistenceError(
            f"{path} was being read or written when this process was forked, so it can't be opened here. "
            "Fork before the store is used, or start a new process (multiprocessing's 'spawn')."
        )


def forget(connection: sqlite3.Connection) -> None:
    """Never close an inherited connection, because that could undo later writes of other processes."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _before() -> None:
    _forking[:] = _all
    for store in _forking:
        store.before_fork()


def _in_parent() -> None:
    while _forking:
        _forking.pop().after_fork()


def _in_child() -> None:
    while _forking:
        store = _forking.pop()
        if not store.in_child():
            _all.discard(store)


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
