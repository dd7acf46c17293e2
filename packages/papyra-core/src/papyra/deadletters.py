"""The policy on dead letters: how much of a message is stored and logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.settings import Settings

__all__ = ["DeadLetterPolicy"]

_PAYLOADS = ("full", "type", "none")


@dataclass(frozen=True, slots=True)
class DeadLetterPolicy:
    """How much of a message that was not handled is stored and logged.

    ``payload`` is ``full`` (the message as JSON, or its ``repr``), ``type`` (the name of its type and nothing
    of its value) or ``none`` (neither). ``redact`` is called with the message and returns the payload to
    store in its place; if it raises, only the name of the type is stored. Messages whose type is in
    ``suppress``, or derived from one of these, are counted and nothing else.

    A log line names the target and, unless ``payload`` is ``none``, the type; it never holds the message.
    ``log_first`` dead letters are logged, then none for ``mute_seconds``, then how many there were, and so
    on.

    A hook always gets the message itself. The ``repr`` of what it gets does not show it.
    """

    payload: Literal["full", "type", "none"] = "full"
    redact: Callable[[object], object] | None = None
    suppress: tuple[type, ...] = ()
    log_first: int = 10
    mute_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.payload not in _PAYLOADS:
            raise ValueError(f"payload is one of {', '.join(_PAYLOADS)}, not {self.payload!r}")
        if self.redact is not None and not callable(self.redact):
            raise TypeError(f"redact must be a function of the message, not {self.redact!r}")
        object.__setattr__(self, "suppress", tuple(self.suppress))
        for kind in self.suppress:
            if not isinstance(kind, type):
                raise TypeError(f"suppress takes types of messages, as in (Tick,), not {kind!r}")
        if type(self.log_first) is not int or self.log_first < 0:
            raise ValueError(f"log_first must be a whole number of at least 0, not {self.log_first!r}")
        if not 0 <= self.mute_seconds < float("inf"):
            raise ValueError(f"mute_seconds must be at least 0 seconds, not {self.mute_seconds!r}")


def policy_of(given: DeadLetterPolicy | None, settings: Settings) -> DeadLetterPolicy:
    """Return the policy that a system was given, or that of its settings."""
    if given is None:
        return DeadLetterPolicy(
            payload=settings.dead_letter_payload,
            log_first=settings.dead_letter_log_first,
            mute_seconds=settings.dead_letter_mute_seconds,
        )
    if not isinstance(given, DeadLetterPolicy):
        raise TypeError(
            f"dead_letter_policy must be a DeadLetterPolicy, as in DeadLetterPolicy(payload='type'), not {given!r}"
        )
    return given
