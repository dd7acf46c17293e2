"""Make text of unknown origin harmless: payloads, names and paths may hold any characters."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return ``text`` in one line, with every character that is not printable as a backslash escape.

    Escaped are control characters (ESC, C1, newlines, tabs), bidi controls and other invisible format
    characters, line separators, lone surrogates and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    # unicode_escape writes \n, \t, \r, and other characters as \x.., \u.... or \U........
    return char.encode("unicode_escape").decode("ascii")
