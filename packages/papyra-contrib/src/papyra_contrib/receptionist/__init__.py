"""Find actors by the service they offer.

``Receptionist.of(system)`` works in one system and in a cluster.
"""

from papyra_contrib.receptionist._key import Listing, ServiceKey
from papyra_contrib.receptionist._receptionist import LocalReceptionist, Receptionist

__all__ = ["Listing", "LocalReceptionist", "Receptionist", "ServiceKey"]
