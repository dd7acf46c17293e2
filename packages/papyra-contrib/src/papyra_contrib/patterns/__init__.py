"""Ask with care: try again, stop asking an actor that keeps failing, or take the first of several replies.

They are `retry`, `CircuitBreaker` and `first_of`, on requests as `ActorRef.request` makes them.
"""

from papyra_contrib.patterns._circuit_breaker import CircuitBreaker, CircuitOpen
from papyra_contrib.patterns._first_of import first_of
from papyra_contrib.patterns._retry import retry

__all__ = ["CircuitBreaker", "CircuitOpen", "first_of", "retry"]
