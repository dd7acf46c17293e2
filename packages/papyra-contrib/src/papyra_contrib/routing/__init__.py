"""One handle for many actors: pools that supervise their actors, and groups that find them by service."""

from papyra_contrib.routing._group import Group
from papyra_contrib.routing._pool import Pool, PoolFailed
from papyra_contrib.routing._router import NoRoutee
from papyra_contrib.routing._strategies import (
    Broadcast,
    ConsistentHash,
    LeastLoaded,
    Random,
    RoundRobin,
    ScatterGatherFirst,
    Strategy,
)

__all__ = [
    "Broadcast",
    "ConsistentHash",
    "Group",
    "LeastLoaded",
    "NoRoutee",
    "Pool",
    "PoolFailed",
    "Random",
    "RoundRobin",
    "ScatterGatherFirst",
    "Strategy",
]
