"""The engine on NATS: ``nats://127.0.0.1:4222/shop``."""

from papyra_contrib.cluster.nats._transport import NatsTransport

__all__ = ["NatsTransport"]
