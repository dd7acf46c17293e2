"""Text of an application as a terminal or a page may show it."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return a text with every character that is not printable as a backslash escape, as the command does.

    Escaped are control characters, bidi controls and other invisible format characters, line separators, lone
    surrogates and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )
