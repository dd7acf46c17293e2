"""The event loops of long tests to which they are all one: work goes on in a thread or in other processes."""

from __future__ import annotations

import pytest

one_loop = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.sweep)]
)
"""Run a test on asyncio, and in a sweep on trio too."""
