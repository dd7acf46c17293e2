"""The record of an actor system in a Redis stream: ``redis://localhost:6379/0?stream=papyra:facts``."""

from papyra_contrib.redis._backend import RedisPersistence
from papyra_contrib.redis._groups import Delivery, PendingDelivery
from papyra_contrib.redis._published import RedisStreamsConfig, RedisStreamsPersistence

__all__ = [
    "Delivery",
    "PendingDelivery",
    "RedisPersistence",
    "RedisStreamsConfig",
    "RedisStreamsPersistence",
]
