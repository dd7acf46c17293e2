"""Asking with care.

`retry`, `CircuitBreaker` and `first_of`, on requests as `ActorRef.request` makes them.
"""

from papyra_contrib.patterns._circuit_breaker import CircuitBreaker, CircuitOpen
from papyra_contrib.patterns._first_of import first_of
from papyra_contrib.patterns._retry import retry

__all__ = ["CircuitBreaker", "CircuitOpen", "first_of", "retry"]
