"""The reason why an actor has stopped, as the errors of later senders show it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from papyra._runtime.containment.user_values import bounded_text, type_name

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell

__all__ = ["EndReason", "why_stopped"]

MAX_TEXT_CHARACTERS = 300
"""Characters of a failure's text that these errors repeat."""

MAX_WORD_CHARACTERS = 40
"""A text is cut within its last word only if that word is longer."""

_FAILED = ("failed", "restart_limit")


class EndReason(str):
    """The reason of a stop after a failure. ``text`` has the time and the failure's text."""

    __slots__ = ("text",)
    text: str

    @classmethod
    def of(cls, cell: Cell, now: float) -> EndReason:
        """Return the reason of a cell that ends now, at a Unix time."""
        reason = cls(cell.reason)
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
        reason.text = f" at {at} UTC{why_stopped(cell)}"
        return reason


def why_stopped(cell: Cell) -> str:
    """Return the reason in brackets, as in ``" (failed: ValueError: no luck)"``."""
    reason = cell.reason
    if type(reason) is EndReason:
        return reason.text
    if cell.failure is None or reason not in _FAILED:
        return f" ({reason})"
    kind, text = type_name(type(cell.failure)), _shortened(bounded_text(cell.failure, MAX_TEXT_CHARACTERS))
    return f" ({reason}: {kind}: {text})" if text else f" ({reason}: {kind})"


def _shortened(text: str) -> str:
    """Cut a text that is too long after a word, and say where the whole text is."""
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    kept = text[:MAX_TEXT_CHARACTERS]
    words = kept.rpartition(" ")[0]
    if len(kept) - len(words) <= MAX_WORD_CHARACTERS:
        kept = words
    return f"{kept} ... (the log has all of it)"
