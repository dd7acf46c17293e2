"""What happens when an actor fails: strategies, restart intensity and backoff.

The words are Erlang/OTP's: a supervisor decides, restarts have an intensity (a number within some
seconds), and past it the actor stops for good.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Backoff", "GroupPolicy", "RestartStrategy", "Strategy", "SupervisionPolicy", "SupervisorDecision"]


class Strategy(StrEnum):
    """What an actor's own policy does on a failure, when its parent decided nothing."""

    STOP = "stop"
    RESTART = "restart"
    ESCALATE = "escalate"


class SupervisorDecision(StrEnum):
    """What a parent may answer in `Actor.on_child_failure`.

    ``RESTART``, ``STOP`` and ``ESCALATE`` are as in `Strategy`. ``RESUME`` keeps the instance and goes on
    with the next message; it restarts an actor whose own task is cancelled, because a task group that it has
    open has failed. ``IGNORE`` stops the child and does no more.
    """

    RESTART = "restart"
    STOP = "stop"
    ESCALATE = "escalate"
    IGNORE = "ignore"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before a restart: ``initial`` seconds, times ``factor`` each time, at most ``maximum``.

    ``jitter`` spreads the wait by up to that share of it, so that actors that failed together do not come
    back together.
    """

    initial: float
    maximum: float
    factor: float = 2.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.initial <= self.maximum < math.inf:
            raise ValueError(
                f"Backoff needs 0 <= initial <= maximum, not initial={self.initial!r}, maximum={self.maximum!r}"
            )
        if not 1 <= self.factor < math.inf:
            raise ValueError(f"Backoff needs factor >= 1, not {self.factor!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"Backoff needs 0 <= jitter <= 1, not {self.jitter!r}")

    def delay(self, restart: int, rng: random.Random | None = None) -> float:
        """Return the seconds to wait before the ``restart``-th restart in a row, counted from 1."""
        try:
            wait = min(self.maximum, self.initial * float(self.factor) ** (restart - 1))
        except OverflowError:
            wait = self.maximum if self.initial else 0.0
        spread = (rng or random).uniform(-self.jitter, self.jitter) if self.jitter else 0.0
        return max(0.0, min(self.maximum, wait * (1 + spread)))


@dataclass(frozen=True, slots=True)
class SupervisionPolicy:
    """What an actor does on a failure, unless its parent decides.

    A restart is allowed ``max_restarts`` times within ``within_seconds`` (a sliding window); one more failure
    stops the actor. ``backoff`` waits before each restart.
    """

    strategy: Strategy = Strategy.STOP
    max_restarts: int = 3
    within_seconds: float = 60.0
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, Strategy):
            raise ValueError(f"strategy must be a Strategy such as Strategy.RESTART, not {self.strategy!r}")
        _check_intensity(self)


class RestartStrategy(StrEnum):
    """Which siblings restart when one of them fails. The words are Erlang/OTP's."""

    ONE_FOR_ONE = "one_for_one"
    """The one that failed."""
    ONE_FOR_ALL = "one_for_all"
    """All of them."""
    REST_FOR_ONE = "rest_for_one"
    """The one that failed and those that were spawned after it."""


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """How the children of an actor restart together: the actor's ``children_policy``.

    The members go down one by one, newest first, and come up again one by one, oldest first, after
    ``backoff``. A member that is busy has ``grace`` seconds to get there, then what it runs is cancelled.
    More than ``max_restarts`` restarts of the group within ``within_seconds`` stop the child that failed, and
    fail the parent with the child's exception. Seconds in which the group is down do not count.
    """

    strategy: RestartStrategy = RestartStrategy.ONE_FOR_ALL
    max_restarts: int = 3
    within_seconds: float = 60.0
    backoff: Backoff | None = None
    grace: float = 5.0

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, RestartStrategy):
            raise ValueError(
                f"strategy must be a RestartStrategy such as RestartStrategy.ONE_FOR_ALL, not {self.strategy!r}"
            )
        _check_intensity(self)
        if not 0 <= self.grace < math.inf:
            raise ValueError(f"grace must be at least 0 seconds and finite, not {self.grace!r}")


def _check_intensity(policy: SupervisionPolicy | GroupPolicy) -> None:
    if not isinstance(policy.max_restarts, int) or policy.max_restarts < 0:
        raise ValueError(f"max_restarts must be a whole number of at least 0, not {policy.max_restarts!r}")
    if not policy.within_seconds > 0:
        raise ValueError(f"within_seconds must be above 0, not {policy.within_seconds!r}")
    if policy.backoff is not None and not isinstance(policy.backoff, Backoff):
        raise ValueError(f"backoff must be a Backoff such as Backoff(0.1, 5.0), not {policy.backoff!r}")


UNNAMED_POLICY = SupervisionPolicy()
"""An actor without a name and policy stops on a failure."""


class _AtOnceFirst(Backoff):
    """A backoff that begins with the second restart within the policy's window."""

    __slots__ = ()

    def delay(self, restart: int, rng: random.Random | None = None) -> float:
        """Return 0 for the first restart, and for a later one what `Backoff` has for the one before it."""
        return 0.0 if restart <= 1 else Backoff.delay(self, restart - 1, rng)


NAMED_POLICY = SupervisionPolicy(Strategy.RESTART, backoff=_AtOnceFirst(0.5, 5.0))
"""An actor with a name and without a policy restarts, 3 times in 60 seconds.

At once, after 0.5 s and after 1 s, so that an outage of a second does not use up its restarts.
"""
