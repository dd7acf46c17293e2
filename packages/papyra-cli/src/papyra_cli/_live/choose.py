"""The choice of the running system that a command shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from papyra_cli._errors import Failure
from papyra_cli._exit_codes import ExitCode
from papyra_cli._live.client import is_open, live_sockets

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HOW_TO_TURN_ON", "choose_live"]

HOW_TO_TURN_ON = (
    "start the program with PAPYRA_INSTRUMENTS=admin (papyra-contrib has to be installed), or pass "
    "instruments=[AdminSocket()] to its ActorSystem"
)


def choose_live(system: str | None, pid: int | None, socket: str | None) -> Path:
    """Return the socket of the running system that the options name, or of the only one."""
    if socket is not None:
        return Path(socket)
    found = {
        path: (process, name)
        for path, (process, name) in live_sockets().items()
        if pid in (None, process) and system in (None, name)
    }
    if len(found) > 1:  # a killed process leaves its socket behind, and another one may have its pid now
        found = {path: named for path, named in found.items() if is_open(path)}
    if not found:
        wanted = "".join(
            f" {word} {value}"
            for word, value in (("named", system), ("in process", pid))
            if value is not None
        )
        raise Failure(f"no running system{wanted} of this user has an admin socket: {HOW_TO_TURN_ON}")
    if len(found) > 1:
        raise Failure(
            f"several systems run, so name one with --pid or --system: {_listing(found)}", ExitCode.USAGE
        )
    return next(iter(found))


def _listing(found: Mapping[Path, tuple[int, str]]) -> str:
    return "; ".join(f"--pid {process} --system {name}" for process, name in found.values())
