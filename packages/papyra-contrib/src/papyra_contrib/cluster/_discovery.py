"""Find engines by URL and codecs by name, through the entry points of installed distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from papyra.exceptions import BackendURLError, PluginError, UnknownTransport
from papyra.plugins import find_plugins
from papyra_contrib.cluster._transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_contrib.cluster.codec import Codec

__all__ = ["open_codec", "open_transport"]


def open_transport(url: str, *, lease: int | None, stall: float) -> Callable[[], Transport]:
    """Return a function that makes a transport for each incarnation; the URL is read once, here."""
    scheme, colon, _ = url.partition(":")
    if not colon:
        raise BackendURLError(
            "not a cluster URL: it has no scheme; write 'nats://HOST:PORT/CLUSTER' or 'memory:CLUSTER'"
        )
    kind = _transport_class(scheme)

    def make() -> Transport:
        transport = kind.from_url(url)
        transport.configure(lease=lease, stall=stall)
        return transport

    make()  # a malformed URL or lease is an error here
    return make


def _transport_class(scheme: str) -> type[Transport]:
    if scheme == "memory":
        # Imported here, as any engine is: only the one that is used is loaded.
        from papyra_contrib.cluster._memory import MemoryTransport

        return MemoryTransport
    plugins = find_plugins("papyra.transports")
    if scheme not in plugins:
        raise UnknownTransport(scheme, {*plugins, "memory"})
    loaded = plugins[scheme].load()
    if not isinstance(loaded, type) or not issubclass(loaded, Transport):
        raise PluginError(
            f"the plugin {scheme!r} of {plugins[scheme].distribution} can't be used: {loaded!r} is not a subclass "
            "of papyra_contrib.cluster.Transport"
        )
    return loaded


def open_codec(name: str) -> Codec:
    """Return the codec with a name."""
    # Imported here because `papyra_contrib.cluster.codec` needs msgspec.
    from papyra_contrib.cluster.codec import Codec, MsgspecCodec

    if name == "msgspec":
        return MsgspecCodec()
    plugins = find_plugins("papyra.codecs")
    if name not in plugins:
        raise ValueError(f"no codec {name!r}; installed are {', '.join(sorted({*plugins, 'msgspec'}))}")
    codec: Any = cast("Any", plugins[name].load())()
    if not isinstance(codec, Codec):
        raise PluginError(
            f"the codec {name!r} can't be used: {codec!r} is not a papyra_contrib.cluster.codec.Codec"
        )
    return codec
