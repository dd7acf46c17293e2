"""Prove that an engine keeps the promises of `papyra_contrib.cluster.Transport`."""

from __future__ import annotations

from papyra_contrib.cluster.testing._conformance.frames import FramePromises
from papyra_contrib.cluster.testing._conformance.leases import LeasePromises
from papyra_contrib.cluster.testing._conformance.registry import RegistryPromises

__all__ = ["TransportConformance"]


class TransportConformance(FramePromises, RegistryPromises, LeasePromises):
    """Every promise of `papyra_contrib.cluster.Transport` as a test, on asyncio and on trio.

    Subclass it in a test module::

        class TestMemory(TransportConformance):
            @pytest.fixture
            def open_transport(self):
                network = MemoryNetwork(1)
                return lambda node: network.transport()

    Only the fixture ``open_transport`` is required. It returns a function that makes an unopened transport
    for a node, given its name. All of them belong to one network, which is empty at first.

    Optional fixtures enable more tests. ``stop_server`` and ``start_server`` return functions that stop and
    start the server; ``stall`` and ``unstall`` return functions that cut a node off, given its name, and
    reconnect it. A test that takes longer than ``patience`` seconds counts as hanging. The tests need pytest
    with the plugin that anyio brings.
    """
