"""Scopes that user code leaves open in a task of the runtime.

Code that enters a cancel scope or a task group without leaving it changes its task: a scope around it can't
be left any more, and trio ends the whole run. So the runtime closes what is open when the code ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from papyra._runtime.containment.user_values import is_a

if TYPE_CHECKING:
    from types import TracebackType

    from papyra._runtime._eventloop import Loop

__all__ = ["ScopeGuard"]


class ScopeGuard:
    """Runs user code in the current task: ``with ScopeGuard(loop, "the hook")``.

    Raises `RuntimeError` if the code leaves a scope open, also if it is that scope that cancels it.
    ``spoilt`` says so afterwards.
    """

    __slots__ = ("_floor", "_scopes", "_what", "spoilt")

    def __init__(self, loop: Loop, what: str) -> None:
        self._what = what
        self._scopes = loop.scopes()
        self._floor = self._scopes.cancel_scope
        self.spoilt = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._scopes.cancel_scope is self._floor:
            return
        self.spoilt = True
        self._scopes.close_down_to(self._floor)
        if error is None or (
            is_a(error, anyio.get_cancelled_exc_class()) and not self._scopes.is_cancelled(self._floor)
        ):
            raise RuntimeError(
                f"{self._what} left a cancel scope or a task group open. "
                "Leave it in the function that enters it, as with `async with`"
            ) from error
