"""Dead letters under a `DeadLetterPolicy`: how much of each is kept in memory, stored and logged."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING

from papyra._runtime.containment.log import LOG
from papyra._runtime.containment.user_values import type_name
from papyra.persistence.payload import json_payload

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.timers import Timer
    from papyra.deadletters import DeadLetterPolicy
    from papyra.messages import DeadLetter
    from papyra.persistence.models import JSONValue

__all__ = ["DeadLetterBook"]


class DeadLetterBook:
    """The newest dead letters of one system, and how many there ever were."""

    def __init__(self, policy: DeadLetterPolicy, max_letters: int, payload_limit: int) -> None:
        self.policy = policy
        self.letters: deque[DeadLetter] = deque(maxlen=max_letters)
        self.ever = 0
        self._payload_limit = payload_limit
        self._logged = 0  # since the last pause of the log
        self._muted = 0  # in this pause
        self._pause: Timer | None = None
        self._closed = False

    def count(self, message: object) -> bool:
        """Count a dead letter. Return False if the policy suppresses it."""
        self.ever += 1
        return not issubclass(type(message), self.policy.suppress)

    def describe(self, message: object) -> tuple[str, JSONValue]:
        """Return the type and the payload to store."""
        policy = self.policy
        if policy.payload == "none":
            return "", None
        kind = type_name(type(message))
        if policy.payload == "type":
            return kind, None
        try:
            redact = policy.redact
            shown = message if redact is None else copy_context().run(redact, message)
            return kind, json_payload(shown, self._payload_limit)
        except KeyboardInterrupt as interrupt:
            LOG.contain(interrupt)
            return kind, None
        except BaseException:  # noqa: BLE001 - user code; its error may quote the message, so it is not logged either
            LOG.error("redact raised for a dead letter of type %s; its payload is not stored", kind)
            return kind, None

    def log(self, cell: Cell, message_type: str, reason: str) -> None:
        """Log a dead letter, unless the log pauses."""
        if self._logged >= self.policy.log_first:
            self._muted += 1
        else:
            self._logged += 1
            LOG.warning("dead letter (%s): %s to actor %s", reason, message_type or "a message", cell)
        if self._logged >= self.policy.log_first and self._pause is None and not self._closed:
            self._pause = cell.rt.timers.after(self.policy.mute_seconds, self._end_pause)

    def _end_pause(self) -> None:
        """Log how many dead letters were not logged, and log the next ones again."""
        self._pause = None
        self._logged = 0
        muted, self._muted = self._muted, 0
        if muted:
            LOG.warning("%d more dead letters were not logged", muted)

    def close(self) -> None:
        """End the pause: no timer is set any more."""
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._end_pause()
