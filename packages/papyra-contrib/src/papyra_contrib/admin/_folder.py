"""The folder of the sockets, which only this user can enter."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = [
    "FolderRefused",
    "prepare_folder",
    "remove_stale",
    "reserved_path",
    "runtime_folder",
    "sockets_of_others",
]

MAX_PATH_BYTES = 100  # sun_path has 108 bytes on Linux, 104 on macOS
_NAME = re.compile(r"(\d+)-.+\.sock")

# The systems of a process may start side by side, also in threads: a path is taken before its socket exists.
_reserved: set[Path] = set()
_reserving = threading.Lock()


class FolderRefused(OSError):
    """Other users can get into the folder of the sockets."""


def runtime_folder() -> Path:
    """Return the folder of the sockets.

    It is `PAPYRA_RUNTIME_DIR` if that is set, else ``$XDG_RUNTIME_DIR/papyra`` or ``$TMPDIR/papyra-UID``.
    """
    if own := os.environ.get("PAPYRA_RUNTIME_DIR"):
        return Path(own)
    if user := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(user, "papyra")
    return Path(tempfile.gettempdir(), f"papyra-{os.getuid()}")


def prepare_folder(folder: Path) -> None:
    """Make the folder. Refuse one that another user owns or can enter, and a link."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise FolderRefused(
            f"{folder} is not a folder but {_kind(status.st_mode)}. Remove it, or set PAPYRA_RUNTIME_DIR."
        )
    if status.st_uid != os.getuid():
        raise FolderRefused(
            f"{folder} belongs to the user with the id {status.st_uid}, not to this one ({os.getuid()}). "
            "Set PAPYRA_RUNTIME_DIR to a folder of this user."
        )
    if status.st_mode & 0o077:
        raise FolderRefused(f"{folder} can be entered by other users. Run chmod 700 on it.")


def _kind(mode: int) -> str:
    return "a symbolic link" if stat.S_ISLNK(mode) else "another kind of file"


@contextmanager
def reserved_path(folder: Path, system_id: str) -> Generator[Path]:
    """Reserve a path for a socket, and remove the socket at the end.

    A long system id is cut.
    """
    room = MAX_PATH_BYTES - len(os.fsencode(folder / f"{os.getpid()}-.sock")) - len("-99")
    if room < 1:
        raise FolderRefused(
            f"the path {folder} is too long for a socket. Set PAPYRA_RUNTIME_DIR to a shorter one."
        )
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", system_id)[:room]
    with _reserving:
        path = _free_path(folder, safe)
        _reserved.add(path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        _reserved.discard(path)


def _free_path(folder: Path, name: str) -> Path:
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        path = folder / f"{os.getpid()}-{name}{suffix}.sock"
        if path not in _reserved and not path.exists():
            return path
    raise FolderRefused(f"{folder} has too many sockets of this process")


def remove_stale(folder: Path) -> None:
    """Remove the sockets of processes that have ended, also of one that had the pid of this process.

    In a container a process has the same pid at each start.
    """
    for path, pid in _sockets(folder):
        if not _is_alive(pid) or (pid == os.getpid() and path not in _reserved and _is_refused(path)):
            path.unlink(missing_ok=True)


def _is_refused(path: Path) -> bool:
    """Return whether nobody listens: a process of another container may have this pid, too."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


def sockets_of_others(own: frozenset[Path]) -> list[Path]:
    """Return the sockets of this user's living processes, without those in ``own``."""
    try:
        sockets = sorted(_sockets(runtime_folder()))
    except OSError:  # no system of this user has opened a socket, or this user may not read the folder
        return []
    return [path for path, pid in sockets if path not in own and _is_alive(pid)]


def _sockets(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the sockets in the folder, with the ids of their processes."""
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is not None:
            yield path, int(match[1])


def _is_alive(pid: int) -> bool:
    """Return whether a process lives. True also if this user may not know."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True  # another user's process, or not a process id: keep the socket
    return True
