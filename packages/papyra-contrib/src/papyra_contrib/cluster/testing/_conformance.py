"""Prove that an engine keeps the promises of the port."""

from __future__ import annotations

from papyra_contrib.cluster.testing._kit_frames import FramePromises
from papyra_contrib.cluster.testing._kit_leases import LeasePromises
from papyra_contrib.cluster.testing._kit_registry import RegistryPromises

__all__ = ["TransportConformance"]


class TransportConformance(FramePromises, RegistryPromises, LeasePromises):
    """Every promise of `papyra_contrib.cluster.Transport` as a test, on asyncio and on trio.

    Subclass it in a test module::

        class TestMemory(TransportConformance):
            @pytest.fixture
            def open_transport(self):
                network = MemoryNetwork(1)
                return lambda node: network.transport()

    The fixture ``open_transport`` is all that must be there. It returns a function that makes a transport for
    the node with a name, not open yet; all of them belong to one network, which is empty at first.

    Optional fixtures let more be tested. ``stop_server`` and ``start_server`` return functions that let the
    server be away and back; ``stall`` and ``unstall`` return functions that cut the node with a name off, and
    let it through again. ``patience`` is after how many seconds a test is taken to hang. The tests need
    pytest with the plugin that anyio brings.
    """
