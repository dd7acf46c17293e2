"""Extras for Papyra."""
