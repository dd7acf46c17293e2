"""Where an actor can be found: a system's name and a number in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ActorAddress"]

_FORM = re.compile(
    r"(?P<system>[^:/\s]+):(?://)?(?P<id>[0-9]+)"
)  # [0-9]: int() would take any script's digits


@dataclass(frozen=True, slots=True)
class ActorAddress:
    """The address of an actor: ``system`` names its actor system, ``actor_id`` is its number there.

    Numbers start at 1 and are never used twice in one system. ``str(address)`` is ``"system:id"``.
    """

    system: str
    actor_id: int

    def __str__(self) -> str:
        return f"{self.system}:{self.actor_id}"

    @classmethod
    def parse(cls, text: str) -> ActorAddress:
        """Read ``"system:id"`` or ``"system://id"``.

        Anything else is a `ValueError` that says what was wrong.
        """
        if not isinstance(text, str):
            raise ValueError(
                f"an actor address is a string such as 'local:1', not {type(text).__name__}: {text!r}"
            )
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(
                f"not an actor address: {text!r} {_complaint(text)} (expected 'system:id', as in 'local:1')"
            )
        return cls(match["system"], int(match["id"]))

    def to_dict(self) -> dict[str, str | int]:
        """Return ``{"system": str, "actor_id": int}``, ready for JSON."""
        return {"system": self.system, "actor_id": self.actor_id}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> ActorAddress:
        """Read what `to_dict` returns; a missing, unknown or ill-typed key is a `ValueError`."""
        system, actor_id = data.get("system"), data.get("actor_id")
        if set(data) != {"system", "actor_id"}:
            raise ValueError(
                f"an actor address has the keys 'system' and 'actor_id', not {sorted(map(str, data))}"
            )
        if not isinstance(system, str):
            raise ValueError(f"'system' of an actor address is a string, not {system!r}")
        if not isinstance(actor_id, int) or isinstance(actor_id, bool):
            raise ValueError(f"'actor_id' of an actor address is an int, not {actor_id!r}")
        return cls(system, actor_id)


def _complaint(text: str) -> str:
    system, colon, number = text.partition(":")
    if not colon:
        return "has no ':'"
    if not system:
        return "names no system before the ':'"
    if not number.removeprefix("//"):
        return "has no number after the ':'"
    if not (number.isascii() and number.removeprefix("//").isdecimal()):
        return f"has {number.removeprefix('//')!r} where the number belongs"
    return "names a system with a '/', ':' or white space in it"
