"""What a subclass of `papyra.testing.BackendConformance` says about its store."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import anyio
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from contextlib import AbstractContextManager

    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.retention import RetentionPolicy
    from papyra.testing.wire import Wire

__all__ = ["ConformanceBase", "OpenBackend"]


class OpenBackend(Protocol):
    """Open the store of the running test; each call returns a backend of its own."""

    def __call__(self, retention_policy: RetentionPolicy | None = None) -> PersistenceBackend:
        """Open it with a policy; without one it keeps everything, or at least 1,000 records of any age."""
        ...


class ConformanceBase:
    """The protocol between the tests and the store under test."""

    pytestmark = pytest.mark.anyio

    durable: ClassVar[bool] = False
    """Whether what was recorded is there again after `aclose` and another ``open_backend()``."""

    shared: ClassVar[bool] = False
    """Whether several backends may have the store open at once, all reading and writing."""

    keeps_batch_ids: ClassVar[bool] = False
    """Whether a batch that is offered again with its ``batch_id`` is stored once.

    A store on a server must.
    """

    smoke_records: ClassVar[int] = 0
    """How many records the smoke test of a large store writes.

    0 leaves it out, 1,000,000 is what it is meant for.
    """

    patience: ClassVar[float] = 30.0
    """After how many seconds a test is taken to hang; the smoke test has as long as it needs."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """Run each test on asyncio and, where it is installed, on trio. Overrides a fixture of a conftest."""
        name = str(request.param)
        if name == "trio":
            pytest.importorskip("trio", reason="trio is not installed; install it to test the backend on it")
        return name

    @pytest.fixture
    def open_backend(self) -> OpenBackend:
        """Give the tests a store: override this."""
        pytest.fail(
            f"{type(self).__name__} must define the fixture open_backend, which returns a function "
            "open(retention_policy=None) that opens the store; see the docstring of BackendConformance"
        )

    @pytest.fixture
    def backend_url(self) -> str:
        """Name an empty store as a URL without options; ``""`` means the scheme alone, as in ``memory:``."""
        return ""

    @pytest.fixture
    def damage_store(self) -> Callable[[], object] | None:
        """Return a function that spoils the closed store of the running test, so that a scan finds it.

        What was recorded must stay as it is. If the function returns the damaged bytes, or a list of them,
        all of them must be in the quarantine. None means that the store can't be damaged easily.
        """
        return None

    @pytest.fixture
    def fill_store(self) -> Callable[[], AbstractContextManager[object]] | None:
        """Return a function that makes a context in which the store has no room for a batch of 200 KB.

        The store is open and has a record. `papyra.testing.full_disk` makes one for a store in files.
        """
        return None

    @pytest.fixture
    def read_quarantine(self) -> Callable[[Sequence[str]], bytes]:
        """Return a function that reads what went to the quarantine, given its names in a report.

        By default they are files. A store on a server overrides this.
        """
        return lambda names: b"".join(Path(name).read_bytes() for name in names)

    @pytest.fixture
    def restart_store(self) -> Callable[[], object] | None:
        """Return a function that kills the store's server and starts it again.

        It is called in a worker thread.
        """
        return None

    @pytest.fixture
    def wire(self) -> Wire | None:
        """Return a `papyra.testing.Wire` through which the backends of ``open_backend`` reach the server."""
        return None

    @pytest.fixture
    def cut_wire(self, wire: Wire | None) -> Callable[[], object] | None:
        """Return a function that cuts every connection to the server, so that answers on their way are lost.

        New connections work at once. It is called in a worker thread, in the midst of writes. By default the
        ``wire`` does it.
        """
        return None if wire is None else wire.cut

    @pytest.fixture
    def stall_store(self, wire: Wire | None) -> Callable[[], AbstractContextManager[object]] | None:
        """Return a function that makes a context in which the server takes connections and answers nothing.

        Open the backend of the tests with a timeout well below `patience`. By default the ``wire`` does it.
        """
        return None if wire is None else wire.stall

    @asynccontextmanager
    async def using(self, backend: PersistenceBackend) -> AsyncGenerator[PersistenceBackend]:
        """Close ``backend`` in the end; what does not end within `patience` is a `TimeoutError`."""
        try:
            with anyio.fail_after(self.patience):
                yield backend
        finally:
            with anyio.fail_after(self.patience):
                await backend.aclose()
