"""Notes the calls in the event loop's thread that wait for a file, a socket, a database or the clock."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

__all__ = ["blocking_calls"]

_FUNCTIONS = {
    "time": {"sleep"},
    "posix": {
        "copy_file_range", "fdatasync", "fsync", "ftruncate", "listdir", "open", "pread", "pwrite", "read", "remove",
        "rename", "replace", "scandir", "sendfile", "sync", "system", "truncate", "unlink", "waitpid", "write", "writev",
    },
    "nt": {"fsync", "listdir", "open", "read", "remove", "rename", "replace", "scandir", "system", "unlink", "write"},
    "_io": {"open", "open_code"},
    "fcntl": {"flock", "lockf"},
    "_sqlite3": {"connect"},
    "_dbm": {"open"},
    "_gdbm": {"open"},
    "_socket": {"getaddrinfo", "gethostbyname"},
    "_posixsubprocess": {"fork_exec"},
}  # fmt: skip
_METHODS = ("read", "write", "flush", "truncate", "recv", "send", "connect", "accept")
_DATABASES = {"sqlite3", "_dbm", "_gdbm"}
_IN_MEMORY = {"BytesIO", "StringIO"}
_NOT_THE_STORE = {"logging", "linecache", "warnings", "threading"}


@contextmanager
def blocking_calls() -> Generator[set[str]]:
    """Yield a set that collects the blocking calls of this thread, each with its place in the code.

    It knows the functions of the standard library, also where a driver in Python calls them. What a driver in
    C does unseen is not noted.
    """
    found: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and (name := _blocking(argument)) is not None:
            module = frame.f_globals.get("__name__", "")
            if module.partition(".")[0] not in _NOT_THE_STORE and not module.startswith("importlib"):
                found.add(f"{name} in {Path(frame.f_code.co_filename).name}:{frame.f_lineno}")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)


def _blocking(function: Any) -> str | None:
    """Return the name of a function that may wait, or None."""
    owner, name = function.__self__, function.__name__
    if isinstance(owner, ModuleType):
        return f"{owner.__name__}.{name}" if name in _FUNCTIONS.get(owner.__name__, ()) else None
    kinds = type(owner).__mro__
    if not _IN_MEMORY.isdisjoint(kind.__name__ for kind in kinds):
        return None
    for kind in kinds:
        if kind.__module__ in _DATABASES and name not in ("close", "cursor", "interrupt"):
            return f"{kind.__module__}.{kind.__name__}.{name}"
        if kind.__module__ in ("_io", "_socket"):
            waits = kind.__module__ == "_io" or owner.gettimeout() != 0
            return f"{kind.__name__}.{name}" if waits and name.startswith(_METHODS) else None
    return None
