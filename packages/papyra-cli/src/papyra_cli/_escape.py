"""Make text of unknown origin harmless: payloads, names and paths may hold whatever someone sent."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return ``text`` with all that is not printable as a backslash escape, always one line.

    Escaped are control characters (ESC, C1, newlines, tabs), bidi controls and other invisible format
    characters, line separators, lone surrogates and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    # unicode_escape knows \n, \t, \r; of the rest it makes \x.., \u.... or \U........
    return char.encode("unicode_escape").decode("ascii")
