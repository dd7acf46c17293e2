"""A hard limit for each test, as for the runtime's, and a few actors that all tests use."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside the tests: _world.py, _processes.py


@pytest.fixture(autouse=True)
def _limited(hard_limit: None) -> None:
    """Every test has a hard limit."""


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Name the event loop of a test in simulated time."""
    return str(request.param)


@pytest.fixture
def world():
    """Return what starts servers, proxies and nodes in processes, and ends them."""
    from _processes import World

    made = World()
    yield made
    made.close()


@pytest.fixture(scope="session")
def nats_server():
    """Return a server for tests that leave it alone; each uses a cluster name of its own."""
    from _processes import Server

    server = Server()
    server.start()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _collect_sockets_of_the_client(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what nats-py leaves of a connection that broke during its handshake, here and not in a later
    test.
    """
    yield
    if {"world", "nats_server", "kit_server"} & set(request.fixturenames):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
