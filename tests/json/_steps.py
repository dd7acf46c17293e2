"""Let something happen at one of the calls of `os` by which work changes the disk."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable, Collection

CHANGING = (
    "open",
    "write",
    "fsync",
    "ftruncate",
    "unlink",
    "rename",
    "replace",
    "mkdir",
    "rmdir",
    "fchmod",
    "link",
)
READING = ("pread", "fstat", "listdir")
OPENING = ("open", "pread", "listdir")


class Steps:
    """Count the calls; at that with the number ``at`` (and, with ``on``, at all later ones) something
    happens.

    A write counts twice: at the first step it does not begin, at the second one half of it is done. Of the
    opens, those count that may make a file, with ``READING`` all.
    """

    def __init__(
        self,
        patch: Callable[[object, str, object], None],
        names: Collection[str],
        at: int,
        happen: Callable[[str], None],
        *,
        on: bool = False,
    ) -> None:
        self._names = names
        self._left = at
        self._happen = happen
        self._on = on
        for name in names:
            patch(os, name, self._watched(name, getattr(os, name)))
        if "write" in names:
            patch(fcntl, "flock", self._watched("flock", fcntl.flock))

    @property
    def reached(self) -> bool:
        return self._left < 0

    def _watched(self, name, real):
        def call(*arguments, **keywords):
            what = "create" if name == "open" and arguments[1] & os.O_CREAT else name
            if what == "write":
                self._step(what)
                if self._is_now(1):
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if what != "open" or "pread" in self._names:
                self._step(what)
            return real(*arguments, **keywords)

        return call

    def _is_now(self, ahead: int = 0) -> bool:
        return self._left == ahead - 1 or (self._on and self._left < ahead)

    def _step(self, name: str) -> None:
        self._left -= 1
        if self._is_now():
            self._happen(name)


def die(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _error(code: int, name: str) -> OSError:
    return OSError(code, f"{os.strerror(code)} (by the test, in {name})")


def fail(name: str) -> None:
    raise _error(errno.EIO, name)


def find_no_room(name: str) -> None:
    if name in ("create", "write", "mkdir", "rename", "replace"):
        raise _error(errno.ENOSPC, name)


def find_no_descriptor(name: str) -> None:
    if name != "pread":
        raise _error(errno.EMFILE, name)
