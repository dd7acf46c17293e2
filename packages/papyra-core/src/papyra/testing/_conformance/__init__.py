"""The tests behind `papyra.testing.BackendConformance`, one file per kind of promise."""

from __future__ import annotations

from pkgutil import iter_modules

import pytest

# So that a check that fails shows what it compared, as in a test module of one's own.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))
