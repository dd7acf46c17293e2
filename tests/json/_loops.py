"""The event loops of long tests of files: what they test goes on in a thread or in other processes."""

from __future__ import annotations

import pytest

one_loop = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.sweep)]
)
"""Run a test on asyncio, and in a sweep on trio too."""
