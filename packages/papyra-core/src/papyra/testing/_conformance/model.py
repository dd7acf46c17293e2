"""What holds for any order of calls: a store does what a list does."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from papyra.testing._conformance.base import ConformanceBase

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.persistence.models import PersistedRecord
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["ModelPromises"]


class ModelPromises(ConformanceBase):
    """Hypothesis looks for an order of calls after which the store and a plain list differ."""

    examples: ClassVar[int] = 15
    """How many orders of calls are tried on each event loop."""

    @pytest.fixture
    def record_size(self) -> Callable[[PersistedRecord], int] | None:
        """Return a function that returns the stored bytes of a record, if they depend on the record alone.

        Then limits in bytes are tried too.
        """
        return None

    def test_any_order_of_calls_does_what_a_list_does(
        self,
        open_backend: OpenBackend,
        anyio_backend_name: str,
        record_size: Callable[[PersistedRecord], int] | None,
    ) -> None:
        pytest.importorskip(
            "hypothesis", reason="Hypothesis is not installed; install it to try orders of calls"
        )
        from papyra.testing._conformance.machine import try_orders

        try_orders(
            open_backend,
            loop=anyio_backend_name,
            durable=self.durable,
            size=record_size,
            examples=self.examples,
            patience=self.patience,
        )
