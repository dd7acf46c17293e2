"""The plugin ``otel``: traces and metrics, with options from the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from papyra_contrib.otel._meters import PapyraMeters
from papyra_contrib.otel._tracing import PapyraTracing

if TYPE_CHECKING:
    from papyra.instruments import Instrument

__all__ = ["make_instruments"]


def make_instruments() -> list[Instrument]:
    """Return the instruments of the plugin: `PapyraTracing` and `PapyraMeters`.

    ``PAPYRA_OTEL_SPANS``, ``PAPYRA_OTEL_RELATION``, ``PAPYRA_OTEL_TELLS`` (``0`` or ``1``) and
    ``PAPYRA_OTEL_ROOTS`` are the options of `PapyraTracing`.
    """
    options: dict[str, Any] = {}
    for name in ("spans", "relation"):
        if text := _option(name):
            options[name] = text
    if text := _option("tells"):
        if text not in ("0", "1"):
            raise ValueError(f"PAPYRA_OTEL_TELLS must be 0 or 1, not {text!r}")
        options["tells"] = text == "1"
    if text := _option("roots"):
        options["roots"] = int(text)
    return [PapyraTracing(**options), PapyraMeters()]


def _option(name: str) -> str:
    return os.environ.get(f"PAPYRA_OTEL_{name.upper()}", "").strip()
