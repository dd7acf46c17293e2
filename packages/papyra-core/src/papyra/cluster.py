"""Where a cluster meets the runtime: what the runtime calls, and how a URL becomes a cluster.

The cluster itself is in ``papyra_contrib.cluster``; core knows only this protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from papyra._runtime.local_system import LocalSystem, Mail
from papyra._runtime.process.background import Background
from papyra.exceptions import BackendURLError, NotClustered, PluginError, UnknownTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.address import ActorAddress
    from papyra.ref import ActorRef

__all__ = [
    "Background",
    "ClusterDriver",
    "LocalSystem",
    "Mail",
    "NotClustered",
    "check_callable",
    "open_cluster",
]

GROUP = "papyra.clusters"
"""Entry points by the scheme of a URL.

Each is a function that takes the URL and returns a `ClusterDriver`.
"""


class ClusterDriver(Protocol):
    """What the runtime asks of a cluster. All of it runs on the system's event loop."""

    async def open(self, local: LocalSystem) -> None:
        """Join, before any actor exists. If it raises, nothing was started."""
        ...

    async def leave(self) -> None:
        """Withdraw services, names and singletons: the actors are about to stop."""
        ...

    async def close(self) -> None:
        """Send what is queued and end the membership: the actors have stopped."""
        ...

    def resolve(self, address: ActorAddress) -> ActorRef[Any, Any] | None:
        """Return the reference of an actor on any node.

        None if the address is not a cluster-wide one, or the actor is gone.
        """
        ...

    def watch(self, watcher: ActorRef[Any, Any], watched: object) -> bool:
        """Notify a local actor of the end of a remote one.

        False if ``watched`` is not an actor of the cluster.
        """
        ...

    def unwatch(self, watcher: ActorRef[Any, Any], watched: object) -> bool:
        """Undo `watch`."""
        ...

    def panel(self) -> dict[str, Any]:
        """Return what an operator looks at first, as plain data."""
        ...


def open_cluster(url: str) -> ClusterDriver:
    """Make the cluster that ``url`` names, as in ``"nats://127.0.0.1:4222/shop"``; nothing is opened yet.

    Raises `UnknownTransport` if nothing brings the scheme, which names what to install, and `PluginError` if
    what brings it is broken.
    """
    # Here and not above: most systems have no cluster.
    from papyra.plugins import find_plugins

    scheme, colon, _ = url.partition(":")
    if not colon:
        raise BackendURLError(
            "not a cluster URL: it has no scheme; write 'scheme:...', as in 'nats://127.0.0.1:4222/shop' or 'memory:shop'"
        )
    plugins = find_plugins(GROUP)
    if scheme not in plugins:
        raise UnknownTransport(scheme, plugins)
    loaded = plugins[scheme].load()
    check_callable(loaded)
    return cast("Callable[[str], ClusterDriver]", loaded)(url)


def check_callable(loaded: object) -> tuple[str, ...]:
    """Return the capabilities of a plugin for clusters, of which there are none.

    `PluginError` if it can't be called.
    """
    if callable(loaded):
        return ()
    problem = f"{loaded!r} is not callable"
    raise PluginError(problem) from TypeError(problem)
