"""Prove that an engine keeps the promises of the port."""

from __future__ import annotations

__all__ = ["TransportConformance"]


class TransportConformance:
    """Every promise of `papyra_contrib.cluster.Transport` as a test."""
