"""Stop asking an actor that keeps failing, until some time has passed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import anyio

from papyra import PapyraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra import ActorSystem, Request

__all__ = ["CircuitBreaker", "CircuitOpen"]

R = TypeVar("R")


class CircuitOpen(PapyraError):
    """The breaker is open: the call was not made. ``retry_after`` is in seconds."""

    def __init__(self, retry_after: float = 0.0) -> None:
        super().__init__(
            f"the circuit breaker is open after repeated failures, so nothing was asked. Try again in {retry_after:.3g} s."
        )
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[CircuitOpen], tuple[float]]:
        return type(self), (self.retry_after,)


class CircuitBreaker:
    """Fails at once while what it protects keeps failing; the pattern is Nygard's ("Release It!").

    After ``max_failures`` failures in a row it is open: calls raise `CircuitOpen`. After ``reset_timeout``
    seconds, on the system's clock, it is half open: exactly one call goes through, and its outcome closes or
    opens it again. A call that takes longer than ``call_timeout`` seconds raises `TimeoutError` and is a
    failure. ``counts`` says which exceptions are failures; by default all of them. An exception that is not a
    failure closes the breaker, because the actor has answered.
    """

    def __init__(
        self,
        system: ActorSystem,
        *,
        max_failures: int = 5,
        call_timeout: float | None = None,
        reset_timeout: float = 30.0,
        counts: Callable[[Exception], bool] | None = None,
    ) -> None:
        if max_failures < 1:
            raise ValueError(f"max_failures must be at least 1, not {max_failures!r}")
        if call_timeout is not None and not call_timeout > 0:
            raise ValueError(f"call_timeout must be more than 0 seconds or None, not {call_timeout!r}")
        if not reset_timeout > 0:
            raise ValueError(f"reset_timeout must be more than 0 seconds, not {reset_timeout!r}")
        self._system = system
        self._max_failures = max_failures
        self._call_timeout = call_timeout
        self._reset_timeout = reset_timeout
        self._counts = counts
        self._failures = 0
        self._probe_at: float | None = None  # when it is open: the time of the next probe
        self._is_probing = False

    @property
    def state(self) -> str:
        """``"closed"``, ``"open"`` or ``"half-open"``."""
        if self._probe_at is None:
            return "closed"
        if self._is_probing or self._system.monotonic() >= self._probe_at:
            return "half-open"
        return "open"

    async def call(self, request: Request[R]) -> R:
        """Ask ``request``, or raise `CircuitOpen` at once."""
        is_probe = self._admit()
        try:
            with anyio.fail_after(math.inf if self._call_timeout is None else self._call_timeout):
                reply = await request
        except Exception as error:
            if self._counts is None or issubclass(type(error), TimeoutError) or self._counts(error):
                self._fail(is_probe)
            else:
                self._succeed(is_probe)
            raise
        except BaseException:  # a cancellation: a probe that did not end counts as a failure
            if is_probe:
                self._fail(is_probe)
            raise
        self._succeed(is_probe)
        return reply

    def _admit(self) -> bool:
        """Return whether this call is the probe of a half-open breaker."""
        if self._probe_at is None:
            return False
        wait = self._probe_at - self._system.monotonic()
        if wait > 0 or self._is_probing:
            raise CircuitOpen(max(0.0, wait))
        self._is_probing = True
        return True

    def _fail(self, is_probe: bool) -> None:
        if is_probe:
            self._is_probing = False
        elif self._probe_at is not None:
            return  # a call from before it opened
        self._failures += 1
        if is_probe or self._failures >= self._max_failures:
            self._probe_at = self._system.monotonic() + self._reset_timeout

    def _succeed(self, is_probe: bool) -> None:
        if is_probe:
            self._is_probing = False
            self._probe_at = None
        if self._probe_at is None:
            self._failures = 0
