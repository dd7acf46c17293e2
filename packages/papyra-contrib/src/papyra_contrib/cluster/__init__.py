"""Beyond one machine: the same references, asks, watches and names across processes.

Give a URL to ``ActorSystem(system_id="a", cluster="nats://127.0.0.1:4222/shop")``, or ``"memory:shop"``
without a server. The promises and their limits are on the page "Clusters" of the documentation.
"""

from papyra_contrib.cluster._cluster import Cluster
from papyra_contrib.cluster._errors import (
    ActorNameTaken,
    ClusterUnavailable,
    Conflict,
    MessageRejected,
    NodeGone,
    NodeNameTaken,
    NodeUnreachable,
    NotClustered,
    RemoteFailure,
    TransportError,
    UnknownTransport,
)
from papyra_contrib.cluster._memory import MemoryTransport
from papyra_contrib.cluster._messages import message
from papyra_contrib.cluster._registry.members import Fence, Member, NameLost
from papyra_contrib.cluster._remote.refs import LateRef, RemoteRef
from papyra_contrib.cluster._transport import Ended, Entry, Host, Lease, NodeId, Reset, Synced, Transport
from papyra_contrib.receptionist import Listing, ServiceKey

__all__ = [
    "ActorNameTaken",
    "Cluster",
    "ClusterUnavailable",
    "Conflict",
    "Ended",
    "Entry",
    "Fence",
    "Host",
    "LateRef",
    "Lease",
    "Listing",
    "Member",
    "MemoryTransport",
    "MessageRejected",
    "NameLost",
    "NodeGone",
    "NodeId",
    "NodeNameTaken",
    "NodeUnreachable",
    "NotClustered",
    "RemoteFailure",
    "RemoteRef",
    "Reset",
    "ServiceKey",
    "Synced",
    "Transport",
    "TransportError",
    "UnknownTransport",
    "message",
]
