"""The restarts of one actor that its policy counts."""

from __future__ import annotations

from collections import deque

__all__ = ["RestartWindow"]


class RestartWindow(deque[float]):
    """The times of the restarts that are within the policy's window.

    ``delay`` is the backoff of the last, in seconds.
    """

    __slots__ = ("delay",)

    def __init__(self) -> None:
        super().__init__()
        self.delay = 0.0
