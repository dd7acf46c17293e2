"""Run an actor system with an ASGI application: start and close, health endpoints, metrics.

The adapters for frameworks are modules of their own: ``papyra_contrib.asgi.starlette``, ``fastapi``,
``litestar``, ``lilya`` and ``ravyn``.
"""

from papyra_contrib.asgi._config import PapyraASGIConfig
from papyra_contrib.asgi._endpoints import healthz, livez, metrics, readyz
from papyra_contrib.asgi._health import Check
from papyra_contrib.asgi._lifecycle import compose, papyra_lifecycle
from papyra_contrib.asgi._papyra import ASGIPapyra
from papyra_contrib.asgi._scope import system_of

__all__ = [
    "ASGIPapyra",
    "Check",
    "PapyraASGIConfig",
    "compose",
    "healthz",
    "livez",
    "metrics",
    "papyra_lifecycle",
    "readyz",
    "system_of",
]
