"""How far long work on a store has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[int, int], object]
"""Called as ``progress(done, total)``. Both are stored bytes, or records if a store has no notion of bytes.

``done`` never goes down and ends at ``total``, which may grow while others append. It may be called from a
worker thread, many times a second, and must return at once. What it raises ends the work, which leaves the
store whole, and comes out of the call.
"""
